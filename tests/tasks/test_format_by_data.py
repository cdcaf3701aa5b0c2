"""An import that was asked for without a disk format takes it from the data, or fails and says what to state."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.inspect import Inspection, inspect
from tasks.session import ImportSession
from tests.fakes.disk_images import MIB, converted, raw_disk
from tests.fakes.images import read_image
from tests.fakes.running_import import begin, session_of, staged_file
from transship.catalog.engine import Catalog
from transship.domain.errors import FormatUnknown


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    return raw_disk(tmp_path / "disk.raw", 2 * MIB).read_bytes()


@pytest.fixture
def qcow2(tmp_path: Path, disk: bytes) -> bytes:
    del disk
    return converted(tmp_path / "disk.raw", tmp_path / "made", "qcow2").read_bytes()


@pytest.fixture
def importing(settings: Settings, catalog: Catalog) -> Iterator[Callable[[str], ImportSession]]:
    """Begin the import of a URL for an image without a disk format."""
    opened = []

    def make(name: str) -> ImportSession:
        begun = replace(begin(catalog), uri=f"http://source.example/images/{name}?signature=a.qcow2")
        context = session_of(settings, catalog, begun)
        opened.append(context)
        session = context.__enter__()
        session.change_image(disk_format=None)
        return session

    yield make
    for context in reversed(opened):
        context.__exit__(None, None, None)


@pytest.mark.parametrize("name", ["noble-server-cloudimg-amd64.img", "x.raw", "x.iso", "x"])
def test_the_data_say_the_format_whatever_the_name_says(
    importing: Callable[[str], ImportSession], name: str, disk: bytes, qcow2: bytes
) -> None:
    session = importing(name)
    found = inspect.fn(staged_file(session, qcow2), "source", unpacked_later=False)
    assert found == Inspection("qcow2", len(disk))
    assert session.image.disk_format == "qcow2"
    assert read_image(session.catalog, session.image.id).disk_format == "raw"


@pytest.mark.parametrize("name", ["disk.img", "disk.raw", "disk.img.gz"])
def test_data_without_a_mark_are_raw_where_the_name_says_so(
    importing: Callable[[str], ImportSession], name: str, disk: bytes
) -> None:
    session = importing(name)
    inspect.fn(staged_file(session, disk), "source", unpacked_later=True)
    assert session.image.disk_format == "raw"


@pytest.mark.parametrize("name", ["disk.qcow2", "disk", "disk%2Eimg.iso"])
def test_data_that_tell_no_format_are_refused(
    importing: Callable[[str], ImportSession], name: str, disk: bytes
) -> None:
    session = importing(name)
    with pytest.raises(FormatUnknown, match=r"no mark of a format.*; state it and import again"):
        inspect.fn(staged_file(session, disk), "source", unpacked_later=True)


def test_an_archive_is_asked_when_it_has_been_unpacked(importing: Callable[[str], ImportSession], qcow2: bytes) -> None:
    session = importing("disk.img.gz")
    assert inspect.fn(staged_file(session, gzip.compress(qcow2)), "source", unpacked_later=True).detected == "gzip"
    assert session.image.disk_format is None
    inspect.fn(staged_file(session, qcow2), "after decompress", unpacked_later=False)
    assert session.image.disk_format == "qcow2"


def test_an_archive_that_nobody_unpacks_is_not_raw(importing: Callable[[str], ImportSession], qcow2: bytes) -> None:
    session = importing("disk.img.gz")
    with pytest.raises(FormatUnknown, match="packed by gzip, which this site does not unpack"):
        inspect.fn(staged_file(session, gzip.compress(qcow2)), "source", unpacked_later=False)


def test_an_archive_that_stays_one_has_the_format_of_its_content(
    importing: Callable[[str], ImportSession], qcow2: bytes
) -> None:
    session = importing("disk.img.gz")
    session.change_image(container_format="compressed")
    inspect.fn(staged_file(session, gzip.compress(qcow2)), "source", unpacked_later=True)
    assert session.image.disk_format == "qcow2"
