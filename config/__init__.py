"""Settings: all options, the source of each value, and why a value was refused."""
