"""Sources as the settings of a session describe them."""

from __future__ import annotations

from tasks.session import DataSource, ImportSession
from transship.domain.clock import utc_now
from transship.domain.errors import RemoteRefused, SourceRefused, TransferFailed
from transship.sources.gate import UriGate, gate_from
from transship.sources.web import WebSource


def uri_gate(session: ImportSession, source: DataSource) -> UriGate:
    """Return the gate that every address of a source passes."""
    return gate_from(session.settings, session.settings.remote(source.region) if source.region else None)


def data_source(session: ImportSession) -> DataSource:
    """Return where the data come from: what a step before found out, else the URI that was asked for."""
    return session.source or DataSource(session.begun.uri)


def told_of_remote(session: ImportSession, refused: SourceRefused) -> TransferFailed:
    """Return a refusal in the words of the import method: a Glance's says what the token's owner may do."""
    access = session.begun.access
    if access is None or refused.status < 400:
        return refused
    return RemoteRefused(access.image.region, access.image.image_id, refused.status)


def web_source(session: ImportSession, source: DataSource) -> WebSource:
    """Return the download engine with this site's limits, and the gate of a source."""
    settings = session.settings

    def waiting(host: str) -> None:
        session.board.wait_for(f"a connection to {host}", utc_now(), "it goes on when other downloads from there end")

    return WebSource(
        uri_gate(session, source),
        settings.download,
        settings.imports.image_size_cap_bytes,
        reserve_step_bytes=settings.staging.unknown_size_reserve_bytes,
        slots_file=session.staging.connections_file,
        waiting=waiting,
    )
