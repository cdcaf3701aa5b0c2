"""Keystone: who calls, and who we are there ourselves."""
