"""Errors of staging, archives, formats and plugins: data between source and store."""

from __future__ import annotations

from transship.domain.errors.transfers import TransferFailed
from transship.domain.image import DISK_FORMATS


class ImageTooLarge(TransferFailed):
    """The image is larger than the site accepts.

    Attributes:
        what: which size: ``download``, ``decompressed image``, ``virtual size`` …
        size_bytes: the size; if that is unknown, the size reached so far.
        limit_bytes: most bytes accepted.
        option: setting with the limit.
    """

    blames_data = True

    what: str
    size_bytes: int
    limit_bytes: int
    option: str

    BRIEF = "{what} of {size_bytes:size} is larger than the {limit_bytes:size} that {option} allows"
    REMEDY = "import a smaller image, or ask the operator to raise the limit"


class ProjectOverQuota(TransferFailed):
    """The project may not use as much as the request or import needs."""

    blames_data = True


class StorageExceeded(ProjectOverQuota):
    """The project's images would take more storage or staging than it may use.

    Attributes:
        limit: the limit in Keystone, or the setting.
        used_bytes: taken by the project's other images, including uploads and imports under way.
        asked_bytes: needed by this image, for all its copies.
        limit_bytes: most bytes allowed.
    """

    limit: str
    used_bytes: int
    asked_bytes: int
    limit_bytes: int

    BRIEF = (
        "the project's quota {limit} would be exceeded: {used_bytes:size} are taken by its other images, and"
        " {asked_bytes:size} more are needed, of {limit_bytes:size}"
    )
    REMEDY = "delete images that are no longer needed, or ask the operator to raise the quota"


class ImageCountExceeded(ProjectOverQuota):
    """The project may not have more images, or not more of them in uploads and imports.

    Attributes:
        limit: the limit in Keystone.
        used: images that count already.
        most: most images allowed.
    """

    limit: str
    used: int
    most: int

    BRIEF = "the project's quota {limit} is used up: {used} images count already, of {most}"
    REMEDY = "wait until uploads and imports have ended, delete images, or ask the operator to raise the quota"


class StagingFull(TransferFailed):
    """Staging has no room for this import without taking that of other imports or of the databases."""

    needed_bytes: int
    available_bytes: int

    BRIEF = "staging is full: {needed_bytes:size} needed, {available_bytes:size} available"
    REMEDY = "free some space or try again later"


class StagingBusy(StagingFull):
    """Staging has no room now, but will have some when other imports end."""

    others_bytes: int

    BRIEF = (
        "staging is full: {needed_bytes:size} needed, {available_bytes:size} available,"
        " {others_bytes:size} taken by other imports"
    )
    REMEDY = "try again later"


class StagingUnusable(TransferFailed):
    """Staging could not be read or written."""


class StagingBroken(StagingUnusable):
    """The operating system refused to read or write staging, or a staged file is not as it should be."""

    reason: str

    BRIEF = "staging cannot be used: {reason}"
    REMEDY = "ask the operator to check the staging directory"


class StagingUnavailable(StagingUnusable):
    """The staging directory is not where it was prepared; the data there are not affected."""

    retryable = True

    host: str

    BRIEF = "the staging directory of {host} is not mounted"
    REMEDY = "'transship doctor' there shows operators the remedy"


class UploadLost(TransferFailed):
    """Uploaded data are no longer in staging, or differ from what was uploaded."""

    blames_data = True

    image_id: str
    host: str

    BRIEF = "the uploaded data of image {image_id} are gone from the staging of {host}"
    REMEDY = "upload them again"


class UploadElsewhere(TransferFailed):
    """Uploaded data are on a host other than the one that runs the import."""

    image_id: str
    host: str
    here: str

    BRIEF = "the uploaded data of image {image_id} are on host {host}, and this is {here}"
    REMEDY = "import the image again, and leave the run in the work queue host-{host}"


class ArchiveRefused(TransferFailed):
    """The staged file is a compressed file that cannot be unpacked.

    Attributes:
        kind: ``gzip``, ``zip`` or ``lha``.
        reason: what is wrong with it.
    """

    blames_data = True

    kind: str
    reason: str
    remedy: str = ""

    BRIEF = "the {kind} file cannot be unpacked: {reason}"


class FormatMismatch(TransferFailed):
    """The data are in another format than the image declares.

    Attributes:
        declared: the image's disk format.
        detected: format of the data: a disk format, or another one, e.g. ``xz``.
    """

    blames_data = True

    declared: str
    detected: str

    BRIEF = "the image declares disk_format {declared} but its data are {detected}"
    REMEDY = "set disk_format to what the data are and import again"

    @classmethod
    def between(cls, declared: str, detected: str) -> FormatMismatch:
        """Return the error with the remedy for the detected format."""
        return (FormatMismatch if detected in DISK_FORMATS else NoDiskFormat)(declared, detected)


class NoDiskFormat(FormatMismatch):
    """The data are in a format that no image can declare, e.g. compressed with ``xz``."""

    BRIEF = "the image declares disk_format {declared} but its data are {detected}, which is no disk format"
    REMEDY = "unpack or convert them, and import the result"


class UploadEmpty(TransferFailed):
    """An upload without data; only a raw image without a container may be empty."""

    blames_data = True

    disk_format: str
    container_format: str

    BRIEF = "the upload is empty: 0 bytes, which are no {disk_format} data in container {container_format}"
    REMEDY = "send the image data; only images with disk_format raw and container_format bare may be empty"


class FormatUnknown(TransferFailed):
    """No disk format was declared and the data do not determine it; they are not assumed to be raw.

    Attributes:
        reason: what the data are instead, as the end of a sentence.
    """

    blames_data = True

    reason: str

    BRIEF = "disk_format is not stated and the data do not tell it: {reason}"
    REMEDY = "state it and import again"


class FormatUnsafe(TransferFailed):
    """The data fail a safety check of their format."""

    blames_data = True

    detected: str
    reason: str
    remedy: str = ""

    BRIEF = "the {detected} data are not safe to use: {reason}"


class ConversionFailed(TransferFailed):
    """qemu-img could not convert the image."""

    blames_data = True

    source_format: str
    target_format: str
    reason: str

    BRIEF = "the image cannot be converted from {source_format} to {target_format}: {reason}"
    REMEDY = "check it with 'qemu-img check', or convert it yourself and import the result"


class PluginFailed(TransferFailed):
    """An import plugin ended with an unexpected error."""

    plugin: str
    reason: str

    BRIEF = "import plugin {plugin} failed: {reason}"
    REMEDY = "ask the operator"
