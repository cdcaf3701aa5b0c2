"""Settings: what an operator may choose, where each value came from, and why one was refused."""
