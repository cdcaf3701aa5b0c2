"""Imports that an operator starts from Prefect's UI or API, without the Images API."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit
from uuid import uuid4

from pydantic import AfterValidator, Field

from transship.catalog.schema import NAME_LENGTH
from transship.domain.image import Image, ImageStatus
from transship.domain.import_parameters import ImportParameters
from transship.domain.import_request import ImportRequest, refuse_other_methods
from transship.domain.methods import ImportMethod
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


def new_image(params: ImportParameters, now: datetime) -> Image:
    """Return the image record for a download started by hand.

    Without a disk format the import detects it from the data. A glance-download takes both formats from the remote
    image.
    """
    return Image(
        id=params.image_id or str(uuid4()),
        status=ImageStatus.QUEUED,
        created_at=now,
        updated_at=now,
        # It may be the last part of a URL, which can have any length.
        name=(params.name or "")[:NAME_LENGTH],
        disk_format=params.disk_format,
        container_format=params.container_format or "bare",
        owner=params.project_id,
    )


def form_access(remote: RemoteImage | None) -> RemoteAccess | None:
    """Return how a run by hand reaches its remote image: only as the settings say; None without one."""
    if remote is None:
        return None
    reason = f"runs by hand bring no service catalogue; set remotes.{remote.region}.url"
    return RemoteAccess(remote, refusal=reason)
