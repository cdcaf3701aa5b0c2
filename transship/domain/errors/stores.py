"""Where bytes go, and what is read there."""

from __future__ import annotations

from collections.abc import Sequence

from transship.domain.errors.base import human_size
from transship.domain.errors.transfers import TransferFailed


class StoreFull(TransferFailed):
    """A store has no room; the partial object has been removed."""

    def __init__(self, store: str, needed_bytes: int) -> None:
        super().__init__(store, needed_bytes)
        self.store, self.needed_bytes = store, needed_bytes

    def __str__(self) -> str:
        return f"store {self.store} is full: there is no room for {human_size(self.needed_bytes)}"


class StoreUnavailable(TransferFailed):
    """A store did not answer or said that it is busy; the data it had before is untouched."""

    retryable = True

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(store, reason)
        self.store, self.reason = store, reason

    def __str__(self) -> str:
        return f"store {self.store} is unavailable: {self.reason}"


class CopyBeingRemoved(TransferFailed):
    """Housekeeping removes an earlier copy of the image from the store; its place is free soon."""

    retryable = True

    def __init__(self, store: str) -> None:
        super().__init__(store)
        self.store = store

    def __str__(self) -> str:
        return f"store {self.store}: an earlier copy of the image is being removed; try again in a minute"


class StoreDenied(TransferFailed):
    """A store does not let us write, read or delete."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(store, reason)
        self.store, self.reason = store, reason

    def __str__(self) -> str:
        return f"store {self.store} denies access: {self.reason}; check its permissions"


class StoreMisconfigured(TransferFailed):
    """A store's settings cannot be used; nothing was written."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(store, reason)
        self.store, self.reason = store, reason

    def __str__(self) -> str:
        return f"store {self.store} is not set up right: {self.reason}"


class AlreadyStored(TransferFailed):
    """The store holds an object of that name that is not known to be ours; it is left alone."""

    def __init__(self, store: str, name: str) -> None:
        super().__init__(store, name)
        self.store, self.name = store, name

    def __str__(self) -> str:
        return f"store {self.store} already holds an object named {self.name} that this service did not write"


class ObjectMissing(TransferFailed):
    """The store does not hold the object that it should hold."""

    def __init__(self, store: str, location: str) -> None:
        super().__init__(store, location)
        self.store, self.location = store, location

    def __str__(self) -> str:
        return f"store {self.store} does not hold {self.location}"


class ImageDataUnavailable(TransferFailed):
    """No store can deliver the image's data now; which and why is in the log."""

    retryable = True

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"No store can deliver the data of image {self.image_id} now; try again later"


class StoredDiffers(TransferFailed):
    """What the store holds is not what was written to it."""

    retryable = True

    def __init__(self, store: str, expected: str, found: str) -> None:
        super().__init__(store, expected, found)
        self.store, self.expected, self.found = store, expected, found

    def __str__(self) -> str:
        return f"store {self.store} holds other data than were written: expected {self.expected}, found {self.found}"


class CopyDiffers(TransferFailed):
    """Data that were taken for the image's are others; nobody saw a copy of them."""

    def __init__(self, origin: str, what: str, expected: str, found: str) -> None:
        super().__init__(origin, what, expected, found)
        self.origin, self.what, self.expected, self.found = origin, what, expected, found

    def __str__(self) -> str:
        return (
            f"the data in {self.origin} are not the image's: {self.what} is {self.found}"
            f" where the image has {self.expected}"
        )


class NoReadableCopy(TransferFailed):
    """None of the stores that hold an image could be read; nothing was written.

    Args:
        image_id: the image.
        reasons: one for each store.
    """

    retryable = True

    def __init__(self, image_id: str, reasons: Sequence[str]) -> None:
        super().__init__(image_id, reasons)
        self.image_id, self.reasons = image_id, reasons

    def __str__(self) -> str:
        why = "; ".join(self.reasons) or "no store holds it"
        return f"image {self.image_id} cannot be read from any store: {why}"


class StoresFailed(TransferFailed):
    """One or more stores could not be written; the message holds each one's reason.

    Args:
        reasons: ``store: reason`` for each store that failed.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "; ".join(self.reasons)


class StoresUnavailable(StoresFailed):
    """Stores could not be written, each for a reason that may pass."""

    retryable = True
