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


class ImportTooLong(ImportStopped):
    """One attempt of the import ran for longer than the site allows.

    Args:
        limit_s: seconds that it was allowed.
        doing: what it did at the end of them, for people.
    """

    def __init__(self, limit_s: float, doing: str) -> None:
        super().__init__(limit_s, doing)
        self.limit_s, self.doing = limit_s, doing

    def __str__(self) -> str:
        return (
            f"the import ran for longer than the {self.limit_s:g} seconds that imports.timeout_s allows, and was ended"
            f" in this step: {self.doing}. Import a smaller image, or ask the operator to raise the limit"
        )
