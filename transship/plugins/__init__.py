"""Import plugins: the contract, the registry and the built-in plugins."""
