"""Read the record of a remote image: the expected data, and the properties to copy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tasks.retrying import as_downloads
from tasks.session import ImportSession, current
from tasks.sources import source_refusal, web_source
from tasks.steps import step
from transship.catalog.imports import Begun
from transship.domain.errors import RemoteUnknown, RemoteUnusable, SourceRefused
from transship.domain.image import LARGEST_PROPERTIES_BYTES, Image, properties_bytes
from transship.domain.import_data import Announced, Done, JudgedSource
from transship.domain.remote import RemoteAccess, RemoteFacts, RemoteImage, image_url, judge_remote
from transship.identity.login import Login
from transship.sources.web import SourceRequest

RECORD_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Longest record that is read; Glance's own limits on properties allow only a fraction of it."""

NO_DIGEST: Final = "the remote Glance tells no digest, so that the size alone was compared"

_DIGESTS: Final = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))


@step("read-remote", "read remote image", as_downloads)
def read_remote(begun: Begun) -> Done[JudgedSource]:
    """Read the record of the remote image, and return where its data are and what they should be.

    Its formats apply from here on. Its properties are set together with the data, so a failed import changes none.

    Raises:
        RemoteUnknown: the address of the region's Glance is not known.
        RemoteRefused, RemoteUnusable: it refuses the image, or the image has no data to import.
        TransferFailed: it cannot be reached, or the URI gate refuses its address.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    session.board.enter("read-remote")
    access = begun.access
    if access is None:
        raise RemoteUnknown("?", "how to reach it was not kept", "import again")
    remote = access.image
    record = _record_of(session, access)
    facts = _facts(session, begun.image, remote, record)
    algorithm, value = facts.digest or ("", "")
    display = f"image {remote.image_id} in region {remote.region}"
    return Done(
        JudgedSource(
            f"{record.uri}/file",
            display,
            replace(
                begun.image,
                disk_format=facts.disk_format,
                container_format=facts.container_format,
                properties={**begun.image.properties, **facts.properties},
            ),
            headers=record.headers,
            pinned=f"{remote.image_id} {algorithm}:{value}" if value else "",
            announced=Announced(display, facts.size, algorithm, value),
            remote=remote,
            arriving=facts.properties,
            remarks=() if value else (NO_DIGEST,),
        )
    )


@dataclass(frozen=True, slots=True)
class _Record:
    """Where to read an image's record; see `JudgedSource`."""

    uri: str
    headers: Mapping[str, str] = field(repr=False)


def _record_of(session: ImportSession, access: RemoteAccess) -> _Record:
    """Return where to read the image's record: at the region's configured URL, else the URL in the caller's catalogue.

    A configured region needs no further permission from the URI gate.
    """
    image = access.image
    remote = session.settings.remote(image.region)
    if remote is None:
        if not access.endpoint:
            raise RemoteUnknown(image.region, access.refusal)
        return _Record(image_url(access.endpoint, image.image_id), _token(access.token))
    token = Login(remote).token() if remote.complete else access.token if remote.send_caller_token else ""
    return _Record(image_url(remote.url, image.image_id), _token(token))


def _token(token: str) -> dict[str, str]:
    return {"X-Auth-Token": token} if token else {}


def _facts(session: ImportSession, ours: Image, image: RemoteImage, record: _Record) -> RemoteFacts:
    settings = session.settings
    try:
        request = SourceRequest(record.uri, record.headers)
        text = web_source(session, image).read_document(request, RECORD_LIMIT_BYTES, session.stop)
    except SourceRefused as refused:
        raise source_refusal(image, refused) from refused
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    facts = judge_remote(image, body, settings.glance_download.extra_properties, _DIGESTS)
    formats = settings.formats
    if facts.disk_format not in formats.disk_formats or facts.container_format not in formats.container_formats:
        reason = f"this site does not accept its formats, {facts.disk_format[:20]} in {facts.container_format[:20]}"
        raise RemoteUnusable(image.region, image.image_id, reason)
    together = {**ours.properties, **facts.properties}
    quota = settings.quota.image_property_quota
    if 0 <= quota < len(together):
        reason = f"with its properties the image would have {len(together)}, {quota} are allowed"
        raise RemoteUnusable(image.region, image.image_id, reason)
    size_bytes = properties_bytes(together)
    if size_bytes > LARGEST_PROPERTIES_BYTES:
        reason = f"its properties would have {size_bytes} bytes, {LARGEST_PROPERTIES_BYTES} are allowed"
        raise RemoteUnusable(image.region, image.image_id, reason)
    return facts
