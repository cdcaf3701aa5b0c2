"""The Images API v2, for Glance's clients. It imports neither Prefect nor flows."""

from typing import Final

API_READY: Final = "Images API is ready"
"""Line that an API process prints when it accepts requests."""
