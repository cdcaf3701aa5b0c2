"""Settings from Glance's configuration files: supported options, their meaning, and the source of each value."""
