"""Staging: the directory of this host that holds images during their import."""
