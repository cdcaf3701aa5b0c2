"""The root of errors that fail imports, and imports ended from outside."""

from __future__ import annotations

from typing import ClassVar

from transship.domain.errors.base import TransshipError


class TransferFailed(TransshipError):
    """An import could not be completed.

    Attributes:
        retryable: True when the same attempt may succeed some seconds later.
        blames_data: True when the data themselves are at fault or gone, so there is no point in keeping them.
    """

    retryable: ClassVar[bool] = False
    blames_data: ClassVar[bool] = False


class ImportStopped(TransferFailed):
    """The import was ended from outside before it was complete."""


class ImportCancelled(ImportStopped):
    """The run was cancelled, or the image deleted."""

    why: str

    BRIEF = "the import was cancelled: {why}"


class ImportInterrupted(ImportStopped):
    """The service stopped during the import; the import resumes automatically."""

    why: str

    BRIEF = "the import was interrupted: {why}"


class ImportTooLong(ImportStopped):
    """One attempt of the import ran for longer than the site allows.

    Attributes:
        limit_s: its time limit in seconds.
        doing: its current step, for display.
    """

    limit_s: float
    doing: str

    BRIEF = (
        "the import ran for longer than the {limit_s:g} seconds that imports.timeout_s allows, and was ended in this"
        " step: {doing}"
    )
    REMEDY = "import a smaller image, or ask the operator to raise the limit"
