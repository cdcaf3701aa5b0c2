"""The keeper: the process that dispatches imports to Prefect and repairs what Prefect lost."""

from typing import Final

KEEPER_READY: Final = "Keeper is ready"
"""Line that a keeper prints when it has its settings and the catalogue."""
