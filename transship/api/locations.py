"""``/v2/images/{image_id}/locations``: register where an image's data are, and list the locations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from transship.api.bodies import parse_json_object, read_body
from transship.api.images import MEDIA_TYPE
from transship.api.site import Call, StoreRegistry
from transship.api.views import location_views
from transship.catalog.images import get_image
from transship.catalog.imports import Order, ask_import
from transship.catalog.locations import refuse_taken
from transship.domain.admission import admit
from transship.domain.errors import BadRequest, Forbidden, ObjectMissing, StoreDenied, StoreUnavailable
from transship.domain.image import Image
from transship.domain.import_request import ImportRequest
from transship.domain.locations import FoundLocation, NewLocation
from transship.domain.methods import LOCATION_METHOD
from transship.domain.placement import StoreFacts
from transship.domain.policies import Action
from transship.domain.quota import refuse_over_count
from transship.domain.uri_filter import display_uri
from transship.domain.visibility import refuse_unless_seen, shown_to

log = structlog.get_logger(__name__)

_SERVICE_ROLE: Final = "service"
_WEB: Final = ("http://", "https://")


def list_locations(call: Call) -> Response:
    """``GET /v2/images/{image_id}/locations``: the locations, best store first."""
    with call.site.catalog.statement() as connection:
        image = get_image(connection, call.image_id)
    call.require(Action.FETCH_IMAGE_LOCATION, image)
    shown = location_views(shown_to(call.viewer, image), call.site.stores.facts())
    return JSONResponse(shown, media_type=MEDIA_TYPE)


async def register_location(call: Call) -> Response:
    """``POST /v2/images/{image_id}/locations``: accept a location; a task makes the image active with it."""
    body = await read_body(call.request, call.site.settings.api.max_body_bytes)
    asked = NewLocation.of(parse_json_object(body))
    image = await run_in_threadpool(_judge, call, asked)
    await judge_url(call, asked)
    return await run_in_threadpool(_accept, call, asked, image)


async def judge_url(call: Call, asked: NewLocation) -> None:
    """Refuse a URL that the rules for sources of imports refuse; other schemes than http and https pass.

    Raises:
        UriRefused: as `UriJudge.admit`.
    """
    if _is_web(asked.url):
        await call.site.judge.admit(asked.url)


def _judge(call: Call, asked: NewLocation) -> Image:
    """Return the image, if the caller may give it this location."""
    with call.site.catalog.statement() as connection:
        image = get_image(connection, call.image_id)
    viewer = call.viewer
    refuse_unless_seen(viewer, image)
    admit(image, ImportRequest(LOCATION_METHOD))
    call.require(Action.ADD_IMAGE_LOCATION, image)
    is_service = _SERVICE_ROLE in (*viewer.roles, *viewer.service_roles)
    if not is_service and not (_is_web(asked.url) and _has_web_store(call.site.stores)):
        raise Forbidden(
            "Only services may register this location", "give an http or https URL, if a store of this site takes them"
        )
    if asked.expected is not None:
        asked.expected.refuse_other_than_digests()
    refuse_over_count("image locations", call.site.settings.quota.image_location_quota, 1)
    return image


def _accept(call: Call, asked: NewLocation, image: Image) -> Response:
    found = find_location(call.site.stores, asked)
    with call.site.catalog.statement() as connection:
        refuse_taken(connection, image.id, found)
    quota = call.site.quotas.of(image.owner)
    claim = None if quota is None else quota.claim(image.id, size=found.size, uploading=1)
    request = ImportRequest(LOCATION_METHOD, uri=found.url, expected=asked.expected, stores=(found.store,))
    order = Order(request, (found.store,), claim=claim)
    task = ask_import(call.site.catalog, image.id, order, call.caller, datetime.now(UTC))
    log.info("location accepted", image_id=image.id, task_id=task.id, store=found.store)
    return Response(status_code=202)


def _is_web(url: str) -> bool:
    return url.lower().startswith(_WEB)


def _has_web_store(stores: StoreRegistry) -> bool:
    for store in stores.facts():
        if store.read_only:
            with stores.using(store.id) as driver:
                if driver.own_url(_WEB[0]) is not None:
                    return True
    return False


def find_location(stores: StoreRegistry, asked: NewLocation) -> FoundLocation:
    """Return the store that has the data at a URL, and their size.

    Raises:
        BadRequest: no store of the site has such URLs, the store does not have the data, or the URL holds credentials.
        StoreUnavailable: a store does not answer.
    """
    away: StoreUnavailable | None = None
    for store in _read_only_first(stores):
        if asked.store not in ("", store.id):
            continue
        try:
            found = _in_store(stores, store, asked.url)
        except StoreUnavailable as error:
            away = error
            continue
        if found is not None:
            return found
    if away is not None:
        raise away
    where = f"Store '{asked.store}' has no location" if asked.store else "No store of this site has the location"
    raise BadRequest(f"{where} {display_uri(asked.url)}", "give the URL of an object in a store of this site")


def _in_store(stores: StoreRegistry, store: StoreFacts, url: str) -> FoundLocation | None:
    """Return the data of a store at a URL; None if the URL is not one of the store's."""
    with stores.using(store.id) as driver:
        own = driver.own_url(url)
        if own is None:
            return None
        if "@" in url and "@" not in own:
            raise BadRequest(
                f"The location {display_uri(url)} holds credentials", f"leave them out; store '{store.id}' has its own"
            )
        try:
            return FoundLocation(store.id, own, driver.size(own), exclusive=not driver.read_only)
        except ObjectMissing as missing:
            raise BadRequest(f"{missing.brief} at {display_uri(url)}") from missing
        except StoreDenied as denied:
            raise BadRequest(denied.brief, denied.remedy) from denied


def _read_only_first(stores: StoreRegistry) -> list[StoreFacts]:
    """Return all stores; a URL of the web is found without opening the others, which may not answer."""
    return sorted(stores.facts(), key=lambda store: not store.read_only)
