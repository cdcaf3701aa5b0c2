"""Imports that an operator starts from Prefect's UI or API, without the Images API."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from transship.catalog.imports import Order
from transship.catalog.schema import NAME_LENGTH
from transship.domain.image import Image, ImageStatus
from transship.domain.import_parameters import ImportParameters
from transship.domain.import_request import ImportRequest, described, refuse_other_methods
from transship.domain.methods import ImportMethod
from transship.domain.placement import StoreFacts, choose_targets
from transship.domain.remote import RemoteAccess, RemoteImage
from transship.domain.uri_filter import may_hold_secrets


def _public(uri: str) -> str:
    """Refuse URIs that must not be in a flow run's parameters.

    Raises:
        ValueError: the URI may hold a secret, or is not http(s).
    """
    if may_hold_secrets(uri):
        raise ValueError(
            "flow parameters are visible to everybody who reaches Prefect: give a URL without user name, password,"
            " query, fragment and path parameters (;name=value), or import it through the Images API, which keeps it"
            " encrypted"
        )
    parts = urlsplit(uri)
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise ValueError("give a complete http or https URL")
    return uri


PublicUri = Annotated[
    str,
    Field(title="URL", examples=["https://cloud.example.org/debian-12.qcow2"], min_length=8, max_length=4096),
    AfterValidator(_public),
]


ShortText = Annotated[str, Field(max_length=NAME_LENGTH)]
"""Text that fits the catalogue's columns for names and ids."""


def form_request(params: ImportParameters, enabled: Collection[ImportMethod]) -> ImportRequest:
    """Return the request from the form of a method.

    Args:
        enabled: methods that the site offers.

    Raises:
        BadRequest: the method is not offered.
    """
    refuse_other_methods(params.method, enabled)
    return ImportRequest(
        method=params.method,
        uri=params.uri,
        remote=params.remote,
        stores=params.stores or None,
        all_stores=params.all_stores,
        all_stores_must_succeed=params.all_stores_must_succeed,
    )


def new_image(params: ImportParameters, image_id: str, now: datetime) -> Image:
    """Return the image record for a download started by hand.

    Without a disk format the import detects it from the data. A glance-download takes both formats from the remote
    image.
    """
    return Image(
        id=image_id,
        status=ImageStatus.QUEUED,
        created_at=now,
        updated_at=now,
        # It may be the last part of a URL, which can have any length.
        name=(params.name or "")[:NAME_LENGTH],
        disk_format=params.disk_format,
        container_format=params.container_format or "bare",
        owner=params.project_id,
    )


def form_order(request: ImportRequest, stores: Sequence[StoreFacts], image_id: str = "") -> Order:
    """Return the import that a form requests.

    Args:
        stores: the site's stores.
        image_id: of an existing image; empty: the import creates one.

    Raises:
        BadRequest: the choice of stores is invalid.
        StoreUnknown, StoreReadOnly: a store cannot be a target.
    """
    targets = choose_targets(request, None, stores)
    shown = {
        "method": described(request),
        "stores": list(targets),
        "all_stores_must_succeed": request.all_stores_must_succeed,
    }
    named = {"image_id": image_id} if image_id else {}
    access = None if request.remote is None else _access(request.remote)
    return Order(request, targets, {**named, "import_req": shown, "backend": list(targets)}, access)


def _access(remote: RemoteImage) -> RemoteAccess:
    reason = f"runs by hand bring no service catalogue; set remotes.{remote.region}.url"
    return RemoteAccess(remote, refusal=reason)
