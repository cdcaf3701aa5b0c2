"""Behaviour specific to a server: it goes away, it is full, it has a collation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError

from config.settings import Settings
from tests.fakes.images import queued_image, read_image, settings_in
from tests.fakes.postgres import PostgresServer, postgres_binaries
from transship.catalog.engine import Catalog
from transship.catalog.health import look_at
from transship.catalog.images import lock_image
from transship.domain.errors import CatalogUnavailable, ConfigurationRefused

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        postgres_binaries() is None,
        reason="PostgreSQL's server programs are not installed (apt-get install postgresql)",
    ),
]


@dataclass(frozen=True)
class Place:
    """A server that a test may stop, and the settings of a database on it."""

    server: PostgresServer
    home: Path
    key: str

    def settings(self, **changes: object) -> Settings:
        database = {"url": self.server.url("postgres"), "secret_key": self.key, **changes}
        return settings_in(self.home, database=database)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with PostgresServer() as server:
        yield Place(server, tmp_path_factory.mktemp("home"), Fernet.generate_key().decode())


@pytest.fixture
def remote(place: Place) -> Iterator[Catalog]:
    opened = Catalog.open(place.settings())
    yield opened
    opened.close()


def test_a_restart_of_the_server_is_noticed_by_nobody_who_was_idle(place: Place, remote: Catalog) -> None:
    image = queued_image(remote)
    place.server.stop()
    place.server.start()
    assert read_image(remote, image.id) == image


def test_a_server_that_is_away_is_an_error_that_time_heals(place: Place, remote: Catalog) -> None:
    image = queued_image(remote)
    place.server.stop()
    try:
        with pytest.raises(CatalogUnavailable, match="lost or was refused") as refused:
            read_image(remote, image.id)
        assert refused.value.retryable
        assert "127.0.0.1" not in str(refused.value)
        health = look_at(remote)
        assert (health.readable, health.reason) == (False, str(refused.value))
        with pytest.raises(ConfigurationRefused, match="cannot be opened"):
            Catalog.open(place.settings())
    finally:
        place.server.start()
    assert read_image(remote, image.id) == image


def test_a_server_that_goes_away_in_a_transaction_takes_nothing_of_it(place: Place, remote: Catalog) -> None:
    image = queued_image(remote)

    def write_and_lose() -> None:
        with remote.write() as connection:
            connection.execute(text("update images set name = 'lost'"))
            place.server.stop()
            connection.execute(text("update images set name = 'lost again'"))

    try:
        with pytest.raises(CatalogUnavailable):
            write_and_lose()
    finally:
        place.server.start()
    assert read_image(remote, image.id) == image


def test_of_two_transactions_that_wait_for_each_other_one_is_told_to_come_again(remote: Catalog) -> None:
    images = [queued_image(remote), queued_image(remote)]
    both_hold_one = Barrier(2)

    def cross(first: int) -> bool:
        def lock(connection: Connection, n: int) -> None:
            lock_image(connection, images[n].id)

        try:
            with remote.write() as connection:
                lock(connection, first)
                both_hold_one.wait(120)
                lock(connection, 1 - first)
        except CatalogUnavailable as ended:
            assert "in favour of another" in str(ended)  # noqa: PT017 - one of the two comes here, not both
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(cross, range(2))) == [False, True]


def test_a_process_opens_no_more_connections_than_it_may(place: Place) -> None:
    narrow = Catalog.open(place.settings(max_connections=2, busy_timeout_s=0.2))
    with narrow.read(), narrow.read(), pytest.raises(CatalogUnavailable, match="in use"), narrow.read():
        pass
    narrow.close()


def test_a_refused_value_is_no_fault_of_the_server(remote: Catalog) -> None:
    with pytest.raises(DataError), remote.write() as connection:
        connection.execute(text("select 1/0"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secret_key": ""}, "required with PostgreSQL"),
        ({"secret_key": "short"}, "is not a Fernet key"),
    ],
)
def test_without_a_key_nothing_is_done_to_the_database(place: Place, changes: dict[str, str], reason: str) -> None:
    url = place.server.new_database()
    with pytest.raises(ConfigurationRefused, match=reason):
        Catalog.open(place.settings(url=url, **changes))
    Catalog.open(place.settings(url=url)).close()


def test_the_password_is_in_no_error(place: Place) -> None:
    url = place.server.url("nowhere")
    password = url.split(":")[2].split("@")[0]
    with pytest.raises(ConfigurationRefused, match="does not exist") as refused:
        Catalog.open(place.settings(url=url))
    assert password not in str(refused.value)
