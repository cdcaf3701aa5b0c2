"""An import without a disk format detects it from the data, or fails and says what to set."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.inspect import inspect
from tasks.session import ImportSession
from tasks.stage import _staged
from tests.fakes.disk_images import MIB, converted, raw_disk
from tests.fakes.images import read_image
from tests.fakes.running_import import begin, data_of, session_of, staged_file
from transship.catalog.engine import Catalog
from transship.domain.errors import FormatUnknown
from transship.domain.import_data import Inspected, JudgedSource, SealedFile


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    return raw_disk(tmp_path / "disk.raw", 2 * MIB).read_bytes()


@pytest.fixture
def qcow2(tmp_path: Path, disk: bytes) -> bytes:
    del disk
    return converted(tmp_path / "disk.raw", tmp_path / "made", "qcow2").read_bytes()


@dataclass(frozen=True)
class Import:
    """The import of a URL for an image without a disk format."""

    session: ImportSession
    uri: str
    container_format: str = "bare"

    def look(self, content: bytes, *, unpacked_later: bool) -> Inspected:
        """Stage data and inspect them."""
        return self.look_at(staged_file(self.session, content), unpacked_later=unpacked_later)

    def look_at(self, file: SealedFile, *, unpacked_later: bool, what: str = "source") -> Inspected:
        image = data_of(self.session, file, disk_format=None, container_format=self.container_format).image
        staged = _staged(JudgedSource(self.uri, "the source", image), file, end_proven=True)
        return inspect.fn(staged, what, unpacked_later=unpacked_later).value


@pytest.fixture
def importing(settings: Settings, catalog: Catalog) -> Iterator[Callable[[str], Import]]:
    """Begin the import of a URL for an image without a disk format."""
    opened = []

    def make(name: str) -> Import:
        context = session_of(settings, catalog, begin(catalog))
        opened.append(context)
        return Import(context.__enter__(), f"http://source.example/images/{name}?signature=a.qcow2")

    yield make
    for context in reversed(opened):
        context.__exit__(None, None, None)


@pytest.mark.parametrize("name", ["noble-server-cloudimg-amd64.img", "x.raw", "x.iso", "x"])
def test_the_data_say_the_format_whatever_the_name_says(
    importing: Callable[[str], Import], name: str, disk: bytes, qcow2: bytes
) -> None:
    begun = importing(name)
    found = begun.look(qcow2, unpacked_later=False)
    assert (found.detected, found.virtual_size) == ("qcow2", len(disk))
    assert found.staged.image.disk_format == "qcow2"
    assert read_image(begun.session.catalog, begun.session.lease.image_id).disk_format == "raw"


@pytest.mark.parametrize("name", ["disk.img", "disk.raw", "disk.img.gz"])
def test_data_without_a_mark_are_raw_where_the_name_says_so(
    importing: Callable[[str], Import], name: str, disk: bytes
) -> None:
    assert importing(name).look(disk, unpacked_later=True).staged.image.disk_format == "raw"


@pytest.mark.parametrize("name", ["disk.qcow2", "disk", "disk%2Eimg.iso"])
def test_data_that_tell_no_format_are_refused(importing: Callable[[str], Import], name: str, disk: bytes) -> None:
    begun = importing(name)
    with pytest.raises(FormatUnknown, match=r"no mark of a format.*; state it and import again"):
        begun.look(disk, unpacked_later=True)


def test_an_archive_is_asked_when_it_has_been_unpacked(importing: Callable[[str], Import], qcow2: bytes) -> None:
    begun = importing("disk.img.gz")
    packed = begun.look(gzip.compress(qcow2), unpacked_later=True)
    assert (packed.detected, packed.staged.image.disk_format) == ("gzip", None)
    unpacked = begun.look_at(staged_file(begun.session, qcow2), unpacked_later=False, what="after decompress")
    assert unpacked.staged.image.disk_format == "qcow2"


def test_an_archive_that_nobody_unpacks_is_not_raw(importing: Callable[[str], Import], qcow2: bytes) -> None:
    begun = importing("disk.img.gz")
    with pytest.raises(FormatUnknown, match="packed by gzip, which this site does not unpack"):
        begun.look(gzip.compress(qcow2), unpacked_later=False)


def test_an_archive_that_stays_one_has_the_format_of_its_content(
    importing: Callable[[str], Import], qcow2: bytes
) -> None:
    begun = replace(importing("disk.img.gz"), container_format="compressed")
    found = begun.look(gzip.compress(qcow2), unpacked_later=True)
    assert found.staged.image.disk_format == "qcow2"
