"""Opens the catalogue: connections, transactions, migrations, and the key of its secrets."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import URL, Connection, Engine, column, create_engine, event, make_url, select, table
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.pool import ConnectionPoolEntry

from config.settings import DatabaseSettings, Settings
from transship.catalog.bell import Ring, notify_keepers, ring_keeper, taken_rings
from transship.catalog.faults import passing_faults, say
from transship.catalog.locks import ADVISORY_LOCK, add_unless_there
from transship.catalog.notifications import announced, write_announced
from transship.catalog.schema import META
from transship.domain.errors import CatalogUnavailable, ConfigurationRefused
from transship.host.directories import make_directory
from transship.host.doorbell import DOORBELL_SOCKET, ring

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS: Final = Path(__file__).parent / "migrations"
BEFORE_FIRST_RELEASE: Final = frozenset({"0001", "0002", "0003", "0004", "0005", "0006"})
"""Revisions of catalogues from before the first release, which cannot be upgraded."""
KEPT_CONNECTIONS: Final = 5
"""Connections to PostgreSQL that an idle process keeps open."""
CONNECT_TIMEOUT_S: Final = 10
IDLE_IN_TRANSACTION_S: Final = 60
"""Longer than any pause inside one of our transactions, which wait only for the database. A transaction that is
idle for longer belongs to a host that is gone, and must not keep its locks."""

_REVISION: Final = table("alembic_version", column("version_num"))


class Catalog:
    """The open database of the catalogue.

    Every write of an image begins by locking the image's lease row (`transship.catalog.images.lock_image`,
    `transship.catalog.leases`). So writers of one image are serialized on PostgreSQL, as all writers are on
    SQLite, and deadlocks are impossible.

    Attributes:
        engine: SQLAlchemy's engine; threads may share it.
        fernet: cipher of secrets and store settings.
    """

    def __init__(
        self,
        engine: Engine,
        fernet: Fernet,
        doorbell: Path | None = None,
        wants: Callable[[str], bool] = lambda _event_type: True,
    ) -> None:
        """Wrap an open database.

        Args:
            doorbell: socket of this machine's keeper; None: no keeper is rung.
            wants: whether notifications of a type are written.
        """
        self.engine, self.fernet, self._doorbell, self._wants = engine, fernet, doorbell, wants
        self._id = ""

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connect, and bring the schema up to date under a lock.

        Raises:
            ConfigurationRefused: the database cannot be reached, or its schema is of a newer release or of a
                version before the first one, or its key is missing, not a Fernet key, or not the one that the
                catalogue's secrets are encrypted with.
        """
        url = database_url(settings)
        with _faults_refused():
            if url.get_backend_name() == "sqlite" and url.database:
                make_directory(Path(url.database).parent, 0o700)
                # SQLite would create the file readable for everyone, as far as the umask allows.
                _opened_private(Path(url.database)).close()
            bell, wants = settings.run_dir / DOORBELL_SOCKET, settings.notifications.wants
            catalog = cls(_engine(url, settings.database), Fernet(_fernet_key(settings, url)), bell, wants)
        try:
            with _faults_refused():
                facts = _facts(catalog.engine)
                if facts.revision != _newest_revision():
                    migrate(catalog.engine, url)
                    facts = _facts(catalog.engine)
                catalog._take(facts)
        except BaseException:
            catalog.close()
            raise
        return catalog

    @classmethod
    def as_it_is(cls, settings: Settings) -> Self | None:
        """Connect for reading only, without creating or upgrading anything.

        Returns:
            None when no process of this release has opened it: it has no tables, or those of an older release.

        Raises:
            ConfigurationRefused: as `open`.
        """
        url = database_url(settings)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            return None
        key = _configured_key(settings, url)
        engine = _engine(url, settings.database)
        try:
            with _faults_refused():
                facts = _facts(engine)
                if facts.revision != _newest_revision():
                    _refuse_unknown(facts.revision)
                    engine.dispose()
                    return None
                catalog = cls(engine, Fernet(_read_key(_key_file(settings, url)) if key is None else key))
                if facts.key_check:
                    catalog._take(facts)
                return catalog
        except BaseException:
            engine.dispose()
            raise

    def _take(self, facts: _Facts) -> None:
        """Read the id, and refuse a key that differs from that of the catalogue's other processes."""
        if not facts.key_check:
            with self.write() as connection:
                add_unless_there(connection, META, "name", {"name": "key_check", "value": self.encrypt("").decode()})
            facts = _facts(self.engine)
        self.decrypt(facts.key_check.encode())
        self._id = facts.catalog_id

    def close(self) -> None:
        """Close all connections; a connection in use is closed when it is returned."""
        # Otherwise the discarded pool would keep it open until garbage collection.
        event.listen(self.engine.pool, "checkin", _close_returned)
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read-only transaction that sees one state of the catalogue.

        Raises:
            CatalogUnavailable: the database does not answer now.
        """
        with passing_faults(), self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """Connect for one statement, which is a transaction of its own.

        It cannot write notifications, and does not ring the keeper.

        Raises:
            CatalogUnavailable: as `write`.
        """
        with passing_faults(), _connected_for_one(self.engine) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes: it is committed at the end of the block, or rolled back on an exception.

        Its notifications are written before the commit, and the keeper is rung if it has work.

        On SQLite it waits for the write lock at once, because a read that later turns into a write
        would fail without waiting. On PostgreSQL each statement sees what was committed
        before it, so rows must be locked before decisions are based on them.

        Raises:
            CatalogUnavailable: the database does not answer now, or aborted the transaction in favour of
                another one; nothing was written, unless the answer to the commit itself was lost.
        """
        with (
            passing_faults(),
            self.engine.connect().execution_options(transship_write=True, transship_wants=self._wants) as connection,
        ):
            # The list belongs to the pooled connection, which a failed transaction may have used before.
            announced(connection).clear()
            taken_rings(connection)
            with connection.begin():
                yield connection
                if announced(connection):
                    write_announced(connection)
                    ring_keeper(connection, Ring.NEWS)
                rings = taken_rings(connection)
                notified = self.engine.dialect.name == "postgresql"
                if rings and notified:
                    notify_keepers(connection, rings)
            if rings and not notified and self._doorbell is not None:
                ring(self._doorbell, "".join(rings).encode())

    def id(self) -> str:
        """Return the catalogue's id, a UUID created with its database."""
        if not self._id:
            with self.statement() as connection:
                found = connection.execute(select(META.c.value).where(META.c.name == "catalog_id")).scalar_one()
            self._id = str(found)
        return self._id

    def encrypt(self, plain: str) -> bytes:
        """Return the ciphertext of a text."""
        return self.fernet.encrypt(plain.encode())

    def decrypt(self, ciphertext: bytes) -> str:
        """Return the text of a ciphertext.

        Raises:
            ConfigurationRefused: it was encrypted with another key.
        """
        try:
            return self.fernet.decrypt(ciphertext).decode()
        except InvalidToken as error:
            raise ConfigurationRefused(
                "settings",
                "database.secret_key",
                "the catalogue's secrets were encrypted with another key",
                "set that key, or see 'A lost key' in docs/databases.md",
            ) from error


@contextmanager
def _faults_refused() -> Iterator[None]:
    """Translate errors that prevent the catalogue from being opened."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename} cannot be used: {error.strerror}"
        raise ConfigurationRefused("settings", "database.url", reason) from error
    except (DBAPIError, CatalogUnavailable) as error:
        reason = f"the catalogue cannot be opened: {say(error)}"
        raise ConfigurationRefused("settings", "database.url", reason) from error


def refuse_bad_database(settings: Settings) -> None:
    """Check the database's URL and key as `Catalog.open` would, without creating anything or connecting.

    Raises:
        ConfigurationRefused: it could not be opened.
    """
    url = database_url(settings)
    if _configured_key(settings, url) is None and (path := _key_file(settings, url)).exists():
        _read_key(path)


_DATABASE_URLS: Final = "write sqlite:////path/to/catalog.db or postgresql://user:password@host/database"


def database_url(settings: Settings) -> URL:
    """Return the URL of the catalogue's database.

    Raises:
        ConfigurationRefused: it is not an SQLAlchemy URL of SQLite or PostgreSQL.
    """
    configured = settings.database.url.get_secret_value()
    try:
        url = make_url(configured) if configured else URL.create("sqlite", database=str(settings.home / "catalog.db"))
    except (ArgumentError, ValueError):
        # From None: the error's text may contain part of the password.
        raise ConfigurationRefused("settings", "database.url", "is not a database URL", _DATABASE_URLS) from None
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigurationRefused("settings", "database.url", f"{url.drivername} is not supported", _DATABASE_URLS)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        reason = "names no file, so each process would have its own catalogue"
        raise ConfigurationRefused("settings", "database.url", reason, "write sqlite:////path/to/catalog.db")
    return url


def _engine(url: URL, settings: DatabaseSettings) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, settings.busy_timeout_s)
    return _postgresql_engine(url, settings)


def _postgresql_engine(url: URL, settings: DatabaseSettings) -> Engine:
    kept = min(KEPT_CONNECTIONS, settings.max_connections)
    # Values in the URL override these.
    defaults = {"application_name": "transship", "connect_timeout": str(CONNECT_TIMEOUT_S)}
    engine = create_engine(
        url.set(query={**defaults, **url.query}),
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=kept,
        max_overflow=settings.max_connections - kept,
        pool_timeout=settings.busy_timeout_s,
        # Errors are logged with their statements, whose parameters include ciphertexts.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: ConnectionPoolEntry) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "select set_config('lock_timeout', %s, false),"
                " set_config('idle_in_transaction_session_timeout', %s, false)",
                (f"{settings.busy_timeout_s * 1000:.0f}ms", f"{IDLE_IN_TRANSACTION_S}s"),
            )
        connection.commit()

    return engine


def _sqlite_engine(url: URL, busy_timeout_s: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": busy_timeout_s}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: ConnectionPoolEntry) -> None:
        # By default sqlite3 begins transactions itself, and only before a write.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("transship_one", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("transship_write", False) else "BEGIN")

    return engine


def _connected_for_one(engine: Engine) -> Connection:
    """Connect for one statement, which either database commits by itself."""
    connection = engine.connect().execution_options(transship_one=True)
    if engine.dialect.name == "postgresql":
        # SQLite's driver always works so, and SQLAlchemy would take it out of that mode afterwards.
        connection.execution_options(isolation_level="AUTOCOMMIT")
    return connection


@dataclass(frozen=True, slots=True)
class _Facts:
    """A catalogue's own metadata; all empty while it has no tables."""

    revision: str = ""
    catalog_id: str = ""
    key_check: str = ""


def _facts(engine: Engine) -> _Facts:
    """Return a catalogue's own metadata.

    Raises:
        ConfigurationRefused: it was created by a version before the first release.
    """
    revision = select(_REVISION).scalar_subquery()
    known = select(META.c.name, META.c.value, revision.label("revision")).where(
        META.c.name.in_(["catalog_id", "key_check"])
    )
    try:
        with _connected_for_one(engine) as connection:
            rows = connection.execute(known).all()
    except (OperationalError, ProgrammingError):
        # There are no tables yet, or the database does not answer, in which case this raises.
        return _Facts(_revision(engine) or "")
    values = {row.name: row.value for row in rows}
    revision_found = rows[0].revision if rows else _revision(engine)
    _refuse_before_first_release(revision_found)
    return _Facts(revision_found or "", values.get("catalog_id", ""), values.get("key_check", ""))


def migrate(engine: Engine, url: URL) -> None:
    """Upgrade the schema to this release's revision; safe to call from many processes at once.

    A failed migration leaves the schema unchanged, and waiting processes continue.

    Raises:
        ConfigurationRefused: it was created by a version before the first release, or by a newer one.
    """
    # Importing Alembic takes a tenth of a second and 20 MB, so it is only done before the schema changes.
    from alembic import command  # noqa: PLC0415

    scripts = _migration_scripts()
    with (
        _newer_release_refused(),
        _migration_file_lock(url),
        engine.connect().execution_options(transship_write=True) as connection,
        connection.begin(),
    ):
        if connection.dialect.name == "postgresql":
            # Applies to this transaction only. A migration may take long.
            connection.exec_driver_sql("set local lock_timeout = 0")
            connection.exec_driver_sql(f"select pg_advisory_xact_lock({ADVISORY_LOCK})")
        scripts.attributes["connection"] = connection
        command.upgrade(scripts, "head")
        add_unless_there(connection, META, "name", {"name": "catalog_id", "value": str(uuid4())})


def _revision(engine: Engine) -> str | None:
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - as in `migrate`

    with engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    _refuse_before_first_release(revision)
    return revision


def _refuse_before_first_release(revision: str | None) -> None:
    if revision in BEFORE_FIRST_RELEASE:
        raise ConfigurationRefused(
            "settings",
            "database.url",
            f"a version before 0.1.0 created the catalogue (schema {revision}), and it cannot be upgraded",
            "start with an empty home directory and database, and import the images again",
        )


def _refuse_unknown(revision: str) -> None:
    """Refuse a revision that this release does not know."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as in `migrate`

    if revision:
        with _newer_release_refused():
            ScriptDirectory.from_config(_migration_scripts()).get_revision(revision)


@contextmanager
def _newer_release_refused() -> Iterator[None]:
    from alembic.util import CommandError  # noqa: PLC0415 - as in `migrate`

    try:
        yield
    except CommandError as error:
        reason = f"the catalogue belongs to a newer release ({error})"
        raise ConfigurationRefused("settings", "database.url", reason, "run that release") from error


def _migration_scripts() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - as in `migrate`

    scripts = Config()
    scripts.set_main_option("script_location", str(MIGRATIONS))
    return scripts


@cache
def _newest_revision() -> str:
    """Return this release's revision, the highest of those that begin the names of the migrations."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


@contextmanager
def _migration_file_lock(url: URL) -> Iterator[None]:
    if url.get_backend_name() != "sqlite" or not url.database:
        yield
        return
    with _opened_private(Path(f"{url.database}.lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _opened_private(path: Path) -> IO[bytes]:
    """Open a file for reading; create an empty one, closed to other accounts, if it does not exist."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb")


def _fernet_key(settings: Settings, url: URL) -> bytes:
    """Return the configured key, or that in the file next to the database, which is created if necessary."""
    configured = _configured_key(settings, url)
    if configured is not None:
        return configured
    path = _key_file(settings, url)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(Fernet.generate_key())
        stream.flush()
        os.fsync(stream.fileno())
    return _read_key(path)


_NEW_KEY: Final = "create one with 'transship config new-key'"


def _configured_key(settings: Settings, url: URL) -> bytes | None:
    configured = settings.database.secret_key.get_secret_value().encode()
    if configured:
        if not _is_fernet_key(configured):
            raise ConfigurationRefused("settings", "database.secret_key", "is not a Fernet key", _NEW_KEY)
        return configured
    if url.get_backend_name() != "sqlite":
        raise ConfigurationRefused(
            "settings",
            "database.secret_key",
            "is required with PostgreSQL, so that every host reads the same secrets",
            _NEW_KEY,
        )
    return None


def _key_file(settings: Settings, url: URL) -> Path:
    return Path(url.database or settings.home / "catalog.db").with_suffix(".key")


def _read_key(path: Path) -> bytes:
    # Another process may have created the file and be about to write it.
    for _ in range(100):
        try:
            key = path.read_bytes()
        except OSError as error:
            reason = f"the key cannot be read: {error.strerror}"
            raise ConfigurationRefused(str(path), "database.secret_key", reason) from error
        if len(key) == 44:
            break
        os.sched_yield()
    if not _is_fernet_key(key):
        reason = "does not hold a Fernet key"
        raise ConfigurationRefused(str(path), "database.secret_key", reason, "restore it from a backup")
    return key


def _is_fernet_key(key: bytes) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


def _close_returned(connection: DBAPIConnection | None, _record: ConnectionPoolEntry) -> None:
    if connection is not None:
        connection.close()
