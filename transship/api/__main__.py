"""``python -m transship.api``: serve the Images API until SIGTERM or SIGINT.

After SIGHUP another process takes new requests; this one ends when it has answered its current ones. It listens where
the settings say or, under a supervisor, on inherited sockets.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from types import FrameType
from typing import Final

import structlog
import uvicorn

from config.snapshot import settings_in_force
from transship.api import API_READY
from transship.api.app import build_app
from transship.api.http_protocol import BoundedHttpProtocol
from transship.catalog.engine import Catalog
from transship.domain.errors import ConfigurationRefused
from transship.host.logs import configure_logs

DRAIN_S: Final = 30
"""Seconds that running downloads may take after the stop signal."""

log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """A server that reports when it accepts requests."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting requests."""
        await super().startup(sockets)
        if self.started:
            print(API_READY, flush=True)

    def finish(self, _number: int, _frame: FrameType | None) -> None:
        """Accept no new requests, and end when the current ones are answered, however long that takes."""
        self.config.timeout_graceful_shutdown = None
        self.should_exit = True


def main() -> int:
    """Serve until stopped; return the exit code."""
    parser = argparse.ArgumentParser(description="Serve the Images API.")
    parser.add_argument("--socket", type=int, action="append", metavar="NUMBER", help="inherited socket to listen on")
    inherited = parser.parse_args().socket
    try:
        loaded = settings_in_force()
        settings = loaded.settings
        configure_logs(settings.log.level, "api")
        catalog = Catalog.open(settings)
    except ConfigurationRefused as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # When uvicorn is done, it raises the signal that stopped it again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        app = build_app(settings, catalog, loaded.texts)
        server = Server(
            uvicorn.Config(
                app,
                host=settings.api.host,
                port=settings.api.port,
                access_log=False,
                log_config=None,
                lifespan="off",
                server_header=False,
                proxy_headers=False,  # decided by api.enable_proxy_headers_parsing
                http=BoundedHttpProtocol,
                ws="none",
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        signal.signal(signal.SIGHUP, server.finish)
        server.run([socket.socket(fileno=number) for number in inherited] if inherited else None)
        return 0 if server.started else 1
    except ConfigurationRefused as error:
        log.error("configuration refused", reason=str(error))  # noqa: TRY400 - the trace says nothing more
        return 2
    finally:
        catalog.close()


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
