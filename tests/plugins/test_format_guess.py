"""The format of data without a declared format: the data decide, not the name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings
from tests.fakes.disk_images import MIB, converted, fixed_vhd, iso, protective_mbr, raw_disk
from transship.domain.errors import FormatUnknown
from transship.plugins.format_guess import HEAD_BYTES, decide, guess_disk_format, said_by

NAMES = ("x.img", "x.raw", "x.qcow2", "x.iso", "x.vhd", "x.vmdk.gz", "x", "noble-server-cloudimg-amd64.img", "X.IMG")
"""Names that are of no weight against what the data say."""

Maker = Callable[[Path], Path]


def _by_qemu(qemu_format: str, options: str = "") -> Maker:
    def make(folder: Path) -> Path:
        return converted(raw_disk(folder / "source", 3 * MIB), folder / "data", qemu_format, options)

    return make


MARKED: dict[str, tuple[Maker, str]] = {
    "qcow2": (_by_qemu("qcow2"), "qcow2"),
    "vmdk": (_by_qemu("vmdk", "subformat=streamOptimized"), "vmdk"),
    "vdi": (_by_qemu("vdi"), "vdi"),
    "vhdx": (_by_qemu("vhdx"), "vhdx"),
    "dynamic vhd": (_by_qemu("vpc"), "vhd"),
    "fixed vhd": (lambda folder: fixed_vhd(raw_disk(folder / "data")), "vhd"),
    "fixed vhd with partitions": (lambda folder: fixed_vhd(raw_disk(folder / "data", partitioned=True)), "vhd"),
    "iso": (lambda folder: iso(folder / "data"), "iso"),
    "hybrid iso": (lambda folder: iso(folder / "data", hybrid=True), "iso"),
    "disk with partitions": (lambda folder: raw_disk(folder / "data", partitioned=True), "raw"),
}


def guessed(path: Path, name: str, *, unpacked: bool = True, whole: bool = True) -> str:
    return guess_disk_format(path, name, Settings(home=path.parent), unpacked=unpacked, whole=whole)


def unknown(path: Path, name: str, *, unpacked: bool = True, whole: bool = True) -> str:
    with pytest.raises(FormatUnknown) as refused:
        guessed(path, name, unpacked=unpacked, whole=whole)
    return refused.value.reason


@pytest.mark.parametrize(("make", "expected"), MARKED.values(), ids=MARKED)
def test_the_marks_of_the_data_decide_whatever_the_name_says(tmp_path: Path, make: Maker, expected: str) -> None:
    path = make(tmp_path)
    assert {name: guessed(path, name) for name in NAMES} == dict.fromkeys(NAMES, expected)


AT_BEGINNING = {name: marked for name, marked in MARKED.items() if not name.startswith("fixed vhd")}
"""Of an archive's content the end is not looked at."""


@pytest.mark.parametrize(("make", "expected"), AT_BEGINNING.values(), ids=AT_BEGINNING)
def test_the_content_of_an_archive_that_is_unpacked_decides(tmp_path: Path, make: Maker, expected: str) -> None:
    data = make(tmp_path).read_bytes()
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(data, 1))
    assert {guessed(packed, name) for name in ("x.img.gz", "x.qcow2", "x.raw")} == {expected}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("anything.img", data)
    assert {guessed(packed, name) for name in ("x.img.zip", "x.qcow2", "x.raw")} == {expected}


@pytest.mark.parametrize("name", ["disk.raw", "disk.img", "DISK.IMG", "disk.img.gz", "disk.raw.zip"])
def test_data_without_a_mark_are_raw_where_the_name_says_so(tmp_path: Path, name: str) -> None:
    assert guessed(raw_disk(tmp_path / "disk"), name) == "raw"


@pytest.mark.parametrize(
    ("name", "said"),
    [("x.qcow2", "qcow2"), ("x.iso", "iso"), ("x.vhd", "vhd"), ("x.vmdk.gz", "vmdk"), ("x", "none"), ("x.gz", "none")],
)
def test_data_without_a_mark_are_not_taken_for_raw_where_the_name_says_else(
    tmp_path: Path, name: str, said: str
) -> None:
    assert unknown(raw_disk(tmp_path / "disk"), name) == f"they have no mark of a format, and their name says {said}"


def _tar(data: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        entry = tarfile.TarInfo("disk.vmdk")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


@pytest.mark.parametrize(
    ("packing", "pack"),
    [
        ("xz", lzma.compress),
        ("bzip2", bz2.compress),
        ("bzip2", lambda _: bz2.compress(b"")),
        ("zstd", lambda data: b"\x28\xb5\x2f\xfd" + data),
        ("zstd", lambda data: b"\x50\x2a\x4d\x18" + data),
        ("lz4", lambda data: b"\x04\x22\x4d\x18" + data),
        ("7z", lambda data: b"7z\xbc\xaf\x27\x1c" + data),
        ("rar", lambda data: b"Rar!\x1a\x07\x01\0" + data),
        ("lzip", lambda data: b"LZIP\x01" + data),
        ("lzop", lambda data: b"\x89LZO\0\r\n\x1a\n" + data),
        ("tar", _tar),
    ],
)
@pytest.mark.parametrize("name", ["x.img", "x.raw"])
def test_what_imports_do_not_unpack_is_named_and_not_taken_for_raw(
    tmp_path: Path, packing: str, pack: Callable[[bytes], bytes], name: str
) -> None:
    path = tmp_path / "packed"
    for data in (pack(bytes(5000)), gzip.compress(pack(bytes(5000)))):
        path.write_bytes(data)
        assert unknown(path, name) == f"they are packed by {packing}, which imports do not unpack; unpack them first"


@pytest.mark.parametrize("name", ["x.img", "x.raw", "x.qcow2.gz"])
def test_an_archive_that_this_site_does_not_unpack_is_not_taken_for_raw(tmp_path: Path, name: str) -> None:
    path = tmp_path / "packed"
    path.write_bytes(gzip.compress(bytes(5000)))
    assert "packed by gzip, which this site does not unpack" in unknown(path, name, unpacked=False)


def test_an_archive_that_cannot_be_unpacked_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "packed"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.img", bytes(100))
        archive.writestr("two.img", bytes(100))
    assert "2 members" in unknown(path, "x.img")


@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_name_that_says_vhd_is_not_contradicted_by_a_beginning_alone(
    tmp_path: Path, wrap: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "beginning"
    path.write_bytes(wrap(protective_mbr() + bytes(HEAD_BYTES)))
    assert "whose mark may be at their end" in unknown(path, "azure.vhd", whole=False)
    assert guessed(path, "disk.img", whole=False) == "raw"


def test_a_format_that_the_site_does_not_take_is_not_guessed(tmp_path: Path) -> None:
    path = raw_disk(tmp_path / "disk")
    settings = Settings.model_validate({"home": tmp_path, "formats": {"disk_formats": ["qcow2"]}})
    with pytest.raises(FormatUnknown, match="they are raw, which is no disk format of this site"):
        guess_disk_format(path, "x.img", settings, unpacked=True)


def test_an_empty_file_is_no_disk(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert unknown(path, "x.qcow2").startswith("they have no mark")


@pytest.mark.parametrize(
    ("names", "said", "end_known", "expected"),
    [
        ({"raw"}, "raw", False, "raw"),
        ({"gpt"}, "", False, "raw"),
        ({"gpt"}, "qcow2", False, "raw"),
        ({"gpt"}, "vhd", True, "raw"),
        ({"iso", "gpt"}, "raw", True, "iso"),
        ({"vhd"}, "raw", True, "vhd"),
    ],
)
def test_marks_and_name_together(names: set[str], said: str, end_known: bool, expected: str) -> None:
    assert decide(frozenset(names), said, end_known=end_known) == expected


def test_data_of_several_formats_are_of_none() -> None:
    with pytest.raises(FormatUnknown, match="several formats at once: qcow2, vmdk"):
        decide(frozenset({"vmdk", "qcow2"}), "qcow2", end_known=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("debian-12.iso", "iso"),
        ("disk.qcow2.gz", "qcow2"),
        ("DISK.IMG", "raw"),
        ("A.ISO.GZ", "iso"),
        ("a.b.vhdx.zip", "vhdx"),
        ("disk.raw", "raw"),
        ("disk.vmdk", "vmdk"),
        ("disk.vdi", "vdi"),
        ("disk.vhd", "vhd"),
        ("a?b.iso", "iso"),
        *((name, "") for name in ("disk", "disk.gz", "disk.tar", "disk.tar.gz", ".iso", "")),
    ],
)
def test_what_a_name_says(name: str, said: str) -> None:
    assert said_by(name) == said
