"""Which stores an import writes to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from transship.domain.errors import AlreadyInStore, BadRequest, StoreReadOnly, StoreUnknown
from transship.domain.image import Location
from transship.domain.import_request import ImportRequest, refuse_named_twice

RESERVED_STORE_PREFIX = "os_glance_"
"""Prefix of store ids reserved for the service (staging, task work), which are never targets."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The public facts about a store.

    Attributes:
        id: store id, e.g. ``fast``.
        kind: ``file``, ``s3``, ``rbd`` or ``http``.
        description: one line for display; may be empty.
        weight: stores with a higher weight are preferred for reads and listed first.
        read_only: never a target.
        default: target of imports that name no store.
    """

    id: str
    kind: str
    description: str = ""
    weight: int = 0
    read_only: bool = False
    default: bool = False


def choose_targets(
    request: ImportRequest, header: str | None, stores: Sequence[StoreFacts], held: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the ids of the stores to write, in the requested order.

    Args:
        request: the import request.
        header: value of ``X-Image-Meta-Store``; None when not sent.
        stores: all stores of the site, in configured order.
        held: ids of the stores that hold the image.

    Returns:
        Store ids; none when every store was asked for and each holds the image.

    Raises:
        BadRequest: two selectors at once, a store named twice, or no writable store.
        StoreUnknown: a named store does not exist, or is reserved.
        StoreReadOnly: a named store is read-only.
        AlreadyInStore: a named store, or the default store, holds the image.
    """
    targets = _chosen(request, header, stores)
    if request.all_stores:
        return tuple(store for store in targets if store not in held)
    for store in targets:
        if store in held:
            raise AlreadyInStore(store)
    return targets


def _chosen(request: ImportRequest, header: str | None, stores: Sequence[StoreFacts]) -> tuple[str, ...]:
    if request.all_stores:
        if request.stores is not None:
            raise BadRequest("'stores' and 'all_stores' exclude each other", "send one of them")
        if header is not None:
            raise BadRequest("'all_stores' and the X-Image-Meta-Store header exclude each other", "send one of them")
        writable = tuple(store.id for store in stores if not store.read_only)
        if not writable:
            raise BadRequest("No store of this site can be imported to: all are read-only.")
        return writable
    if request.stores is not None:
        if header is not None:
            raise BadRequest("'stores' and the X-Image-Meta-Store header exclude each other", "send one of them")
        refuse_named_twice(request.stores)
        return tuple(_writable(store, stores) for store in request.stores)
    if header is not None:
        return (_writable(header, stores),)
    return tuple(_writable(store.id, stores) for store in stores if store.default)


def choose_upload_target(header: str | None, stores: Sequence[StoreFacts]) -> str:
    """Return the id of the store for a classic upload.

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
        raise BadRequest(refused.brief, refused.remedy) from refused


def _writable(store_id: str, stores: Sequence[StoreFacts]) -> str:
    known = [store.id for store in stores]
    if store_id not in known or store_id.startswith(RESERVED_STORE_PREFIX):
        raise StoreUnknown(store_id, known)
    if any(store.read_only for store in stores if store.id == store_id):
        raise StoreReadOnly(store_id)
    return store_id


def best_first(locations: Sequence[Location], stores: Sequence[StoreFacts]) -> tuple[Location, ...]:
    """Return locations by descending store weight, keeping the order of equal weights; unknown stores weigh 0.

    Damaged copies come last.
    """
    weights = {store.id: store.weight for store in stores}

    def rank(location: Location) -> tuple[bool, int]:
        return location.damage is not None, -weights.get(location.store, 0)

    return tuple(sorted(locations, key=rank))
