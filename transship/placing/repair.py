"""Replace a damaged copy of an image: give it up, and have the image copied to its store again."""

from __future__ import annotations

from datetime import datetime

import structlog

from transship.catalog.engine import Catalog
from transship.catalog.images import lock_image
from transship.catalog.imports import Caller, Order, ask_import
from transship.catalog.removal import give_up_copy
from transship.catalog.verifications import VisibleCopy, is_damaged
from transship.domain.errors import ImageNotFound, StoreDenied, StoreUnavailable
from transship.domain.image import ImageStatus
from transship.domain.import_request import ImportRequest
from transship.domain.methods import COPY_METHOD
from transship.placing.removal import Using, remove_given_up

log = structlog.get_logger("transship.repair")


def replace_copy(catalog: Catalog, copy: VisibleCopy, using: Using, *, ttl_s: float, now: datetime) -> str | None:
    """Withdraw a damaged copy and request a copy-image import for its store; return the import's task id.

    The caller has made sure that another copy is good.

    Args:
        ttl_s: seconds after which another process may remove the data.

    Returns:
        None, and nothing was changed, if the image is deleted or not active, is being imported, or the copy is another
        one by now.

    Raises:
        ImportRunning, AlreadyBeingCopied: somebody else began an import in between; the copy is gone, and the image's
            other copies are as before.
    """
    with catalog.write() as connection:
        try:
            image = lock_image(connection, copy.image_id)
        except ImageNotFound:
            return None
        if image.status is not ImageStatus.ACTIVE or image.import_task or not is_damaged(connection, copy):
            return None
        claim = give_up_copy(connection, copy.image_id, copy.store, ttl_s=ttl_s)
    request = ImportRequest(method=COPY_METHOD, stores=(copy.store,))
    task = ask_import(catalog, copy.image_id, Order(request, (copy.store,)), Caller(image.owner), now)
    try:
        remove_given_up(catalog, claim, using)
    except (StoreUnavailable, StoreDenied) as error:
        log.warning("damaged data not removed yet", image_id=copy.image_id, store=copy.store, reason=str(error))
    return task.id
