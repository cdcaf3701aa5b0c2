"""Which stores an import writes to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from transship.domain.errors import AlreadyInStore, BadRequest, StoreReadOnly, StoreUnknown
from transship.domain.image import Location
from transship.domain.import_request import ImportRequest, refuse_named_twice

RESERVED_STORE_PREFIX = "os_glance_"
"""Store ids beginning so are the service's own (staging, task work) and never targets."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What everybody may know of a store.

    Attributes:
        id: store id, e.g. ``fast``.
        kind: ``file``, ``s3``, ``rbd`` or ``http``.
        description: one line for people, may be empty.
        weight: higher is preferred for reads and stands first in lists.
        read_only: never a target.
        default: target of imports that name no store.
    """

    id: str
    kind: str
    description: str = ""
    weight: int = 0
    read_only: bool = False
    default: bool = False


def choose_targets(request: ImportRequest, header: str | None, stores: Sequence[StoreFacts]) -> tuple[str, ...]:
    """Return the ids of the stores to write, in the order asked for.

    Args:
        request: the import request.
        header: value of ``X-Image-Meta-Store``; None when not sent.
        stores: all stores of the site, in configured order.

    Raises:
        BadRequest: two selectors at once, a store named twice, or nothing can be written at all.
        StoreUnknown: no such store, or a reserved one.
        StoreReadOnly: a named store cannot be written.
    """
    if request.all_stores:
        if request.stores is not None:
            raise BadRequest("'stores' and 'all_stores' exclude each other; send one of them.")
        if header is not None:
            raise BadRequest("'all_stores' and the X-Image-Meta-Store header exclude each other; send one of them.")
        writable = tuple(store.id for store in stores if not store.read_only)
        if not writable:
            raise BadRequest("No store of this site can be imported to: all are read-only.")
        return writable
    if request.stores is not None:
        if header is not None:
            raise BadRequest("'stores' and the X-Image-Meta-Store header exclude each other; send one of them.")
        refuse_named_twice(request.stores)
        return tuple(_writable(store, stores) for store in request.stores)
    if header is not None:
        return (_writable(header, stores),)
    return tuple(_writable(store.id, stores) for store in stores if store.default)


def choose_upload_target(header: str | None, stores: Sequence[StoreFacts]) -> str:
    """Return the id of the store that a classic upload goes to.

    Args:
        header: value of ``X-Image-Meta-Store``; None when not sent.
        stores: all stores of the site.

    Raises:
        BadRequest: the store is unknown, reserved or read-only.
    """
    default = next(store.id for store in stores if store.default)
    try:
        return _writable(default if header is None else header, stores)
    except (StoreUnknown, StoreReadOnly) as refused:
        raise BadRequest(str(refused)) from refused


def choose_copy_targets(
    request: ImportRequest, header: str | None, stores: Sequence[StoreFacts], held: Collection[str]
) -> tuple[str, ...]:
    """Return the ids of the stores to which an image that has its data is copied, in the order asked for.

    Args:
        request, header, stores: as in `choose_targets`.
        held: ids of the stores that hold the image.

    Returns:
        Store ids; none when every store was asked for and each holds the image.

    Raises:
        AlreadyInStore: a store that was named, or meant by default, holds the image.
        BadRequest, StoreUnknown, StoreReadOnly: as in `choose_targets`.
    """
    targets = choose_targets(request, header, stores)
    if request.all_stores:
        return tuple(store for store in targets if store not in held)
    for store in targets:
        if store in held:
            raise AlreadyInStore(store)
    return targets


def _writable(store_id: str, stores: Sequence[StoreFacts]) -> str:
    known = [store.id for store in stores]
    if store_id not in known or store_id.startswith(RESERVED_STORE_PREFIX):
        raise StoreUnknown(store_id, known)
    if any(store.read_only for store in stores if store.id == store_id):
        raise StoreReadOnly(store_id)
    return store_id


def best_first(locations: Sequence[Location], stores: Sequence[StoreFacts]) -> tuple[Location, ...]:
    """Return locations with the highest store weight first, stable for equal weights; unknown stores weigh 0."""
    weights = {store.id: store.weight for store in stores}
    return tuple(sorted(locations, key=lambda location: -weights.get(location.store, 0)))
