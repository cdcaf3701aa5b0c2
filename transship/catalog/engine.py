"""Opening the catalogue: connections, transactions, migrations, the key of its secrets."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, make_url, select, text
from sqlalchemy.exc import ArgumentError, OperationalError

from config.settings import Settings
from transship.catalog.schema import META
from transship.domain.errors import ConfigurationRefused

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 7021973
"""Any number that no other user of the database locks; the same in all processes of Transship."""


class Catalog:
    """The catalogue's database, open.

    Attributes:
        engine: SQLAlchemy's engine; threads may share it.
        fernet: cipher of secrets and store settings.
    """

    def __init__(self, engine: Engine, fernet: Fernet) -> None:
        self.engine, self.fernet = engine, fernet

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connect, and bring the schema up to date under a lock.

        Raises:
            ConfigurationRefused: the database cannot be reached, or its key is missing or not a Fernet key.
        """
        url = database_url(settings)
        engine = _engine(url, settings.database.busy_timeout_s)
        try:
            if url.get_backend_name() == "sqlite" and url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            migrate(engine, url)
        except OSError as error:
            reason = f"{error.filename} cannot be used: {error.strerror}"
            raise ConfigurationRefused("settings", "database.url", reason) from error
        except OperationalError as error:
            raise ConfigurationRefused(
                "settings", "database.url", f"the catalogue cannot be opened: {error.orig}"
            ) from error
        return cls(engine, Fernet(_fernet_key(settings, url)))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and sees one state of the catalogue."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end of the block, rolled back when it raises.

        On SQLite it takes the write lock at once and waits for it, because a read that later
        turns into a write fails without waiting.
        """
        with self.engine.connect().execution_options(transship_write=True) as connection, connection.begin():
            yield connection

    def id(self) -> str:
        """Return the catalogue's id, a UUID made when its database was."""
        with self.read() as connection:
            return str(connection.execute(select(META.c.value).where(META.c.name == "catalog_id")).scalar_one())

    def encrypt(self, plain: str) -> bytes:
        """Return the ciphertext of a text."""
        return self.fernet.encrypt(plain.encode())

    def decrypt(self, ciphertext: bytes) -> str:
        """Return the text of a ciphertext.

        Raises:
            ConfigurationRefused: it was encrypted under another key.
        """
        try:
            return self.fernet.decrypt(ciphertext).decode()
        except InvalidToken as error:
            raise ConfigurationRefused(
                "settings", "database.secret_key", "the catalogue's secrets were encrypted with another key"
            ) from error


def database_url(settings: Settings) -> URL:
    """Return the URL of the catalogue's database in force.

    Raises:
        ConfigurationRefused: it is not an SQLAlchemy URL of SQLite or PostgreSQL.
    """
    configured = settings.database.url.get_secret_value()
    try:
        url = make_url(configured) if configured else URL.create("sqlite", database=str(settings.home / "catalog.db"))
    except ArgumentError as error:
        raise ConfigurationRefused("settings", "database.url", "is not an SQLAlchemy database URL") from error
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigurationRefused(
            "settings", "database.url", f"{url.drivername} is not supported; use sqlite:/// or postgresql://"
        )
    return url


def _engine(url: URL, busy_timeout_s: float) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": busy_timeout_s})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # sqlite3 would begin transactions by itself, and only before a write.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("transship_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def migrate(engine: Engine, url: URL) -> None:
    """Bring the schema to this release's revision; safe to call from many processes at once."""
    scripts = Config()
    scripts.set_main_option("script_location", str(MIGRATIONS))
    newest = ScriptDirectory.from_config(scripts).get_current_head()
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == newest:
            return
    with (
        _migration_lock(engine, url),
        engine.connect().execution_options(transship_write=True) as connection,
        connection.begin(),
    ):
        scripts.attributes["connection"] = connection
        command.upgrade(scripts, "head")
        if connection.execute(select(META.c.value).where(META.c.name == "catalog_id")).first() is None:
            connection.execute(insert(META).values(name="catalog_id", value=str(uuid4())))


@contextmanager
def _migration_lock(engine: Engine, url: URL) -> Iterator[None]:
    if url.get_backend_name() == "sqlite":
        if not url.database:
            yield
            return
        with Path(f"{url.database}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with engine.connect() as connection, connection.begin():
        connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("select pg_advisory_unlock(:lock)"), {"lock": ADVISORY_LOCK})


def _fernet_key(settings: Settings, url: URL) -> bytes:
    configured = settings.database.secret_key.get_secret_value().encode()
    if configured:
        try:
            Fernet(configured)
        except ValueError as error:
            raise ConfigurationRefused(
                "settings", "database.secret_key", "is not a Fernet key; make one with 'transship config new-key'"
            ) from error
        return configured
    if url.get_backend_name() != "sqlite":
        raise ConfigurationRefused(
            "settings",
            "database.secret_key",
            "is required with PostgreSQL, so that every host reads the same secrets;"
            " make one with 'transship config new-key'",
        )
    path = Path(url.database or settings.home / "catalog.db").with_suffix(".key")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(Fernet.generate_key())
        stream.flush()
        os.fsync(stream.fileno())
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    # Another process may have created the file and not written it yet: its lock-free window is one write.
    for _ in range(100):
        key = path.read_bytes()
        if len(key) == 44:
            return key
        os.sched_yield()
    raise ConfigurationRefused(str(path), "database.secret_key", "does not hold a Fernet key; restore it from a backup")
