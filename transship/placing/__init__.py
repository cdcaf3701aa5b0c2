"""The only code that writes, verifies, takes back or forgets copies of images in stores."""
