from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, inspect, update

from config.settings import Settings
from tests.fakes.databases import DATABASES
from tests.fakes.images import NOW, new_image, queued_image, read_image, settings_in
from transship.catalog.engine import (
    MIGRATIONS,
    Catalog,
    _fernet_key,
    _newest_revision,
    database_url,
    refuse_bad_database,
)
from transship.catalog.images import get_image, insert_image, lock_image, update_image
from transship.catalog.leases import free_lease, queue_lease
from transship.catalog.schema import IMAGES, METADATA
from transship.domain.errors import CatalogUnavailable, ConfigurationRefused, ImageExists


def test_the_migrations_make_exactly_the_schema(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_new_catalogue_has_the_newest_revision_that_alembic_knows(catalog: Catalog, tmp_path: Path) -> None:
    scripts = Config()
    scripts.set_main_option("script_location", str(MIGRATIONS))
    assert _revision_in(settings_in(tmp_path)) == ScriptDirectory.from_config(scripts).get_current_head()
    assert _newest_revision() == _revision_in(settings_in(tmp_path))


def test_many_processes_may_open_a_new_catalogue_at_once(tmp_path: Path) -> None:
    DATABASES.empty(tmp_path)
    code = (
        "from config.loading import load_settings; from transship.catalog.engine import Catalog;"
        "catalog = Catalog.open(load_settings().settings); print(catalog.id()); catalog.close()"
    )
    environment = {**os.environ, **DATABASES.environment(tmp_path), "TRANSSHIP_HOME": str(tmp_path)}
    opening = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ids = {process.communicate(timeout=540)[0].strip() for process in opening}
    assert [process.returncode for process in opening] == [0, 0, 0, 0]
    assert len(ids) == 1


def test_the_secret_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    on_sqlite = settings_in(tmp_path, database={})
    Catalog.open(on_sqlite).close()
    key = tmp_path / "catalog.key"
    before = key.read_bytes()
    Catalog.open(on_sqlite).close()
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
        pytest.param("not a url", "is not a database URL; write sqlite", id="no URL"),
        pytest.param("sqlite:////proc/no/catalog.db", "cannot be", id="no directory"),
    ],
)
def test_a_database_that_cannot_be_used_stops_the_start(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(ConfigurationRefused, match=reason):
        Catalog.open(settings_in(tmp_path, database={"url": url}))


def test_a_key_file_without_a_key_is_refused_by_its_name_and_nothing_is_made(tmp_path: Path) -> None:
    key = tmp_path / "catalog.key"
    settings = settings_in(tmp_path, database={})
    refuse_bad_database(settings)
    assert not key.exists()
    key.write_text("!" * 44)
    for look in (refuse_bad_database, Catalog.open):
        with pytest.raises(ConfigurationRefused, match="does not hold a Fernet key") as refused:
            look(settings)
        assert refused.value.source == str(key)


def test_postgresql_without_a_key_in_the_settings_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, database={"url": "postgresql://h/d"})
    with pytest.raises(ConfigurationRefused, match="required with PostgreSQL"):
        _fernet_key(settings, database_url(settings))


def test_another_key_than_that_of_the_catalogue_stops_the_start(tmp_path: Path) -> None:
    Catalog.open(settings_in(tmp_path)).close()
    section = {**DATABASES.section(tmp_path), "secret_key": Fernet.generate_key().decode()}
    with pytest.raises(ConfigurationRefused, match="another key"):
        Catalog.open(settings_in(tmp_path, database=section))


def test_a_catalogue_of_a_newer_release_stops_the_start(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.write() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    with pytest.raises(ConfigurationRefused, match="newer release"):
        Catalog.open(settings_in(tmp_path))


@pytest.mark.parametrize("opening", [Catalog.open, Catalog.as_it_is])
def test_a_catalogue_from_before_the_first_release_is_refused_with_the_remedy_and_left_as_it_is(
    tmp_path: Path, opening: Callable[[Settings], Catalog | None]
) -> None:
    settings = settings_in(tmp_path)
    with closing(Catalog.open(settings)) as catalog, catalog.write() as connection:
        connection.exec_driver_sql("alter table locations drop column put_token")
        connection.exec_driver_sql("update alembic_version set version_num = '0006'")
    with pytest.raises(
        ConfigurationRefused, match=r"before 0\.1\.0 created the catalogue \(schema 0006\).*empty home directory"
    ):
        opening(settings)
    engine = create_engine(database_url(settings))
    assert "put_token" not in {column["name"] for column in inspect(engine).get_columns("locations")}
    engine.dispose()
    assert _revision_in(settings) == "0006"


def test_whoever_only_looks_makes_no_tables_and_brings_none_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DATABASES.empty(tmp_path)
    settings = settings_in(tmp_path)
    before = _revision_in(settings)
    assert Catalog.as_it_is(settings) is None
    assert _revision_in(settings) == before
    Catalog.open(settings).close()
    made = _revision_in(settings)
    monkeypatch.setattr("transship.catalog.engine._newest_revision", lambda: "a later release's")
    assert Catalog.as_it_is(settings) is None
    assert _revision_in(settings) == made


def test_whoever_only_looks_sees_an_open_catalogue_and_what_is_wrong_with_it(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    looked_at = Catalog.as_it_is(settings)
    assert looked_at is not None
    with closing(looked_at):
        assert looked_at.id() == catalog.id()
    other_key = {**DATABASES.section(tmp_path), "secret_key": Fernet.generate_key().decode()}
    with pytest.raises(ConfigurationRefused, match="another key"):
        Catalog.as_it_is(settings_in(tmp_path, database=other_key))
    with catalog.write() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    with pytest.raises(ConfigurationRefused, match="newer release"):
        Catalog.as_it_is(settings)


def test_a_key_that_is_gone_is_told_and_not_made_anew_by_whoever_only_looks(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, database={})
    Catalog.open(settings).close()
    key = tmp_path / "catalog.key"
    key.unlink()
    with pytest.raises(ConfigurationRefused, match="the key cannot be read"):
        Catalog.as_it_is(settings)
    assert not key.exists()


def _revision_in(settings: Settings) -> str | None:
    engine = create_engine(database_url(settings))
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    engine.dispose()
    return found


def test_a_migration_that_fails_leaves_nothing_and_lets_the_next_one_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DATABASES.empty(tmp_path)
    upgrade = command.upgrade

    def break_off(*arguments: Any, **options: Any) -> None:
        upgrade(*arguments, **options)
        raise CommandError("cut short")

    with monkeypatch.context() as broken:
        broken.setattr(command, "upgrade", break_off)
        with pytest.raises(ConfigurationRefused, match="cut short"):
            Catalog.open(settings_in(tmp_path))
    opened = Catalog.open(settings_in(tmp_path))
    assert opened.id()
    opened.close()


def test_a_database_that_stays_locked_is_an_error_that_time_heals(catalog: Catalog, tmp_path: Path) -> None:
    image = queued_image(catalog)
    hasty = Catalog.open(settings_in(tmp_path, database={**DATABASES.section(tmp_path), "busy_timeout_s": 0.1}))
    with catalog.write() as connection:
        lock_image(connection, image.id)
        with pytest.raises(CatalogUnavailable, match="locked for too long") as refused, hasty.write() as other:
            lock_image(other, image.id)
    assert refused.value.retryable
    hasty.close()


def test_a_statement_is_a_transaction_of_its_own_and_waits_for_others(catalog: Catalog, tmp_path: Path) -> None:
    image = queued_image(catalog)
    with catalog.statement() as connection:
        queue_lease(connection, image.id, "a task")
        assert read_image(catalog, image.id).import_task == "a task"
    hasty = Catalog.open(settings_in(tmp_path, database={**DATABASES.section(tmp_path), "busy_timeout_s": 0.1}))
    with catalog.write() as connection:
        lock_image(connection, image.id)
        with pytest.raises(CatalogUnavailable, match="locked for too long"), hasty.statement() as other:
            free_lease(other, image.id)
    with hasty.statement() as other:
        free_lease(other, image.id)
    assert read_image(catalog, image.id).import_task is None
    hasty.close()


def test_text_that_a_database_cannot_keep_is_replaced_and_not_refused(catalog: Catalog) -> None:
    image = queued_image(catalog)
    with catalog.write() as connection:
        connection.execute(update(IMAGES).where(IMAGES.c.id == image.id).values(import_message="a\0b\ud800c"))
    assert read_image(catalog, image.id).import_message == "a\ufffdb?c"


def test_a_reader_sees_one_state_of_the_catalogue(catalog: Catalog) -> None:
    image = queued_image(catalog)
    with catalog.read() as connection:
        before = get_image(connection, image.id)
        with catalog.write() as other:
            update_image(other, before, replace(before, name="new", tags=frozenset({"new"})), NOW)
        assert get_image(connection, image.id) == before
    assert read_image(catalog, image.id).name == "new"


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
