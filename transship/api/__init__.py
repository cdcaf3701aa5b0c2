"""The Images API v2: what clients of Glance speak. It imports neither Prefect nor flows."""

from typing import Final

API_READY: Final = "Images API is ready"
"""Line with which an API process says that it takes requests."""
