"""``POST /v2/images/{image_id}/import``: check the request, and queue it for the keeper."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from transship.api.bodies import parse_json, read_body
from transship.api.images import MEDIA_TYPE
from transship.api.site import Call
from transship.api.views import task_view
from transship.catalog.hosts import refuse_unless_served
from transship.catalog.images import get_image
from transship.catalog.imports import Order, ask_import
from transship.catalog.tasks import tasks_of_image
from transship.domain.admission import admit
from transship.domain.errors import EndpointUnknown
from transship.domain.image import Image
from transship.domain.import_request import ImportRequest, described, parse_import_request
from transship.domain.placement import choose_targets
from transship.domain.policies import Action
from transship.domain.quota import ImportQuota
from transship.domain.remote import RemoteAccess, RemoteImage
from transship.domain.visibility import refuse_unless_seen

log = structlog.get_logger(__name__)

STORE_HEADER: Final = "x-image-meta-store"


_LOGGED_KEYS: Final = 10


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request for an import that has passed all checks except that of its URI.

    Attributes:
        targets: the stores to write; empty if every store holds the image already.
    """

    request: ImportRequest
    image: Image
    targets: tuple[str, ...]


async def start_import(call: Call) -> Response:
    """``POST /v2/images/{image_id}/import``: accept an import.

    The checks are in Glance's order, and the first failure decides.

    The URI is judged between the two steps that use a request thread, because it waits for external name servers.
    """
    body = await read_body(call.request, call.site.settings.api.max_body_bytes)
    asked = await run_in_threadpool(_judge, call, body)
    if not asked.targets:
        log.info("every store holds the image", image_id=call.image_id)
        return Response(status_code=202)
    if asked.request.uri:
        await call.site.judge.admit(asked.request.uri)
    return await run_in_threadpool(_accept, call, asked)


def _judge(call: Call, sent: bytes) -> _Asked:
    request = parse_import_request(parse_json(sent), call.site.settings.imports.enabled_methods)
    image_id = call.image_id
    with call.site.catalog.statement() as connection:
        image = get_image(connection, image_id)
    refuse_unless_seen(call.viewer, image)
    admit(image, request)
    call.require(Action.COPY_IMAGE if request.method.facts.copies else Action.MODIFY_IMAGE, image)
    header = call.request.headers.get(STORE_HEADER) or None
    held = [location.store for location in image.locations]
    return _Asked(request, image, choose_targets(request, header, call.site.stores.facts(), held))


def _accept(call: Call, asked: _Asked) -> Response:
    image_id, request, targets = call.image_id, asked.request, asked.targets
    if request.method.facts.uploaded:
        with call.site.catalog.read() as connection:
            refuse_unless_served(connection, image_id)
    quota = call.site.quotas.of(asked.image.owner)
    claim = None
    if quota is not None:
        claim = ImportQuota(quota, request.method.facts, asked.image, len(targets)).at_start
    order = Order(request, targets, _access(call, request.remote), claim)
    task = ask_import(call.site.catalog, image_id, order, call.caller, datetime.now(UTC))
    _log_accepted(task.id, image_id, request, targets)
    return Response(status_code=202)


def _access(call: Call, remote: RemoteImage | None) -> RemoteAccess | None:
    """Return how to reach the source of a glance-download with the caller's rights, without checking that it exists.

    As in Glance, an unknown region fails the task and not the request. The token is kept
    only if it will be needed.
    """
    if remote is None:
        return None
    configured = call.site.settings.remote(remote.region)
    if configured is not None:
        return RemoteAccess(remote, token=call.identity.token if configured.send_caller_token else "")
    try:
        endpoint = call.identity.catalogue.find("image", remote.region, remote.interface)
    except EndpointUnknown as unknown:
        return RemoteAccess(remote, refusal=str(unknown))
    return RemoteAccess(remote, endpoint, token=call.identity.token)


def _log_accepted(task_id: str, image_id: str, request: ImportRequest, targets: tuple[str, ...]) -> None:
    log.info(
        "import accepted",
        image_id=image_id,
        task_id=task_id,
        method=str(request.method),
        source=" ".join(list(described(request).values())[1:]),
        stores=",".join(targets),
    )
    if request.unknown_keys:
        known_as = ",".join(key[:40] for key in request.unknown_keys[:_LOGGED_KEYS])
        log.warning("unknown keys in import request ignored", image_id=image_id, task_id=task_id, keys=known_as)


def list_image_tasks(call: Call) -> Response:
    """``GET /v2/images/{image_id}/tasks``: the image's import tasks, newest first."""
    with call.site.catalog.read() as connection:
        image = get_image(connection, call.image_id)
        call.require(Action.GET_IMAGE, image)
        tasks = tasks_of_image(connection, image.id, datetime.now(UTC))
    viewer = call.viewer
    shown = [task for task in tasks if viewer.is_admin or viewer.owns(task.owner)]
    return JSONResponse({"tasks": [task_view(task) for task in shown]}, media_type=MEDIA_TYPE)
