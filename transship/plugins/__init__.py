"""Import plugins: the contract, the registry and the four that come with Transship."""
