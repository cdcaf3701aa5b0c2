"""Settings from the files of a Glance: which options count, what they mean, where a value came from."""
