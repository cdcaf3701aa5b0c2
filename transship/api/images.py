"""Create, list, show, tag and delete images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from transship.api.attributes import (
    LINKS,
    LONGEST_NAME,
    READ_ONLY,
    WRITABLE,
    refuse_over_quota,
    refuse_property,
    refuse_protected,
    refuse_read_only,
    refuse_reserved,
    with_attribute,
)
from transship.api.base_url import base_url
from transship.api.bodies import parse_json_object, refuse_body, storable
from transship.api.query import page_url, parse_query
from transship.api.site import Call
from transship.api.views import image_view
from transship.catalog.endings import end_deleted
from transship.catalog.images import get_image, insert_image, lock_image, mark_deleted, update_image
from transship.catalog.quotas import refuse_claim
from transship.catalog.search import find_images
from transship.domain.errors import (
    BadRequest,
    Forbidden,
    ImageChanged,
    StoreUnknown,
    TagNotFound,
    TransferFailed,
)
from transship.domain.image import Image, ImageStatus
from transship.domain.placement import StoreFacts
from transship.domain.policies import Action
from transship.domain.protections import Operation
from transship.domain.quota import Claim
from transship.domain.visibility import Viewer, shown_to
from transship.placing.removal import remove_of_deleted
from transship.staging.area import StagingArea
from transship.staging.scrap import remove_scrap

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/json; charset=UTF-8"
WRITE_TRIES: Final = 5
"""How often a change is tried when other clients change the same image at the same time."""

_COLLECTION: Final = "/v2/images"


def create_image(call: Call) -> Response:
    """``POST /v2/images``: create a record without data."""
    image = _new_image(call, parse_json_object(call.body), datetime.now(UTC))
    quota = call.site.quotas.of(image.owner)
    with call.site.catalog.write() as connection:
        refuse_claim(connection, None if quota is None else quota.claim(image.id, count=1))
        insert_image(connection, image)
    log.info("image created", image_id=image.id)
    settings = call.site.settings
    headers = {
        "Location": f"{base_url(call.request.scope, settings.api)}{_COLLECTION}/{image.id}",
        "OpenStack-image-store-ids": ",".join(store.id for store in call.site.stores.facts()),
    }
    if settings.imports.enabled_methods:
        headers["OpenStack-image-import-methods"] = ",".join(settings.imports.enabled_methods)
    return image_response(call, image, 201, headers)


def _new_image(call: Call, body: dict[str, object], now: datetime) -> Image:
    """Return the image that a body describes; checks are in Glance's order."""
    for name in LINKS & body.keys():
        refuse_read_only(name)
    call.site.schemas.judge_image(body)
    for name in body:
        refuse_property(name, "")
        refuse_reserved(name)
    image_id = str(body.get("id", uuid4())).lower()
    others = WRITABLE | READ_ONLY | {"id", "locations"}
    # Null is valid for some properties, and means that the image does not have them.
    properties = {name: str(value) for name, value in body.items() if name not in others and value is not None}
    for name, text in properties.items():
        refuse_property(name, text)
    image = Image(image_id, ImageStatus.QUEUED, now, now, owner=call.caller.project_id, properties=properties)
    for name in WRITABLE & body.keys():
        image = with_attribute(image, name, body[name])
    call.site.policy.refuse_create(call.viewer, image)
    for name in body:
        refuse_read_only(name)
    for name in properties:
        permitted = call.site.protection.allows(Operation.CREATE, name, call.viewer, image)
        refuse_protected(name, permitted=permitted)
    if "locations" in body:
        raise Forbidden("Attribute 'locations' is reserved.")
    refuse_over_quota(None, image, call.site.settings.quota)
    return image


def list_images(call: Call) -> Response:
    """``GET /v2/images``: one page of the images that the caller may see."""
    viewer = call.viewer
    call.site.policy.refuse(Action.GET_IMAGES, viewer)
    pairs = call.request.query_params.multi_items()
    query = parse_query(pairs, viewer, call.site.settings.api)
    with call.site.catalog.read() as connection:
        images = find_images(connection, query) if query.limit else []
    stores = call.site.stores.facts()
    without_marker = [(name, value) for name, value in pairs if name != "marker"]
    page: dict[str, object] = {
        "images": [_view(call, viewer, image, stores) for image in call.site.policy.listed(viewer, images)],
        "first": page_url(_COLLECTION, without_marker),
        "schema": "/v2/schemas/images",
    }
    if images and len(images) == query.limit:
        page["next"] = page_url(_COLLECTION, [*without_marker, ("marker", images[-1].id)])
    return JSONResponse(page, media_type=MEDIA_TYPE)


def show_image(call: Call) -> Response:
    """``GET /v2/images/{image_id}``: one image."""
    with call.site.catalog.statement() as connection:
        image = get_image(connection, call.image_id)
    call.require(Action.GET_IMAGE, image)
    return image_response(call, image, 200, {})


def add_tag(call: Call) -> Response:
    """``PUT /v2/images/{image_id}/tags/{tag}``: add a tag unless it is there already."""
    refuse_body(call.body)
    tag = str(call.request.path_params["tag"])
    if len(tag) > LONGEST_NAME or not storable(tag):
        raise BadRequest(f"A tag has at most {LONGEST_NAME} characters, none of them NUL")
    change_image(call, lambda _, image: with_attribute(image, "tags", image.tags | {tag}))
    return Response(status_code=204)


def remove_tag(call: Call) -> Response:
    """``DELETE /v2/images/{image_id}/tags/{tag}``: remove a tag."""
    tag = str(call.request.path_params["tag"])

    def untagged(_connection: Connection, image: Image) -> Image:
        if tag not in image.tags:
            raise TagNotFound(image.id, tag)
        return with_attribute(image, "tags", image.tags - {tag})

    change_image(call, untagged)
    return Response(status_code=204)


def change_image(call: Call, changed: Callable[[Connection, Image], Image], claim: Claim | None = None) -> Image:
    """Apply a change to an image and write it; start over if another client changed the image meanwhile.

    Args:
        changed: gets the locked image, and returns the changed one; it may write what `update_image` does not.
        claim: what the change uses of the quota of the image's project.

    Raises:
        ImageChanged: every try met another change.
        ProjectOverQuota: the project may not use as much.
    """
    for tries_left in range(WRITE_TRIES - 1, -1, -1):
        try:
            with call.site.catalog.write() as connection:
                refuse_claim(connection, claim)
                return _changed_once(call, connection, changed)
        except ImageChanged:
            if not tries_left:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def _changed_once(call: Call, connection: Connection, changed: Callable[[Connection, Image], Image]) -> Image:
    before = lock_image(connection, call.image_id)
    call.require(Action.MODIFY_IMAGE, before)
    after = changed(connection, before)
    if after == before:
        return before
    refuse_over_quota(before, after, call.site.settings.quota)
    update_image(connection, before, after, datetime.now(UTC))
    return get_image(connection, before.id)


def delete_image(call: Call) -> Response:
    """``DELETE /v2/images/{image_id}``: remove the record at once, then the data.

    If a store does not answer, housekeeping removes its data later.
    """
    now = datetime.now(UTC)
    with call.site.catalog.write() as connection:
        image = lock_image(connection, call.image_id)
        call.require(Action.DELETE_IMAGE, image)
        if image.protected:
            raise Forbidden(f"Image {image.id} is protected and cannot be deleted.")
        mark_deleted(connection, image.id, now)
        end_deleted(connection, image, now=now, time_to_live_h=call.site.settings.imports.task_time_to_live_h)
    log.info("image deleted", image_id=image.id)
    settings = call.site.settings
    area = StagingArea.of(settings)
    remove_scrap(call.site.catalog, area, image.id)
    for location in image.locations:
        _remove_data(call, image.id, location.store)
    return Response(status_code=204)


def _remove_data(call: Call, image_id: str, store: str) -> None:
    """Remove a copy of a deleted image; if its store cannot do that now, housekeeping does it later."""
    try:
        remove_of_deleted(call.site.catalog, image_id, store, call.site.stores.using)
    except (TransferFailed, StoreUnknown) as error:
        log.warning("data not removed yet", image_id=image_id, store=store, reason=str(error))


def image_response(call: Call, image: Image, status: int, headers: dict[str, str]) -> Response:
    """Return the response that shows an image to the caller."""
    view = _view(call, call.viewer, image, call.site.stores.facts())
    return JSONResponse(view, status, headers, media_type=MEDIA_TYPE)


def _view(call: Call, viewer: Viewer, image: Image, stores: Sequence[StoreFacts]) -> dict[str, object]:
    api = call.site.settings.api
    located = api.show_multiple_locations or api.show_image_direct_url
    may_locate = located and call.site.policy.allows(Action.GET_IMAGE_LOCATION, viewer, image)
    return image_view(
        call.site.protection.readable(viewer, shown_to(viewer, image)),
        stores,
        locations=may_locate and api.show_multiple_locations,
        direct_url=may_locate and api.show_image_direct_url,
    )
