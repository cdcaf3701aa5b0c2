from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from cryptography.fernet import Fernet

from tests.fakes.images import new_image, queued_image, settings_in
from transship.catalog.engine import Catalog, _fernet_key, database_url
from transship.catalog.images import insert_image
from transship.catalog.schema import METADATA
from transship.domain.errors import ConfigurationRefused, ImageExists


def test_the_migrations_make_exactly_the_schema(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_many_processes_may_open_a_new_catalogue_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from config.settings import Settings; from transship.catalog.engine import Catalog;"
        "print(Catalog.open(Settings(home=sys.argv[1])).id())"
    )
    opening = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ids = {process.communicate(timeout=60)[0].strip() for process in opening}
    assert [process.returncode for process in opening] == [0, 0, 0, 0]
    assert len(ids) == 1


def test_the_secret_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    Catalog.open(settings_in(tmp_path)).close()
    key = tmp_path / "catalog.key"
    before = key.read_bytes()
    Catalog.open(settings_in(tmp_path)).close()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_bytes() == before


def test_secrets_under_another_key_are_an_error_that_says_so(catalog: Catalog, tmp_path: Path) -> None:
    other = Catalog(catalog.engine, Fernet(Fernet.generate_key()))
    with pytest.raises(ConfigurationRefused, match="another key"):
        other.decrypt(catalog.encrypt("x"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("mysql://h/d", "not supported", id="other database"),
        pytest.param("not a url", "not an SQLAlchemy", id="no URL"),
        pytest.param("sqlite:////proc/no/catalog.db", "cannot be", id="no directory"),
    ],
)
def test_a_database_that_cannot_be_used_stops_the_start(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(ConfigurationRefused, match=reason):
        Catalog.open(settings_in(tmp_path, database={"url": url}))


def test_postgresql_without_a_key_in_the_settings_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, database={"url": "postgresql://h/d"})
    with pytest.raises(ConfigurationRefused, match="required with PostgreSQL"):
        _fernet_key(settings, database_url(settings))


def test_an_image_id_is_never_used_twice(catalog: Catalog) -> None:
    image = queued_image(catalog)
    with pytest.raises(ImageExists), catalog.write() as connection:
        insert_image(connection, new_image(id=image.id))


def test_a_write_that_raises_leaves_nothing(catalog: Catalog) -> None:
    image = new_image()

    def write_and_break() -> None:
        with catalog.write() as connection:
            insert_image(connection, image)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_break()
    queued_image(catalog, id=image.id)
