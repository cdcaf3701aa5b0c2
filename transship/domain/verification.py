"""How thoroughly a copy is verified after it was written."""

from __future__ import annotations

from enum import StrEnum


class Verification(StrEnum):
    """What is read back of a new copy."""

    NONE = "none"
    SAMPLE = "sample"
    FULL = "full"
