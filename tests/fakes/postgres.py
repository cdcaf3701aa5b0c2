"""A real PostgreSQL server on loopback, with its own directory, port and password."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.fakes.ports import free_port

START_TIMEOUT_S = 540.0
STOP_TIMEOUT_S = 60.0
DEBIAN_BINARIES = Path("/usr/lib/postgresql")
USER = "transship"

# Nothing here has to survive a power cut.
TUNING = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "deadlock_timeout": "200ms",
    "log_min_messages": "warning",
}


def postgres_binaries() -> Path | None:
    """Return the directory of PostgreSQL's server programs, the newest of Debian's; None without any."""
    versions = (path for path in DEBIAN_BINARIES.glob("*/bin") if (path / "initdb").exists())
    newest = max(versions, key=lambda path: float(path.parent.name), default=None)
    if newest is not None:
        return newest
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


class PostgresServer:
    """Start a server on entering and stop it on leaving; a fresh one needs some seconds.

    Texts are sorted by a language's rules, as in most real clusters and unlike in SQLite, so that
    what depends on the order of bytes has to say so.

    Attributes:
        port: on 127.0.0.1; stays over a restart.
    """

    def __init__(self) -> None:
        found = postgres_binaries()
        if found is None:
            raise RuntimeError("PostgreSQL's server programs are not installed; apt-get install postgresql")
        self._binaries = found
        self._password = secrets.token_hex(16)
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        try:
            self._make_cluster()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """Create a database as a copy of another one that is not in use; return its URL."""
        name = f"test_{uuid4().hex}"
        with self._admin() as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, and end its connections."""
        with self._admin() as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def start(self) -> None:
        """Start the server on its former port; a new one gets a free port."""
        for _ in range(5):
            port = self.port or free_port()
            if self._started(port):
                self.port = port
                return
        raise RuntimeError(f"the PostgreSQL server does not start:\n{self._log()}")

    def stop(self) -> None:
        """Stop the server at once, as a reboot would, keeping its data."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def _make_cluster(self) -> None:
        password = self._directory / "password"
        password.write_text(self._password)
        if os.geteuid() == 0:
            account = _account()
            for path in (self._directory, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        words = ("--username", USER, "--pwfile", str(password), "--auth", "password", "--no-sync", "--no-instructions")
        collation = ("--encoding", "UTF8", "--locale", "C", "--locale-provider", "icu", "--icu-locale", "en")
        done = subprocess.run(
            self._as_account("initdb", "--pgdata", str(self._data), *words, *collation),
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _started(self, port: int) -> bool:
        options = [word for name, value in TUNING.items() for word in ("-c", f"{name}={value}")]
        with (self._directory / "server.log").open("ab") as log:
            process = subprocess.Popen(
                self._as_account("postgres", "-D", str(self._data), "-p", str(port), *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self._admin_url(port), connect_timeout=5).close()
            except psycopg.OperationalError:
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                return False
            self._process = process
            return True
        process.kill()
        process.wait()
        return False

    def _as_account(self, program: str, *arguments: str) -> Sequence[str]:
        """Return the command line that runs one of PostgreSQL's programs; it refuses to run as root.

        The server dies with whoever started it, so that a killed test run leaves none.
        """
        command = [str(self._binaries / program), *arguments]
        become = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            account = _account()
            become += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return [*become, "--", *command]

    def _admin_url(self, port: int) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{port}/postgres"

    def _admin(self) -> psycopg.Connection:
        return psycopg.connect(self._admin_url(self.port), autocommit=True)

    def _log(self) -> str:
        return (self._directory / "server.log").read_text()[-4000:]

    def _remove(self) -> None:
        self.stop()
        shutil.rmtree(self._directory)


def _account() -> pwd.struct_passwd:
    """Return an unprivileged account that may own a cluster: Debian's own, else nobody."""
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
