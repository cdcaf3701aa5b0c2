"""Imports that an operator starts from Prefect's UI or API, without the Images API."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from transship.catalog.imports import Order
from transship.domain.image import Image, ImageStatus
from transship.domain.import_request import ImportMethod, ImportRequest, described, refuse_other_methods
from transship.domain.placement import StoreFacts, choose_targets
from transship.domain.remote import RemoteAccess, RemoteImage


def _public(uri: str) -> str:
    """Refuse what must not stand in a flow run's parameters.

    Raises:
        ValueError: the URI holds user info or a query, or is not http(s).
    """
    parts = urlsplit(uri)
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise ValueError("give a complete http or https URL")
    if "@" in parts.netloc or parts.query:
        raise ValueError(
            "flow parameters are visible to everybody who reaches Prefect: give a URL without user name, password"
            " and query, or import it through the Images API, which keeps it encrypted"
        )
    return uri


PublicUri = Annotated[
    str,
    Field(title="URL", examples=["https://cloud.example.org/debian-12.qcow2"], min_length=8, max_length=4096),
    AfterValidator(_public),
]


def form_request(
    method: ImportMethod,
    stores: Sequence[str] | None,
    enabled: Collection[ImportMethod],
    *,
    all_stores: bool,
    all_must_succeed: bool,
) -> ImportRequest:
    """Return the request that the form of a method for images which exist states.

    Args:
        stores: ids of the targets; None or none: the default store.
        enabled: methods that the site offers.

    Raises:
        BadRequest: the method is not offered.
    """
    refuse_other_methods(method, enabled)
    return ImportRequest(
        method=method,
        stores=tuple(stores) if stores else None,
        all_stores=all_stores,
        all_stores_must_succeed=all_must_succeed,
    )


def upload_order(image_id: str, request: ImportRequest, stores: Sequence[StoreFacts]) -> Order:
    """Return the import of uploaded data that a form asks for.

    Args:
        stores: the site's stores.

    Raises:
        BadRequest: the stores cannot be chosen so.
        StoreUnknown, StoreReadOnly: a store cannot be a target.
    """
    targets = choose_targets(request, None, stores)
    task_input = {"image_id": image_id, "import_req": _shown(request, targets), "backend": list(targets)}
    return Order(request, targets, task_input)


@dataclass(frozen=True, slots=True)
class HandRequest:
    """What the form of a hand-started run holds.

    Attributes:
        uri: source of a web-download.
        remote: source of a glance-download, whose own formats replace those given here.
        all_stores: every store that can be written is a target; excludes ``stores``.
    """

    method: ImportMethod
    stores: tuple[str, ...] | None
    name: str
    project_id: str
    all_stores_must_succeed: bool
    uri: str = ""
    remote: RemoteImage | None = None
    all_stores: bool = False
    disk_format: str = "raw"
    container_format: str = "bare"


def new_image(image_id: str, request: HandRequest, now: datetime) -> Image:
    """Return the image record that a hand-started import makes."""
    return Image(
        id=image_id,
        status=ImageStatus.QUEUED,
        created_at=now,
        updated_at=now,
        name=request.name,
        disk_format=request.disk_format,
        container_format=request.container_format,
        owner=request.project_id,
    )


def hand_order(request: HandRequest, stores: Sequence[StoreFacts], enabled: Collection[ImportMethod]) -> Order:
    """Return the import that a form asks for.

    Args:
        request: the form.
        stores: the site's stores.
        enabled: methods that the site offers.

    Raises:
        BadRequest: the method is not offered, or the stores cannot be chosen so.
        StoreUnknown, StoreReadOnly: a store cannot be a target.
    """
    refuse_other_methods(request.method, enabled)
    asked = ImportRequest(
        method=request.method,
        uri=request.uri,
        remote=request.remote,
        stores=request.stores or None,
        all_stores=request.all_stores,
        all_stores_must_succeed=request.all_stores_must_succeed,
    )
    targets = choose_targets(asked, None, stores)
    task_input = {"import_req": _shown(asked, targets), "backend": list(targets)}
    return Order(asked, targets, task_input, None if request.remote is None else _access(request.remote))


def _shown(request: ImportRequest, targets: Sequence[str]) -> dict[str, object]:
    return {
        "method": described(request),
        "stores": list(targets),
        "all_stores_must_succeed": request.all_stores_must_succeed,
    }


def _access(remote: RemoteImage) -> RemoteAccess:
    reason = f"runs by hand bring no service catalogue; set remotes.{remote.region}.url"
    return RemoteAccess(remote, refusal=reason)
