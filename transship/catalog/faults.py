"""Recognizes transient faults of the database and raises them as `CatalogUnavailable`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from transship.domain.errors import CatalogUnavailable

log = structlog.get_logger("transship.catalog")

LOST: Final = "the connection to it is lost or was refused"

_SQLITE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_BUSY: "another process kept it locked for too long",
    sqlite3.SQLITE_LOCKED: "another process kept it locked for too long",
    sqlite3.SQLITE_FULL: "its disk is full",
}
_POSTGRESQL: Final[Mapping[str, str]] = {
    "08": LOST,
    "25006": "the server is a standby and takes no writes",
    "25P03": LOST,
    "40": "it ended the transaction in favour of another one",
    "53": "the server lacks connections, memory or disk",
    "55P03": "another process kept it locked for too long",
    "57": "the server is being stopped or started",
}
"""Reasons by SQLSTATE, or by its first two characters, the class."""


@contextmanager
def passing_faults() -> Iterator[None]:
    """Raise transient faults as `CatalogUnavailable`; defects and refused values pass unchanged."""
    try:
        yield
    except PoolTimeout as error:
        raise CatalogUnavailable("all connections of this process to it are in use") from error
    except DBAPIError as error:
        reason = _passing_reason(error)
        if reason is None:
            raise
        # Logged only: the driver's text names hosts, which callers of the API must not see.
        log.warning("catalogue unavailable", reason=reason, error=say(error))
        raise CatalogUnavailable(reason) from error


def _passing_reason(error: DBAPIError) -> str | None:
    if error.connection_invalidated:
        return LOST
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        # The lowest byte is the primary result code.
        return _SQLITE.get(code & 0xFF)
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    # Without a code the server did not answer.
    without_answer = isinstance(error, OperationalError | InterfaceError)
    return LOST if without_answer and not isinstance(error.orig, sqlite3.Error) else None


def say(error: DBAPIError | CatalogUnavailable) -> str:
    """Return the driver's message in one line."""
    cause = error.orig if isinstance(error, DBAPIError) else error.__cause__
    driver_error = cause.orig if isinstance(cause, DBAPIError) else cause
    return " ".join(str(driver_error or error).split())
