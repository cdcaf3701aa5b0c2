"""Errors of stores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from transship.domain.errors.transfers import TransferFailed

_IMAGE_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class StoreFull(TransferFailed):
    """A store has no room; the partial object has been removed."""

    store: str
    needed_bytes: int

    BRIEF = "store {store} is full: there is no room for {needed_bytes:size}"
    REMEDY = "free some space there, or import into another store"


class StoreUnavailable(TransferFailed):
    """A store did not answer, or is busy; the data in it are not affected."""

    retryable = True

    store: str
    reason: str
    remedy: str = "try again later"

    BRIEF = "store {store} is unavailable: {reason}"


class CopyBeingRemoved(TransferFailed):
    """Housekeeping is removing an earlier copy of the image from the store."""

    retryable = True

    store: str

    BRIEF = "store {store}: an earlier copy of the image is being removed"
    REMEDY = "try again in a minute"


class StoreDenied(TransferFailed):
    """A store does not let the service write, read or delete."""

    store: str
    reason: str
    remedy: str = "check its permissions"

    BRIEF = "store {store} denies access: {reason}"


class StoreMisconfigured(TransferFailed):
    """A store's settings cannot be used; nothing was written."""

    store: str
    reason: str

    BRIEF = "store {store} is not configured correctly: {reason}"
    REMEDY = "ask the operator"


class AlreadyStored(TransferFailed):
    """The store holds an object of that name that this service did not write; it is left alone."""

    store: str
    name: str

    BRIEF = "store {store} already holds an object named {name} that this service did not write"
    REMEDY = "remove it there, or import into another store"


class LocationTaken(TransferFailed):
    """Data at a location are another image's, and will be deleted with it."""

    store: str

    BRIEF = "store {store}: the data at this location are those of another image"
    REMEDY = "copy them there under another name, or use that image"


class LocationDiffers(TransferFailed):
    """The data at a location are not what the request says.

    Attributes:
        what: name of the digest's algorithm.
        expected, found: lower-case hex.
    """

    store: str
    what: str
    expected: str
    found: str

    BRIEF = "the {what} of the data in store {store} is {found}, the request says {expected}"
    REMEDY = "check the URL and the digest, and register the location again"


class LocationUnhashed(TransferFailed):
    """The image is active, but nothing is known of its data."""

    retryable = True

    store: str
    reason: str

    BRIEF = "the image is active without digests, because its data in store {store} could not be read: {reason}"
    REMEDY = "have an operator retry the flow run"


class ObjectMissing(TransferFailed):
    """The store lacks an object that it should hold.

    Attributes:
        location: the object's URL; users see only the name in it, because the rest may be a path of the host.
    """

    store: str
    location: str

    BRIEF = "store {store} does not hold {name}"
    REMEDY = "restore it there, or import the image again"

    @property
    def name(self) -> str:
        """The object's name: the image id if the URL has one, else its last part."""
        parts = self.location.rstrip("/").split("/")
        return next((part for part in reversed(parts) if _IMAGE_ID.fullmatch(part)), parts[-1])


class ImageDataUnavailable(TransferFailed):
    """No store can deliver the image's data now; the log names the stores and the reasons."""

    retryable = True

    image_id: str

    BRIEF = "No store can deliver the data of image {image_id} now"
    REMEDY = "try again later"


class StoredDiffers(TransferFailed):
    """The data in the store differ from what was written."""

    retryable = True

    store: str
    expected: str
    found: str

    BRIEF = "store {store} holds other data than were written: expected {expected}, found {found}"
    REMEDY = "check the store's disk or network"


class CopyDiffers(TransferFailed):
    """A copy of the image has different data; it was not shown to clients."""

    origin: str
    what: str
    expected: str
    found: str

    BRIEF = "the data in {origin} are not the image's: {what} is {found} where the image has {expected}"
    REMEDY = "remove that copy, and copy the image again from another store"


class NoReadableCopy(TransferFailed):
    """None of the stores that hold an image could be read; nothing was written.

    Attributes:
        image_id: the image.
        reasons: one for each store.
    """

    retryable = True

    image_id: str
    reasons: Sequence[str]

    BRIEF = "image {image_id} cannot be read from any store: {why}"

    @property
    def why(self) -> str:
        """The reasons of all stores as one text."""
        return "; ".join(self.reasons) or "no store holds it"


class StoresFailed(TransferFailed):
    """One or more stores could not be written; the text has each store's reason and remedy.

    Attributes:
        reasons: ``store: reason`` for each store that failed.
    """

    reasons: Sequence[str]

    BRIEF = "{reasons:clauses}"


class StoresUnavailable(StoresFailed):
    """Stores could not be written, each because of a transient error."""

    retryable = True
