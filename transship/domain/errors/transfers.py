"""The root of what the operator or time mends, and ends that come from outside."""

from __future__ import annotations

from typing import ClassVar

from transship.domain.errors.base import TransshipError


class TransferFailed(TransshipError):
    """An import could not be carried through.

    Attributes:
        retryable: True when the same attempt may succeed some seconds later.
        blames_data: True when the data themselves are at fault, or gone: keeping them helps nobody.
    """

    retryable: ClassVar[bool] = False
    blames_data: ClassVar[bool] = False


class ImportStopped(TransferFailed):
    """The import was ended from outside before it was complete."""


class ImportCancelled(ImportStopped):
    """Somebody cancelled the run, or deleted the image."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the import was cancelled: {self.why}"


class ImportInterrupted(ImportStopped):
    """The service stopped below the import; it is resumed by itself."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the import was interrupted: {self.why}"
