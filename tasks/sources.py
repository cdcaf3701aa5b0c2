"""Download sources with the settings of a session."""

from __future__ import annotations

from tasks.session import ImportSession
from transship.domain.clock import utc_now
from transship.domain.errors import RemoteRefused, SourceRefused, TransferFailed
from transship.domain.remote import RemoteImage
from transship.domain.staged import LITTLE_AHEAD_BYTES
from transship.sources.gate import UriGate, gate_from
from transship.sources.web import WebSource


def uri_gate(session: ImportSession, remote: RemoteImage | None = None) -> UriGate:
    """Return the gate that every address of a source must pass.

    Args:
        remote: the image, if the source is another Glance; None for a plain URL.
    """
    return gate_from(session.settings, None if remote is None else session.settings.remote(remote.region))


def source_refusal(remote: RemoteImage | None, refused: SourceRefused) -> TransferFailed:
    """Return the error of the import method for a refusal: a Glance's explains what the token's owner may do."""
    if remote is None or refused.status < 400:
        return refused
    return RemoteRefused(remote.region, remote.image_id, refused.status)


def web_source(session: ImportSession, remote: RemoteImage | None) -> WebSource:
    """Return the download engine with this site's limits and the gate for a source; see `uri_gate`."""
    settings = session.settings
    step_bytes = settings.staging.unknown_size_reserve_bytes

    def waiting(host: str) -> None:
        session.board.wait_for(f"a connection to {host}", utc_now(), "it continues when other downloads from there end")

    return WebSource(
        uri_gate(session, remote),
        settings.download,
        settings.imports.image_size_cap_bytes,
        reserve_step_bytes=min(step_bytes, LITTLE_AHEAD_BYTES) if session.quota else step_bytes,
        slots_file=session.staging.connections_file,
        waiting=waiting,
    )
