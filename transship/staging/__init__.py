"""Staging: this host's directory for images during their import."""
