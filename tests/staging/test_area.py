"""The staging directory."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from transship.catalog.restores import Count
from transship.domain.errors import ConfigurationRefused, StagingBroken, StagingFull
from transship.host.directories import MARK
from transship.host.staging_faults import staging_error
from transship.staging.area import COUNT, StagingArea

NAME = "3f2a1c9e-0000-4000-8000-000000000001.1.source"


@pytest.fixture
def area(tmp_path: Path) -> StagingArea:
    made = StagingArea(tmp_path / "deep" / "staging", "here", 0)
    made.prepare("catalogue-a")
    return made


def test_prepare_makes_a_private_directory_with_the_catalogues_marker(area: StagingArea) -> None:
    assert area.directory.stat().st_mode & 0o777 == 0o700
    assert os.listdir(area.directory) == [MARK]
    assert (area.directory / MARK).read_text() == "catalogue-a"


def test_prepare_may_be_repeated(area: StagingArea) -> None:
    area.prepare("catalogue-a")
    assert os.listdir(area.directory) == [MARK]


def test_many_may_prepare_at_once(tmp_path: Path) -> None:
    area = StagingArea(tmp_path / "staging", "here", 0)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(area.prepare, ["catalogue-a"] * 64)) == [None] * 64
    assert os.listdir(area.directory) == [MARK]


def test_the_directory_of_another_catalogue_is_refused(area: StagingArea) -> None:
    with pytest.raises(ConfigurationRefused, match=r"serves another catalogue \(catalogue-a\)") as refused:
        area.prepare("catalogue-b")
    assert refused.value.option == "staging.dir"
    assert (area.directory / MARK).read_text() == "catalogue-a"


def test_a_marker_that_a_crash_left_empty_is_filled(area: StagingArea) -> None:
    (area.directory / MARK).write_text("")
    area.prepare("catalogue-b")
    assert (area.directory / MARK).read_text() == "catalogue-b"


def test_the_count_of_a_directory_goes_on_under_the_id_of_its_first(area: StagingArea) -> None:
    first = replace(area.count(), number=1)
    area.write_count(first)
    assert area.count() == first
    for late in (replace(area.count(), number=0), Count("another", 7)):
        area.write_count(late)
    assert area.count() == first
    area.write_count(replace(first, number=12))
    assert (area.count(), area.names()) == (replace(first, number=12), [])


def test_a_count_that_a_crash_left_empty_begins_anew_and_a_broken_one_is_refused(area: StagingArea) -> None:
    (area.directory / COUNT).touch()
    assert area.count().number == 0
    (area.directory / COUNT).write_text("what is this")
    with capture_logs() as logged, pytest.raises(StagingBroken, match="cannot be read") as broken:
        area.count()
    assert "/" not in str(broken.value)
    assert logged[0]["path"] == str(area.directory / COUNT)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationRefused, match="cannot be used: Not a directory"):
        StagingArea(tmp_path / "file" / "staging", "here", 0).prepare("catalogue-a")


def test_a_file_bears_part_until_it_is_sealed(area: StagingArea) -> None:
    with area.writing(NAME) as path:
        assert path == area.part(NAME) == area.directory / f"{NAME}.part"
        path.write_bytes(b"12345")
    assert area.seal(NAME) == 5
    assert not area.part(NAME).exists()
    assert area.sealed(NAME).read_bytes() == b"12345"
    assert area.sealed(NAME).stat().st_mode & 0o777 == 0o400


def test_writing_goes_on_with_what_is_there(area: StagingArea) -> None:
    area.part(NAME).write_bytes(b"half")
    with area.writing(NAME) as path:
        assert path.read_bytes() == b"half"


def test_one_writer_at_a_time(area: StagingArea) -> None:
    with area.writing(NAME):
        assert area.being_written(NAME)
        with (
            pytest.raises(StagingBroken, match=r"source\.part is being written by another process"),
            area.writing(NAME),
        ):
            pass
        assert area.being_written(NAME)
    assert not area.being_written(NAME)
    with area.writing(NAME):
        pass


def test_what_does_not_exist_is_not_being_written(area: StagingArea) -> None:
    assert not area.being_written(NAME)
    assert not area.part(NAME).exists()


def test_a_symbolic_link_is_never_written_through(area: StagingArea, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    area.part(NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(StagingBroken), area.writing(NAME):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_sealing_a_file_that_is_gone_says_so(area: StagingArea) -> None:
    with pytest.raises(StagingBroken, match="No such file"):
        area.seal(NAME)


@pytest.mark.parametrize("form", ["part", "sealed", "both", "none"])
def test_remove_takes_a_file_in_every_form(area: StagingArea, form: str) -> None:
    if form in ("part", "both"):
        area.part(NAME).touch()
    if form in ("sealed", "both"):
        area.sealed(NAME).touch()
    area.remove(NAME)
    assert os.listdir(area.directory) == [MARK]


def test_what_cannot_be_removed_is_told(area: StagingArea) -> None:
    area.sealed(NAME).mkdir()
    with pytest.raises(StagingBroken):
        area.remove(NAME)


def test_occupied_counts_blocks_on_disk_in_either_form(area: StagingArea) -> None:
    assert area.occupied(NAME) == 0
    with area.part(NAME).open("wb") as stream:
        stream.truncate(1 << 30)
    assert area.occupied(NAME) < 1 << 20
    with area.part(NAME).open("wb") as stream:
        stream.write(os.urandom(1 << 20))
        os.fsync(stream.fileno())
    assert area.occupied(NAME) >= 1 << 20
    area.seal(NAME)
    assert area.occupied(NAME) >= 1 << 20


def test_the_floor_is_not_available(area: StagingArea) -> None:
    free = area.available_bytes()
    assert free > 0
    assert StagingArea(area.directory, "here", 1 << 60).available_bytes() < 0


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StagingFull),
        (errno.EDQUOT, StagingFull),
        (errno.EFBIG, StagingFull),
        (errno.EIO, StagingBroken),
        (errno.EROFS, StagingBroken),
        (errno.EACCES, StagingBroken),
    ],
)
def test_an_error_of_the_system_becomes_one_of_ours(number: int, kind: type[Exception]) -> None:
    assert type(staging_error(OSError(number, os.strerror(number)), 7)) is kind


def test_an_error_without_a_number_keeps_its_words() -> None:
    assert (
        str(staging_error(OSError("odd"), 0))
        == "staging cannot be used: odd; ask the operator to check the staging directory"
    )
