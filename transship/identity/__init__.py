"""Keystone: validating callers' tokens, and the service's own login."""
