"""Data on their way: staging, archives, formats, plugins."""

from __future__ import annotations

from transship.domain.errors.base import human_size
from transship.domain.errors.transfers import TransferFailed
from transship.domain.image import DISK_FORMATS


class ImageTooLarge(TransferFailed):
    """The image is larger than the site accepts.

    Args:
        what: which size: ``download``, ``decompressed image``, ``virtual size`` …
        size_bytes: size found; the size reached so far where the whole is unknown.
        limit_bytes: most bytes that are accepted.
        option: setting that holds the limit.
    """

    blames_data = True

    def __init__(self, what: str, size_bytes: int, limit_bytes: int, option: str) -> None:
        super().__init__(what, size_bytes, limit_bytes, option)
        self.what, self.size_bytes, self.limit_bytes, self.option = what, size_bytes, limit_bytes, option

    def __str__(self) -> str:
        return (
            f"{self.what} of {human_size(self.size_bytes)} is larger than the"
            f" {human_size(self.limit_bytes)} that {self.option} allows"
        )


class StagingFull(TransferFailed):
    """Staging has no room for this import; other imports and the databases keep theirs."""

    def __init__(self, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(needed_bytes, available_bytes)
        self.needed_bytes, self.available_bytes = needed_bytes, available_bytes

    def __str__(self) -> str:
        return (
            f"staging is full: {human_size(self.needed_bytes)} needed,"
            f" {human_size(max(0, self.available_bytes))} available; free some space or try again later"
        )


class StagingBusy(StagingFull):
    """Staging has no room now, but would have if other imports ended; waiting may help."""

    def __init__(self, needed_bytes: int, available_bytes: int, others_bytes: int) -> None:
        TransferFailed.__init__(self, needed_bytes, available_bytes, others_bytes)
        self.needed_bytes, self.available_bytes = needed_bytes, available_bytes
        self.others_bytes = others_bytes

    def __str__(self) -> str:
        return (
            f"staging is full: {human_size(self.needed_bytes)} needed,"
            f" {human_size(max(0, self.available_bytes))} available,"
            f" {human_size(self.others_bytes)} taken by other imports; try again later"
        )


class StagingBroken(TransferFailed):
    """Staging could not be read or written."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"staging cannot be used: {self.reason}"


class StagingUnavailable(StagingBroken):
    """The staging directory is not where it was prepared; what was kept there is untouched."""

    retryable = True

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host

    def __str__(self) -> str:
        return (
            f"the staging directory of {self.host} is not mounted; 'transship doctor' there shows operators the remedy"
        )


class UploadLost(TransferFailed):
    """Uploaded data are not on staging any more, or are not what was uploaded."""

    blames_data = True

    def __init__(self, image_id: str, host: str) -> None:
        super().__init__(image_id, host)
        self.image_id, self.host = image_id, host

    def __str__(self) -> str:
        return f"the uploaded data of image {self.image_id} are gone from the staging of {self.host}; upload them again"


class UploadElsewhere(TransferFailed):
    """Uploaded data lie on another host than the one that was to import them."""

    def __init__(self, image_id: str, host: str, here: str) -> None:
        super().__init__(image_id, host, here)
        self.image_id, self.host, self.here = image_id, host, here

    def __str__(self) -> str:
        return (
            f"the uploaded data of image {self.image_id} lie on host {self.host}, and this is {self.here};"
            f" import the image again, and leave the run in the work queue host-{self.host}"
        )


class ArchiveRefused(TransferFailed):
    """The staged file is a compressed file that cannot be unpacked.

    Args:
        kind: ``gzip``, ``zip`` or ``lha``.
        reason: what is wrong with it.
    """

    blames_data = True

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return f"the {self.kind} file cannot be unpacked: {self.reason}"


class FormatMismatch(TransferFailed):
    """The data are in another format than the image declares.

    Args:
        declared: the image's disk format.
        detected: what the data are: a disk format, or something that is none, e.g. ``xz``.
    """

    blames_data = True

    def __init__(self, declared: str, detected: str) -> None:
        super().__init__(declared, detected)
        self.declared, self.detected = declared, detected

    def __str__(self) -> str:
        remedy = (
            "; set disk_format to what the data are and import again"
            if self.detected in DISK_FORMATS
            else ", which is no disk format; unpack or convert them, and import the result"
        )
        return f"the image declares disk_format {self.declared} but its data are {self.detected}{remedy}"


class FormatUnknown(TransferFailed):
    """Nobody stated the disk format, and the data do not tell it for certain; they are not taken for raw ones.

    Args:
        reason: what the data are instead, as the end of a sentence.
    """

    blames_data = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"disk_format is not stated and the data do not tell it: {self.reason}; state it and import again"


class FormatUnsafe(TransferFailed):
    """The data fail a safety check of their format."""

    blames_data = True

    def __init__(self, detected: str, reason: str) -> None:
        super().__init__(detected, reason)
        self.detected, self.reason = detected, reason

    def __str__(self) -> str:
        return f"the {self.detected} data are not safe to use: {self.reason}"


class ConversionFailed(TransferFailed):
    """qemu-img could not convert the image."""

    blames_data = True

    def __init__(self, source_format: str, target_format: str, reason: str) -> None:
        super().__init__(source_format, target_format, reason)
        self.source_format, self.target_format, self.reason = source_format, target_format, reason

    def __str__(self) -> str:
        return f"the image cannot be converted from {self.source_format} to {self.target_format}: {self.reason}"


class PluginFailed(TransferFailed):
    """An import plugin ended with an error that it did not explain."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(plugin, reason)
        self.plugin, self.reason = plugin, reason

    def __str__(self) -> str:
        return f"import plugin {self.plugin} failed: {self.reason}"
