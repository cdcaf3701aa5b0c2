"""The format gate as a step of an import, and the plugins between it and the stores."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.inspect import inspect
from tasks.plugin import run_plugin
from tasks.session import ImportSession
from tasks.staged_files import discard_scrap, discard_staged, new_name, open_file
from tests.fakes.disk_images import MIB, converted, raw_disk
from tests.fakes.images import read_image
from tests.fakes.running_import import (
    SOURCE,
    begin,
    data_of,
    easy_settings,
    session_of,
    staged_data,
    staged_file,
    staged_rows,
    staging_names,
    steal,
)
from transship.catalog.engine import Catalog
from transship.domain.errors import FormatMismatch, FormatUnsafe, LockLost, StagingBroken, StagingFull
from transship.domain.import_data import Inspected, SealedFile, Staged


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    return raw_disk(tmp_path / "disk.raw", 2 * MIB).read_bytes()


def verdict(found: Inspected) -> tuple[str, int | None]:
    return found.detected, found.virtual_size


def run(session: ImportSession, name: str, label: str, file: SealedFile, *roles: str) -> Staged:
    """Run a plugin on a file that was inspected."""
    return run_plugin.fn(name, label, Inspected(data_of(session, file), "raw", None), roles).value


# --- inspect -----------------------------------------------------------------------------------


def test_data_that_are_what_the_image_declares_pass(session: ImportSession, tmp_path: Path, disk: bytes) -> None:
    qcow2 = converted(tmp_path / "disk.raw", tmp_path / "disk.qcow2", "qcow2")
    staged = staged_data(session, qcow2.read_bytes(), disk_format="qcow2")
    found = inspect.fn(staged, "source", unpacked_later=False).value
    assert verdict(found) == ("qcow2", len(disk))
    assert found.staged.image.virtual_size == len(disk)
    assert session.board.now.phase == "inspect"


def test_what_inspection_finds_is_not_written_before_the_end(session: ImportSession, disk: bytes) -> None:
    found = inspect.fn(staged_data(session, disk), "source", unpacked_later=False).value
    assert found.staged.image.virtual_size == len(disk)
    assert read_image(session.catalog, session.lease.image_id).virtual_size is None


def test_other_data_do_not_pass(session: ImportSession, disk: bytes) -> None:
    with pytest.raises(FormatMismatch):
        inspect.fn(staged_data(session, disk, disk_format="qcow2"), "source", unpacked_later=False)


@pytest.mark.parametrize("qemu_format", ["qcow2", "vmdk", "vdi", "vhdx"])
def test_data_that_were_cut_short_do_not_pass(
    session: ImportSession, tmp_path: Path, disk: bytes, qemu_format: str
) -> None:
    made = converted(tmp_path / "disk.raw", tmp_path / "made", qemu_format).read_bytes()
    with pytest.raises(FormatUnsafe, match="cut short"):
        inspect.fn(
            staged_data(session, made[: len(made) // 2], disk_format=qemu_format), "source", unpacked_later=False
        )


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_an_archive_passes_when_it_is_unpacked_later(session: ImportSession, disk: bytes, disk_format: str) -> None:
    staged = staged_data(session, gzip.compress(disk), disk_format=disk_format)
    found = inspect.fn(staged, "source", unpacked_later=True).value
    assert verdict(found) == ("gzip", None)
    assert found.staged.image.virtual_size is None


def test_an_archive_is_other_data_when_nobody_unpacks_it(session: ImportSession, disk: bytes) -> None:
    with pytest.raises(FormatMismatch):
        inspect.fn(staged_data(session, gzip.compress(disk), disk_format="qcow2"), "source", unpacked_later=False)


@pytest.mark.parametrize("disk_format", ["ari", "aki", "ami"])
def test_a_ramdisk_is_inspected_as_it_is(session: ImportSession, disk: bytes, disk_format: str) -> None:
    staged = staged_data(session, gzip.compress(disk), disk_format=disk_format)
    found = inspect.fn(staged, "source", unpacked_later=True).value
    assert (verdict(found), found.staged.remarks) == (("raw", None), ())


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "gzip"), (lzma.compress, "xz"), (bz2.compress, "bzip2")])
def test_people_are_told_what_an_image_declared_raw_is(
    session: ImportSession, disk: bytes, pack: Callable[[bytes], bytes], name: str
) -> None:
    staged = staged_data(session, pack(disk))
    for _ in range(2):  # as before and after a plugin
        staged = inspect.fn(staged, "source", unpacked_later=False).value.staged
    assert staged.remarks == (f"the image is declared raw and its data are {name}; accepted as raw",)


def test_a_container_that_is_not_looked_into_passes(session: ImportSession, disk: bytes) -> None:
    staged = staged_data(session, gzip.compress(disk), container_format="compressed")
    assert verdict(inspect.fn(staged, "source", unpacked_later=True).value) == ("", None)


def test_a_staged_file_that_is_gone_is_told(session: ImportSession) -> None:
    with pytest.raises(StagingBroken):
        inspect.fn(data_of(session, SealedFile("nothing", 5)), "source", unpacked_later=False)


# --- plugins -----------------------------------------------------------------------------------


SITE_PLUGIN = """
import json
from transship.domain.errors import PluginFailed
from transship.plugins.base import PluginOutcome

class Plugin:
    name, label = "site_plugin", "touch-up"
    def check(self, settings): pass
    def run(self, work):
        asked = json.loads(work.settings.inject.properties["plan"])
        if "half" in asked:
            work.workspace.new_file("half").write_bytes(b"half")
            raise PluginFailed("site_plugin", "half way")
        if "room" in asked:
            work.workspace.reserve(work.workspace.new_file("large"), asked["room"])
        return PluginOutcome(**asked)

PLUGIN = Plugin()
"""


@pytest.fixture
def site_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed plugin that does what ``inject.properties.plan`` says."""
    folder = tmp_path / "site-packages"
    facts = folder / "site_plugin_for_tasks-1.0.dist-info"
    facts.mkdir(parents=True)
    (folder / "site_plugin_for_tasks.py").write_text(SITE_PLUGIN)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: site_plugin_for_tasks\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[transship.import_plugins]\nsite_plugin = site_plugin_for_tasks:PLUGIN\n")
    monkeypatch.syspath_prepend(folder)
    return "site_plugin"


def planned(home: Path, **plan: object) -> dict[str, object]:
    return {"imports": {"plugins": ["site_plugin"]}, "inject": {"properties": {"plan": json.dumps(plan)}}}


@pytest.fixture
def unpacking(tmp_path: Path, catalog: Catalog) -> Iterator[ImportSession]:
    settings = easy_settings(tmp_path, imports={"plugins": ["image_decompression"]})
    with session_of(settings, catalog, begin(catalog)) as session:
        yield session


def test_a_new_file_takes_the_place_of_the_old_one(unpacking: ImportSession, disk: bytes) -> None:
    before = staged_file(unpacking, gzip.compress(disk))
    made = run(unpacking, "image_decompression", "decompress", before).file
    epoch = unpacking.lease.epoch
    assert made == SealedFile(f"{unpacking.lease.image_id}.{epoch}.decompress-decompressed", len(disk))
    assert unpacking.staging.sealed(made.name).read_bytes() == disk
    assert staging_names(unpacking.settings) == {made.name}
    assert [(row.name, row.state, row.role) for row in staged_rows(unpacking)] == [(made.name, "sealed", "decompress")]


def test_a_plugin_with_nothing_to_do_leaves_the_file(unpacking: ImportSession, disk: bytes) -> None:
    before = staged_file(unpacking, disk)
    assert run(unpacking, "image_decompression", "decompress", before).file == before
    assert staging_names(unpacking.settings) == {before.name}


def test_the_formats_that_a_plugin_names_hold_from_then_on(
    site_plugin: str, tmp_path: Path, catalog: Catalog, disk: bytes
) -> None:
    settings = easy_settings(tmp_path, **planned(tmp_path, disk_format="qcow2", virtual_size=77))
    with session_of(settings, catalog, begin(catalog)) as session:
        image = run(session, site_plugin, "touch-up", staged_file(session, disk)).image
        assert (image.disk_format, image.virtual_size) == ("qcow2", 77)
        assert image.container_format == "bare"
        assert session.board.now.phase == "touch-up"
        assert read_image(catalog, session.lease.image_id).disk_format == "raw"


def test_properties_are_set_as_the_system_and_reserved_ones_dropped(
    site_plugin: str, tmp_path: Path, catalog: Catalog, disk: bytes
) -> None:
    plan = {"site": "north", "kept": "new", "os_glance_import_task": "forged"}
    settings = easy_settings(tmp_path, **planned(tmp_path, properties=plan))
    with session_of(settings, catalog, begin(catalog, properties={"kept": "old", "own": "1"})) as session:
        worked = run(session, site_plugin, "touch-up", staged_file(session, disk))
        expected = {"site": "north", "kept": "new", "own": "1"}
        assert dict(worked.image.properties) == expected
        assert dict(read_image(catalog, session.lease.image_id).properties) == expected


def test_a_worker_that_lost_the_lease_injects_nothing(
    site_plugin: str, tmp_path: Path, catalog: Catalog, disk: bytes
) -> None:
    settings = easy_settings(tmp_path, **planned(tmp_path, properties={"site": "north"}))
    with session_of(settings, catalog, begin(catalog)) as session:
        staged = staged_file(session, disk)
        steal(catalog, session.lease)
        with pytest.raises(LockLost):
            run(session, site_plugin, "touch-up", staged)
    assert dict(read_image(catalog, session.lease.image_id).properties) == {}


@pytest.mark.parametrize("roles", [("member",), ("admin",)])
def test_the_callers_roles_reach_the_plugin(roles: tuple[str, ...], tmp_path: Path, catalog: Catalog) -> None:
    settings = easy_settings(
        tmp_path, imports={"plugins": ["inject_image_metadata"]}, inject={"properties": {"site": "north"}}
    )
    begun = begin(catalog, SOURCE, "local", roles=roles)
    with session_of(settings, catalog, begun) as session:
        worked = run(session, "inject_image_metadata", "inject", staged_file(session, b"data"), *begun.roles)
        assert ("site" in worked.image.properties) is (roles == ("member",))


def test_a_plugin_gets_no_more_room_than_there_is(
    site_plugin: str, tmp_path: Path, catalog: Catalog, disk: bytes
) -> None:
    settings = easy_settings(tmp_path, **planned(tmp_path, room=1 << 60))
    with session_of(settings, catalog, begin(catalog)) as session:
        staged = staged_file(session, disk)
        with pytest.raises(StagingFull):
            run(session, site_plugin, "touch-up", staged)


# --- clearing up -------------------------------------------------------------------------------


def make_part(session: ImportSession, role: str) -> str:
    name = new_name(session, role)
    open_file(session, name, role)
    session.staging.part(name).write_bytes(b"half")
    return name


@pytest.mark.parametrize(("keep_source", "left"), [(True, {"source"}), (False, set())])
def test_what_a_rerun_can_use_is_kept(session: ImportSession, keep_source: bool, left: set[str]) -> None:
    staged_file(session, b"whole")
    make_part(session, "convert")
    discard_staged(session, keep_source=keep_source)
    assert {row.role for row in staged_rows(session)} == left
    assert {name.rsplit(".", 1)[-1] for name in staging_names(session.settings)} == left


def test_a_part_that_cannot_be_resumed_is_not_kept(session: ImportSession) -> None:
    make_part(session, "source")
    discard_staged(session, keep_source=True)
    assert staging_names(session.settings) == set()
    assert staged_rows(session) == []


def test_what_cannot_be_removed_keeps_its_row(session: ImportSession) -> None:
    name = make_part(session, "convert")
    session.staging.part(name).unlink()
    session.staging.part(name).mkdir()
    with pytest.raises(StagingBroken):
        discard_staged(session, keep_source=False)
    assert [row.name for row in staged_rows(session)] == [name]


def test_scrap_of_another_attempt_is_left_to_it(session: ImportSession) -> None:
    make_part(session, "source")
    discard_scrap(session)
    assert len(staging_names(session.settings)) == 1
