"""Copies of images in stores: the only code that writes, verifies, takes back or forgets one."""
