"""A running import: a real catalogue, a real lease, an open session, no Prefect."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from config.settings import Settings
from tasks.session import ImportSession, open_session
from tasks.staged_files import new_name, open_file, seal
from tests.fakes.images import NOW, prepare_stores, queued_image, read_image, settings_in, web_order
from transship.catalog.endings import resume_or_end
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, Caller, ask_import, begin_import
from transship.catalog.journal import LocationRow, StagedRow, find_location, staged_of_image
from transship.catalog.leases import Lease, expire_lease, take_lease
from transship.catalog.tasks import get_task
from transship.domain.import_data import FinalData, JudgedSource, SealedFile, Staged
from transship.domain.staged import SOURCE_ROLE
from transship.domain.uri_filter import display_uri
from transship.staging.opening import open_staging

SOURCE = "http://source.example/debian.img"


def easy_settings(home: Path, **changes: object) -> Settings:
    """Return settings that let imports reach loopback and ask for no free room."""
    defaults: dict[str, object] = {
        "uri": {"allowed_hosts": ["127.0.0.1"], "allowed_ports": []},
        "staging": {"free_floor_bytes": 0},
        "host_name": "here",
    }
    return settings_in(home, **{**defaults, **changes})


def file_stores(**directories: Path) -> Mapping[str, object]:
    """Return the settings of file stores by id, the first of them the default."""
    stores = {store: {"type": "file", "dir": str(directory)} for store, directory in directories.items()}
    return {"stores": stores, "default_store": next(iter(stores))}


def begin(
    catalog: Catalog,
    uri: str = SOURCE,
    *stores: str,
    strict: bool = True,
    roles: tuple[str, ...] = (),
    **image: object,
) -> Begun:
    """Ask for an import of a new image and take its lease."""
    order = web_order(uri, *stores, strict=strict)
    task = ask_import(catalog, queued_image(catalog, **image).id, order, Caller(roles=roles), NOW)
    return begin_import(catalog, task.id, str(uuid4()), "test", ttl_s=3600.0, now=NOW)


def begin_again(catalog: Catalog, before: Lease) -> Begun:
    """Lose the worker of an import, resume the import, and take its lease again."""
    expire_lease(catalog, before)
    assert resume_or_end(catalog, before.image_id, "the worker died", crash_retries=9, now=NOW, time_to_live_h=1)
    run_id = flow_run_of(catalog, before)
    return begin_import(catalog, str(before.task_id), run_id, "test again", ttl_s=3600.0, now=NOW)


def flow_run_of(catalog: Catalog, lease: Lease) -> str:
    """Return the id of the flow run that carries an import."""
    with catalog.read() as connection:
        return str(get_task(connection, str(lease.task_id)).flow_run_id)


def steal(catalog: Catalog, lease: Lease) -> None:
    """Let another worker take the lease."""
    with catalog.write() as connection:
        take_lease(connection, lease.image_id, str(lease.task_id), "a thief", 60.0)


@contextmanager
def session_of(settings: Settings, catalog: Catalog, begun: Begun) -> Iterator[ImportSession]:
    """Open the session of an import, its stores and its staging directory made."""
    with open_session(settings, catalog, begun) as session:
        prepare_stores(settings, catalog)
        open_staging(catalog, session.staging, session.lease)
        yield session


def staged_file(session: ImportSession, content: bytes, role: str = SOURCE_ROLE) -> SealedFile:
    """Make a sealed staged file of an import."""
    name = new_name(session, role)
    open_file(session, name, role)
    session.staging.part(name).write_bytes(content)
    return seal(session, name)


def source_of(begun: Begun, **image: Any) -> JudgedSource:
    """Return the source of a web-download as it is once it was judged.

    Args:
        image: what is other than in the record.
    """
    return JudgedSource(begun.uri, display_uri(begun.uri), replace(begun.image, **image))


def data_of(session: ImportSession, file: SealedFile, **image: Any) -> Staged:
    """Return a file as the data of the session's image.

    Args:
        image: what the steps before found out about it.
    """
    return Staged(file, replace(read_image(session.catalog, session.lease.image_id), **image))


def staged_data(session: ImportSession, content: bytes, **image: Any) -> Staged:
    """Make a sealed file of the session's image, and return it as `data_of` does."""
    return data_of(session, staged_file(session, content), **image)


def final_of(session: ImportSession, file: SealedFile, **image: Any) -> FinalData:
    """Return a file as what the stores get, as `data_of` does."""
    return FinalData(file, data_of(session, file, **image).image)


def staged_rows(session: ImportSession) -> list[StagedRow]:
    """Return the journal rows of the import's staged files."""
    with session.catalog.read() as connection:
        return staged_of_image(connection, session.lease.image_id, session.staging.host)


def location(catalog: Catalog, image_id: str, store: str = "local") -> LocationRow | None:
    """Return the journal row of a store's copy."""
    with catalog.read() as connection:
        return find_location(connection, image_id, store)


def staging_names(settings: Settings) -> set[str]:
    """Return the names of all files in staging, without the area's own files."""
    found = {path.name for path in settings.staging_dir.iterdir()} if settings.staging_dir.exists() else set()
    return {name for name in found if not name.startswith(".transship-")}


class Ticks(threading.Event):
    """An event for which a loop waits ``times`` times in vain, without time passing."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        return self._left < 0
