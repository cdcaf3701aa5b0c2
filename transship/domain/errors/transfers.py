"""The root of failed imports, and ends that come from outside."""

from __future__ import annotations

from typing import ClassVar

from transship.domain.errors.base import TransshipError


class TransferFailed(TransshipError):
    """An import could not be completed.

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

    why: str

    BRIEF = "the import was cancelled: {why}"


class ImportInterrupted(ImportStopped):
    """The service stopped during the import; the import resumes automatically."""

    why: str

    BRIEF = "the import was interrupted: {why}"


class ImportTooLong(ImportStopped):
    """One attempt of the import ran for longer than the site allows.

    Attributes:
        limit_s: seconds that it was allowed.
        doing: the step that it was in, for people.
    """

    limit_s: float
    doing: str

    BRIEF = (
        "the import ran for longer than the {limit_s:g} seconds that imports.timeout_s allows, and was ended in this"
        " step: {doing}"
    )
    REMEDY = "import a smaller image, or ask the operator to raise the limit"
