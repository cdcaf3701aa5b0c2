"""``python -m transship.runner.prefect_server``: Prefect's own server, patched in two places.

Most of Prefect's transactions read first and take SQLite's write lock only when they write. SQLite
fails such a transaction at once if another one wrote in between, and the server answers 503. Here every transaction
takes the lock when it begins, and waits for it. With PostgreSQL no patch is needed.

An update of a block drops its references to other blocks unless it names them. Prefect's UI sends their masked contents
instead, so every edit of a store would lose the store's credentials. Here such references stay.

What is patched is not part of Prefect's public interface. If it is not as expected, the server starts without that.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

from transship.domain.errors import ConfigurationRefused
from transship.host.ports import require_free_port

NOTE_FILE: Final = "prefect-server.json"
"""Name of the note about the running server in the home directory's ``run``."""

EXPECTED: Final = ("self", "session", "with_for_update")
"""Parameters of ``AioSqliteConfiguration.begin_transaction`` in Prefect 3.9."""

EXPECTED_SETUP: Final = ("self", "conn", "record")
"""Parameters of ``AioSqliteConfiguration.setup_sqlite``."""

EXPECTED_UPDATE: Final = ("db", "session", "block_document_id", "block_document")
"""Parameters of ``prefect.server.models.block_documents.update_block_document``."""

CACHE_KIB: Final = 4096
"""What a connection to SQLite keeps of the database; the kernel keeps the rest."""


@dataclass(frozen=True, slots=True)
class ServerNote:
    """How a server was started.

    Attributes:
        immediate: whether its write transactions on SQLite wait for one another.
        reason: why they do not; empty if they do.
    """

    immediate: bool
    reason: str = ""


def write_at_once() -> ServerNote:
    """Patch this process's Prefect server so that every transaction takes SQLite's write lock when it begins."""
    try:
        from prefect.server.database.configurations import (  # noqa: PLC0415 - slow, and private
            SQLITE_BEGIN_MODE,
            AioSqliteConfiguration,
        )
    except ImportError as error:
        return ServerNote(False, f"Prefect has changed: {error}")
    bound_cache(AioSqliteConfiguration)
    return patch(AioSqliteConfiguration, SQLITE_BEGIN_MODE)


def bound_cache(configuration: Any) -> None:
    """Let each connection keep `CACHE_KIB` of the database instead of 80 MiB, if the class is as expected.

    Args:
        configuration: has a method ``setup_sqlite(conn, record)``, called for each new connection.
    """
    setup = getattr(configuration, "setup_sqlite", None)
    if setup is None or tuple(inspect.signature(setup).parameters) != EXPECTED_SETUP:
        return

    @wraps(setup)
    def set_up(self: Any, conn: Any, record: Any) -> None:
        setup(self, conn, record)
        cursor = conn.cursor()
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        cursor.close()

    configuration.setup_sqlite = set_up


def keep_references(block_documents: Any) -> None:
    """Let updates of blocks keep references that they do not change, if Prefect is as expected.

    An update does not change what it leaves out, or sends back as it was read.

    Args:
        block_documents: Prefect's module of that name, with the functions that read and update documents.
    """
    update = getattr(block_documents, "update_block_document", None)
    if update is None or tuple(inspect.signature(update).parameters) != EXPECTED_UPDATE:
        return

    @wraps(update)
    async def update_block_document(*, session: Any, block_document_id: Any, block_document: Any) -> Any:
        read = block_documents.read_block_document_by_id
        found = await read(session=session, block_document_id=block_document_id)
        if found is not None and block_document.data:
            unsent = found.data if block_document.merge_existing_data else {}
            sent = {**unsent, **block_document.data}
            kept = {
                name: {"$ref": {"block_document_id": str(reference["block_document"]["id"])}}
                for name, reference in found.block_document_references.items()
                if name in sent and sent[name] == found.data[name]
            }
            block_document = block_document.model_copy(update={"data": {**block_document.data, **kept}})
        return await update(session=session, block_document_id=block_document_id, block_document=block_document)

    block_documents.update_block_document = update_block_document


def patch(configuration: Any, mode: ContextVar[str | None]) -> ServerNote:
    """Patch a class of database configuration if it is as expected.

    Args:
        configuration: has an asynchronous context manager ``begin_transaction(session, with_for_update=False)``.
        mode: how sessions of this context begin transactions; that method sets it.
    """
    begin = getattr(configuration, "begin_transaction", None)
    if begin is None:
        return ServerNote(False, "Prefect has changed: no method begin_transaction")
    found = tuple(inspect.signature(begin).parameters)
    if found != EXPECTED:
        return ServerNote(False, f"Prefect has changed: begin_transaction takes {', '.join(found)}")

    @asynccontextmanager
    @wraps(begin)
    async def begin_immediately(self: Any, session: Any, with_for_update: bool = True) -> AsyncIterator[Any]:
        async with begin(self, session, with_for_update=True) as transaction:
            # Begin now: a second session that is opened meanwhile only to read, e.g. when a work queue is paused,
            # must not wait for this one's lock.
            await session.connection()
            token = mode.set(None)
            try:
                yield transaction
            finally:
                mode.reset(token)

    configuration.begin_transaction = begin_immediately
    return ServerNote(True)


def read_note(path: Path) -> ServerNote | None:
    """Return how the server was started; None if that was not recorded."""
    try:
        return ServerNote(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_note(path: Path, note: ServerNote) -> None:
    """Record how the server was started; if writing fails, only the note is lost."""
    try:
        path.write_text(json.dumps(asdict(note)), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"{path} cannot be written: {error.strerror}\n")


def main() -> int:
    """Run the server until SIGTERM; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--note", type=Path, help="file in which to write how the server was started")
    parser.add_argument("--host", help="address to listen on instead of PREFECT_SERVER_API_HOST")
    parser.add_argument("--port", type=int, help="port to listen on instead of PREFECT_SERVER_API_PORT")
    options = parser.parse_args()
    from prefect.settings import get_current_settings  # noqa: PLC0415 - slow, as the others

    server = get_current_settings().server
    host, port = options.host or server.api.host, options.port or server.api.port
    try:
        require_free_port(host, port, "prefect.port")
    except ConfigurationRefused as refused:
        sys.stderr.write(f"{refused}\n")
        return 2
    from prefect.server.models import block_documents  # noqa: PLC0415

    keep_references(block_documents)
    note = write_at_once()
    if not note.immediate:
        sys.stderr.write(f"warning: writes on SQLite may be answered with 503: {note.reason}\n")
    if options.note is not None:
        write_note(options.note, note)
    serve(host, port)
    return 0


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM, as ``prefect server start`` does."""
    import uvicorn  # noqa: PLC0415 - slow, as the others
    from prefect.server.api.server import create_app  # noqa: PLC0415
    from prefect.settings import get_current_settings  # noqa: PLC0415

    server = get_current_settings().server
    app = create_app(final=True)
    # What stays for good is not looked through again and again.
    gc.freeze()
    uvicorn.run(
        app,
        host=host,
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    raise SystemExit(main())
