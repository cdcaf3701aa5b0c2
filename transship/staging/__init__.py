"""Staging: the directory of this host in which images lie while they are imported."""
