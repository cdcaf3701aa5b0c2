"""Operations on an active image's data: remove one store's copy, deactivate, reactivate."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from starlette.responses import Response

from transship.api.bodies import refuse_body
from transship.api.site import Call
from transship.catalog.images import lock_image, set_status
from transship.catalog.removal import Claim, give_up_copy
from transship.domain.errors import (
    Forbidden,
    ImportRunning,
    NotInStore,
    StoreUnknown,
    TransferFailed,
    WrongStatus,
)
from transship.domain.image import Image, ImageStatus
from transship.domain.policies import Action
from transship.placing.removal import remove_given_up

log = structlog.get_logger(__name__)


def delete_from_store(call: Call) -> Response:
    """``DELETE /v2/stores/{store}/{image_id}``: remove one store's copy, never the last one.

    The copy is removed from the record at once, then its data are deleted; if the store does not answer,
    housekeeping deletes them later. An import to the same store waits meanwhile.
    """
    store = str(call.request.path_params["store"])
    known = [fact.id for fact in call.site.stores.facts()]
    if store not in known:
        raise StoreUnknown(store, known)
    with call.site.catalog.write() as connection:
        image = lock_image(connection, call.image_id)
        call.require(Action.GET_IMAGE_LOCATION, image)
        call.require(Action.DELETE_IMAGE_LOCATION, image)
        _refuse_unless_removable(image, store)
        claim = give_up_copy(connection, image.id, store, ttl_s=call.site.settings.lease.ttl_s)
    log.info("copy withdrawn", image_id=image.id, store=store)
    remove_withdrawn(call, claim)
    return Response(status_code=204)


def remove_withdrawn(call: Call, claim: Claim) -> None:
    """Remove a claimed copy; if its store cannot do that now, housekeeping does it later."""
    try:
        remove_given_up(call.site.catalog, claim, call.site.stores.using)
    except (TransferFailed, StoreUnknown) as error:
        log.warning("data not removed yet", image_id=claim.row.image_id, store=claim.row.store, reason=str(error))


def _refuse_unless_removable(image: Image, store: str) -> None:
    """Refuse to remove an image's copy from a store if that is not allowed.

    Raises:
        WrongStatus, ImportRunning: the image's copies may not be changed now.
        Forbidden: the image has one copy only, wherever that is.
        NotInStore: the store has no copy.
    """
    if image.status is not ImageStatus.ACTIVE:
        raise WrongStatus(image.id, image.status, ImageStatus.ACTIVE, "delete from store")
    if image.import_task is not None:
        raise ImportRunning(image.id, image.import_task)
    stores = [location.store for location in image.locations]
    if len(stores) == 1:
        raise Forbidden(f"Store '{stores[0]}' is the only one that holds image {image.id}", "delete the image instead")
    if store not in stores:
        raise NotInStore(image.id, store)


def deactivate_image(call: Call) -> Response:
    """``POST /v2/images/{image_id}/actions/deactivate``: allow only admins to read the data."""
    return _switch(call, Action.DEACTIVATE, ImageStatus.ACTIVE, ImageStatus.DEACTIVATED)


def reactivate_image(call: Call) -> Response:
    """``POST /v2/images/{image_id}/actions/reactivate``: allow the data to be read again."""
    return _switch(call, Action.REACTIVATE, ImageStatus.DEACTIVATED, ImageStatus.ACTIVE)


def _switch(call: Call, action: Action, before: ImageStatus, after: ImageStatus) -> Response:
    """Change the status from ``before`` to ``after``; do nothing if it is ``after`` already."""
    refuse_body(call.body)
    with call.site.catalog.write() as connection:
        image = lock_image(connection, call.image_id)
        call.require(action, image)
        if image.status not in (before, after):
            raise Forbidden(f"Image {image.id} is {image.status}", f"only an image that is {before} can become {after}")
        if image.status is before:
            set_status(connection, image.id, after, datetime.now(UTC))
            log.info("image switched", image_id=image.id, status=str(after))
    return Response(status_code=204)
