"""The connection to a Ceph cluster, and what its errors mean for a store.

librados reconnects by itself, but not if the cluster has blocked the client; and a client that got no answer in time
may still be registered as a watcher of an image. Either connection is replaced by a new one.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import rados
import rbd
import structlog

from transship.domain.errors import StoreDenied, StoreFull, StoreUnavailable, TransferFailed
from transship.stores.ceph.pool import NO_ROOM, Pool

ANSWER_TIMEOUT_S: Final = 30
"""Seconds that an operation may take before the store counts as unavailable; more than the restart of an OSD takes."""

_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_LOST: Final = frozenset({errno.ESHUTDOWN, errno.ETIMEDOUT, errno.ENOTCONN})
"""Errors after which a connection is not used again."""

_REASONS: Final[Mapping[int, str]] = {
    errno.ESHUTDOWN: "the cluster has blocked this client",
    errno.ETIMEDOUT: "the cluster does not answer",
}

log = structlog.get_logger("transship.stores")


@dataclass(slots=True, eq=False)
class _Session:
    """A connection, its number of users, and whether the last one closes it."""

    client: rados.Rados
    users: int = 0
    retired: bool = False


class Cluster:
    """One pool of a cluster, as one user. May be used from several threads.

    Args:
        store_id: id of the store, for messages.
        conf: path of ``ceph.conf``, which also names the keyring.
        user: name without ``client.``; empty: Ceph's default.
        pool: name of the pool.
        connect_timeout_s: seconds that the monitors may take to answer.
    """

    def __init__(self, store_id: str, conf: Path, user: str, pool: str, connect_timeout_s: int) -> None:
        self._store_id = store_id
        self._conf, self._user, self._pool = conf, user, pool
        self._connect_timeout_s = connect_timeout_s
        self._session: _Session | None = None
        self._lock = threading.Lock()
        self._fsid = ""

    @property
    def fsid(self) -> str:
        """The cluster's id, known once it was connected.

        Raises:
            RuntimeError: it never was.
        """
        if not self._fsid:
            raise RuntimeError(f"store {self._store_id} was not opened")
        return self._fsid

    def configured_fsid(self) -> str:
        """Return the cluster's id as ``ceph.conf`` names it; empty if it does not, or cannot be read."""
        with suppress(rados.Error):
            return str(self._configured().conf_get("fsid") or "")
        return ""

    def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable: there is no usable configuration, or the monitors do not answer.
            StoreDenied: the cluster does not accept the user.
        """
        with self._lock:
            self._session = self._connected()

    def close(self) -> None:
        """Disconnect, at the latest when the last operation has ended."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            self._retire(session)

    @contextmanager
    def pool(self, needed_bytes: int = 0) -> Iterator[Pool]:
        """Provide the pool for one operation, and translate the errors of its libraries into the store's.

        Args:
            needed_bytes: what the operation writes, for messages.

        Raises:
            StoreFull, StoreDenied, StoreUnavailable: as the libraries' errors say.
        """
        session = self._take()
        try:
            # Looked up each time: another pool may have got the name.
            with session.client.open_ioctx(self._pool) as ioctx:
                ioctx.set_osdmap_full_try()  # without it, writes to a full pool wait for room
                yield Pool(self._store_id, session.client, ioctx)
        except (rados.Error, rbd.Error, OSError) as error:
            if getattr(error, "errno", None) in _LOST:
                self._retire(session)
            raise self._translated(error, needed_bytes) from error
        finally:
            self._leave(session)

    def command(self, **words: str) -> Any:
        """Ask the monitors; return their answer.

        Raises:
            StoreUnavailable, StoreDenied: they do not answer, or do not allow it.
        """
        session = self._take()
        try:
            question = json.dumps({**words, "format": "json"})
            code, answer, _text = session.client.mon_command(question, b"", self._connect_timeout_s)
            if code:
                raise self._translated(OSError(-code, os.strerror(-code)), 0)
            return json.loads(answer)
        except rados.Error as error:
            raise self._translated(error, 0) from error
        finally:
            self._leave(session)

    def _take(self) -> _Session:
        with self._lock:
            if self._session is None or self._session.retired:
                self._session = self._connected()
            self._session.users += 1
            return self._session

    def _leave(self, session: _Session) -> None:
        with self._lock:
            session.users -= 1
            last = session.retired and session.users == 0
        if last:
            _shut_down(session)

    def _retire(self, session: _Session) -> None:
        with self._lock:
            unused = session.users == 0 and not session.retired
            session.retired = True
        if unused:
            _shut_down(session)

    def _configured(self) -> rados.Rados:
        return rados.Rados(conffile=str(self._conf), rados_id=self._user or None)

    def _connected(self) -> _Session:
        try:
            client = self._configured()
        except rados.Error as error:
            raise self._not_connected(error, "Ceph's configuration file cannot be read") from error
        options = {
            "client_mount_timeout": self._connect_timeout_s,
            "rados_mon_op_timeout": self._connect_timeout_s,
            "rados_osd_op_timeout": ANSWER_TIMEOUT_S,
        }
        try:
            for name, value in options.items():
                client.conf_set(name, str(value))
            client.connect()
            self._fsid = client.get_fsid()
        except rados.Error as error:
            with suppress(rados.Error):
                client.shutdown()
            reasons = {errno.ENOENT: "there is no keyring for its user", errno.ETIMEDOUT: "no monitor answers"}
            code = getattr(error, "errno", None) or 0
            raise self._not_connected(error, reasons.get(code, "it cannot be connected")) from error
        return _Session(client)

    def _not_connected(self, error: rados.Error, reason: str) -> TransferFailed:
        log.info("store not connected", store=self._store_id, conf=str(self._conf), reason=str(error))
        if getattr(error, "errno", None) in _DENIED:
            return StoreDenied(self._store_id, "the cluster does not accept its user")
        return StoreUnavailable(self._store_id, reason)

    def _translated(self, error: Exception, needed_bytes: int) -> TransferFailed:
        code = getattr(error, "errno", None) or 0
        if code in NO_ROOM:
            return StoreFull(self._store_id, needed_bytes)
        log.info("store not usable", store=self._store_id, pool=self._pool, reason=str(error))
        if code in _DENIED:
            return StoreDenied(self._store_id, os.strerror(code))
        if isinstance(error, rados.ObjectNotFound):
            return StoreUnavailable(self._store_id, "its pool does not exist, or an object of it is gone")
        return StoreUnavailable(self._store_id, _REASONS.get(code) or (os.strerror(code) if code else str(error)))


def _shut_down(session: _Session) -> None:
    with suppress(rados.Error):
        session.client.shutdown()
