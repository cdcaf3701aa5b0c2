"""Which database the catalogues of a test session live in: SQLite, or a PostgreSQL server of the session's own.

Every home directory of a test has a catalogue of its own: on SQLite a file in it, on PostgreSQL a
database that is made when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cryptography.fernet import Fernet
from sqlalchemy import make_url

from config.settings import Settings
from tests.fakes.postgres import PostgresServer
from transship.catalog.engine import Catalog

SQLITE, POSTGRESQL = "sqlite", "postgresql"


class Databases:
    """Databases by home directory.

    Attributes:
        server: where they are; None: in files of the home directories.
    """

    def __init__(self) -> None:
        self.server: PostgresServer | None = None
        self._key = Fernet.generate_key().decode()
        self._template = ""
        self._urls: dict[Path, str] = {}

    @property
    def kind(self) -> str:
        return SQLITE if self.server is None else POSTGRESQL

    def start(self) -> None:
        """Use PostgreSQL from now on."""
        self.server = PostgresServer().__enter__()
        # Copying a migrated database is faster than migrating again.
        url = self.server.new_database()
        Catalog.open(Settings.model_validate({"home": "/", "database": self._section(url)})).close()
        self._template = name_of(url)

    def stop(self) -> None:
        """End the server, if one was started."""
        server, self.server = self.server, None
        if server is not None:
            server.__exit__(None, None, None)

    def options(self, home: Path) -> dict[str, str]:
        """Return the options, by dotted name, that lead to a home directory's database; none for SQLite."""
        if self.server is None:
            return {}
        if home not in self._urls:
            self._urls[home] = self.server.new_database(self._template)
        return {f"database.{name}": value for name, value in self._section(self._urls[home]).items()}

    def section(self, home: Path) -> dict[str, str]:
        """Return the same as the section ``database`` of the settings."""
        return {name.removeprefix("database."): value for name, value in self.options(home).items()}

    def environment(self, home: Path) -> dict[str, str]:
        """Return the same as variables for another process."""
        return {"TRANSSHIP_" + name.upper().replace(".", "__"): value for name, value in self.options(home).items()}

    def empty(self, home: Path) -> Mapping[str, str]:
        """Create an empty database for a home directory; return the section ``database``."""
        if self.server is not None:
            self._urls[home] = self.server.new_database()
        return self.section(home)

    @contextmanager
    def dropped_afterwards(self) -> Iterator[None]:
        """Remove the databases created within the block."""
        before = set(self._urls)
        yield
        for home in set(self._urls) - before:
            assert self.server is not None
            self.server.drop_database(name_of(self._urls.pop(home)))

    def _section(self, url: str) -> dict[str, str]:
        return {"url": url, "secret_key": self._key}


DATABASES = Databases()
"""The ones of this test session; `tests/conftest.py` chooses the kind by ``--database``."""


def name_of(url: str) -> str:
    """Return the name of a database."""
    return str(make_url(url).database)
