"""The image_decompression plugin on zip files: made by the standard library, and by hand where it would not."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.plugin_workspace import settings_with, work_on
from tests.fakes.unpacking import assert_nothing_left, refusal, staged, unpack, unpacked
from transship.domain.errors import ImageTooLarge, ImportCancelled
from transship.domain.stop import StopToken
from transship.plugins.decompression import PLUGIN

MIB = 1024 * 1024
DATA = random.Random(7).randbytes(300_000) + b"the end"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def packed(
    *contents: bytes,
    method: int = zipfile.ZIP_DEFLATED,
    name: str = "disk.raw",
    mode: int = 0o100644,
    comment: bytes = b"",
    **options: bool,
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.comment = comment
        for number, content in enumerate(contents):
            member = zipfile.ZipInfo(name if number == 0 else f"{number}{name}")
            member.compress_type = method
            member.external_attr = mode << 16
            with archive.open(member, "w", **options) as stream:
                stream.write(content)
    return buffer.getvalue()


class Pipe(io.BytesIO):
    """A stream that cannot seek: sizes come behind the data, in a descriptor."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_where: int) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def streamed(content: bytes) -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("disk.raw", "w") as stream:
        stream.write(content)
    return pipe.getvalue()


@pytest.mark.parametrize("content", [b"", b"x", DATA, bytes(3 * MIB + 17)], ids=["empty", "one byte", "data", "zeros"])
@pytest.mark.parametrize("method", METHODS)
def test_the_member_is_unpacked_to_the_same_bytes(method: int, content: bytes, tmp_path: Path) -> None:
    path = staged(tmp_path, packed(content, method=method))
    assert unpacked(path, decompression={"max_ratio": 1e7}) == content


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(packed(DATA, force_zip64=True), id="zip64 in the member"),
        pytest.param(streamed(DATA), id="sizes behind the data"),
        pytest.param(packed(DATA, comment=b"made by us"), id="comment"),
        pytest.param(packed(DATA, comment=b"PK\5\6 and so on" * 40), id="end record's magic in the comment"),
        pytest.param(packed(DATA, name="../../etc/cron.d/x"), id="name that climbs"),
        pytest.param(packed(DATA, name="/etc/passwd"), id="absolute name"),
        pytest.param(packed(DATA, name="C:\\x"), id="name of another system"),
        pytest.param(packed(DATA, name="a").replace(b"a", b"\0", 1), id="name with NUL"),
        pytest.param(packed(DATA, name="x" * 65_000), id="long name"),
        pytest.param(packed(DATA, mode=stat.S_IFLNK | 0o777), id="mode of a symbolic link"),
        pytest.param(packed(DATA, mode=stat.S_IFBLK | 0o666), id="mode of a device"),
    ],
)
def test_only_the_content_matters(archive: bytes, tmp_path: Path) -> None:
    assert unpacked(staged(tmp_path, archive)) == DATA
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["image.1.decompressed.0", "staged", "work"]


def named(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


FORK = b"\0\5\x16\7\0\2\0\0Mac OS X        " + os.urandom(200)


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(named(("disk.raw", DATA), ("__MACOSX/._disk.raw", FORK)), id="resource fork"),
        pytest.param(
            named(("disk.raw", DATA), ("__MACOSX/", b""), ("__MACOSX/._disk.raw", FORK)), id="resource fork in a folder"
        ),
        pytest.param(named((".DS_Store", FORK), ("disk.raw", DATA)), id="view of a folder"),
        pytest.param(
            named(("my disk/.DS_Store", FORK), ("my disk/x.raw", DATA), ("__MACOSX/my disk/._x.raw", FORK)), id="folder"
        ),
        pytest.param(named(("._disk.raw", FORK), ("disk.raw", DATA)), id="fork beside the file"),
        pytest.param(
            named(*((f"__MACOSX/{n}", FORK) for n in range(7)), ("disk.raw", DATA), ("__MACOSX/x", FORK)),
            id="amid many",
        ),
        pytest.param(named(("__MACOSX/._disk.raw", DATA)), id="a fork alone is the image"),
    ],
)
def test_what_macos_packs_beside_the_image_does_not_count(archive: bytes, tmp_path: Path) -> None:
    assert unpacked(staged(tmp_path, archive)) == DATA


def test_what_macos_packs_may_come_with_sizes_behind_the_data(tmp_path: Path) -> None:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("disk.raw", DATA), ("__MACOSX/._disk.raw", FORK)):
            with archive.open(name, "w") as stream:
                stream.write(content)
    assert unpacked(staged(tmp_path, pipe.getvalue())) == DATA


def _with_hidden_data() -> bytes:
    """Data between the image and its resource fork that no member names."""
    archive = named(("disk.raw", DATA), ("__MACOSX/._disk.raw", FORK))
    fork_at, directory_at = archive.index(b"PK\3\4", 4), archive.index(b"PK\1\2")
    moved = bytearray(archive[:fork_at] + bytes(25) + archive[fork_at:])
    struct.pack_into("<I", moved, moved.index(b"PK\1\2", directory_at + 26) + 42, fork_at + 25)
    struct.pack_into("<I", moved, len(moved) - 6, directory_at + 25)
    return bytes(moved)


def with_long_end_record(archive: bytes, members: int = 1) -> bytes:
    """Move what the end record says into zip64 records, as packers of large files do."""
    body, end = archive[:-22], archive[-22:]
    length, at = struct.unpack_from("<2I", end, 12)
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, members, members, length, at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(body), 1)
    return body + record + locator + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)


def with_long_sizes(content: bytes) -> bytes:
    """Pack with the sizes in the zip64 field of the directory."""
    return by_hand(
        content,
        sizes=(0xFFFFFFFF, 0xFFFFFFFF),
        extra=struct.pack("<2H2Q", 1, 16, len(content), len(content)),
    )


def by_hand(
    content: bytes,
    *,
    method: int = 0,
    flags: int = 0,
    local_method: int | None = None,
    crc: int | None = None,
    sizes: tuple[int, int] | None = None,
    at: int = 0,
    extra: bytes = b"",
    before: bytes = b"",
    gap: bytes = b"",
    external: int = 0,
    disk: int = 0,
    body: bytes | None = None,
) -> bytes:
    body = content if body is None else body
    crc = zlib.crc32(content) if crc is None else crc
    packed_size, size = (len(body), len(content)) if sizes is None else sizes
    name = b"disk.raw"
    used = method if local_method is None else local_method
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, used, 0, 0, crc, len(body), len(content), len(name), 0)
    first = before + local + name + body + gap
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, flags, method, 0, 0, crc, packed_size, size,
                        len(name), len(extra), 0, disk, 0, external, at)  # fmt: skip
    directory = entry + name + extra
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(first), 0)
    return first + directory + end


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(by_hand(DATA), id="plain"),
        pytest.param(with_long_sizes(DATA), id="zip64 sizes"),
        pytest.param(with_long_end_record(packed(DATA)), id="zip64 end record"),
        pytest.param(with_long_end_record(with_long_sizes(DATA)), id="zip64 throughout"),
        pytest.param(by_hand(DATA, gap=bytes(24)), id="long data descriptor"),
    ],
)
def test_large_files_are_described_by_zip64_records(archive: bytes, tmp_path: Path) -> None:
    assert unpacked(staged(tmp_path, archive)) == DATA


def _lzma(dictionary: int, properties: int = 93) -> bytes:
    body = struct.pack("<2HBI", 0x1409, 5, properties, dictionary) + DATA
    return by_hand(DATA, method=14, body=body)


GOOD = packed(DATA)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        pytest.param(packed(), "has no member", id="no member"),
        pytest.param(packed(DATA, DATA), "has 2 members", id="two members"),
        pytest.param(named(("a", DATA), ("b", DATA), ("__MACOSX/._a", FORK)), "has 2 members", id="two, and a fork"),
        pytest.param(named(("__MACOSX/._a", FORK), (".DS_Store", FORK)), "has no member", id="forks alone"),
        pytest.param(named(("a/__MACOSX/b", DATA), ("c", DATA)), "has 2 members", id="a folder of that name elsewhere"),
        pytest.param(named(("d/", b""), ("__MACOSX/._d", FORK)), "is a directory", id="directory, and a fork"),
        pytest.param(named(("a", packed(DATA)), ("._a", FORK)), "holds a zip file", id="zip in zip, and a fork"),
        pytest.param(_with_hidden_data(), "other data stand between", id="data between members"),
        pytest.param(packed(*[b""] * 3000), "has 3000 members", id="many members"),
        pytest.param(with_long_end_record(packed(DATA), 70_000), "has 70000 members", id="very many members"),
        pytest.param(packed(b"", name="images/"), "is a directory", id="directory by name"),
        pytest.param(packed(DATA, mode=stat.S_IFDIR | 0o755), "contradict|is a directory", id="directory by mode"),
        pytest.param(by_hand(DATA, external=0x10), "is a directory", id="directory by attribute"),
        pytest.param(by_hand(DATA, flags=1), "encrypted", id="ZipCrypto"),
        pytest.param(by_hand(DATA, flags=1, method=99), "encrypted", id="AES"),
        pytest.param(by_hand(DATA, flags=0x41), "encrypted", id="strong encryption"),
        pytest.param(by_hand(DATA, method=9), "method deflate64 is not supported", id="deflate64"),
        pytest.param(by_hand(DATA, method=93), "method zstd is not supported", id="zstd"),
        pytest.param(by_hand(DATA, method=95), "method xz is not supported", id="xz"),
        pytest.param(by_hand(DATA, method=6), "method implode is not supported", id="implode"),
        pytest.param(by_hand(DATA, method=77), "method number 77 is not supported", id="unknown method"),
        pytest.param(_lzma(0xC0000000), "dictionary is larger than 64 MiB", id="LZMA dictionary of 3 GiB"),
        pytest.param(_lzma(1 << 16), "no LZMA stream|less comes out", id="nonsense in LZMA"),
        pytest.param(_lzma(1 << 16, properties=255), "properties make no sense", id="nonsense in LZMA properties"),
        pytest.param(by_hand(DATA, method=14, body=b"ab"), "cut short", id="LZMA of two bytes"),
        pytest.param(by_hand(DATA, method=8), "no deflate stream|less comes out|end too early", id="no deflate"),
        pytest.param(by_hand(DATA, method=12), "no bzip2 stream", id="no bzip2"),
        pytest.param(by_hand(DATA, method=8, body=zlib.compress(DATA, wbits=-15)[:-9]), "end too early", id="cut"),
        pytest.param(by_hand(DATA, method=12, body=b""), "end too early", id="nothing packed"),
        pytest.param(by_hand(DATA, crc=1), "checksum is wrong", id="wrong checksum"),
        pytest.param(by_hand(DATA, sizes=(len(DATA), 5)), "more comes out", id="size too small"),
        pytest.param(by_hand(DATA, sizes=(len(DATA), len(DATA) + 1)), "less comes out", id="size too large"),
        pytest.param(by_hand(DATA, local_method=8), "contradict each other", id="two methods"),
        pytest.param(by_hand(DATA, disk=3), "split archive", id="second disk"),
        pytest.param(by_hand(DATA, gap=bytes(25)), "other data stand behind", id="gap before the directory"),
        pytest.param(by_hand(DATA, sizes=(1 << 31, len(DATA))), "not where its directory says", id="data beyond"),
        pytest.param(by_hand(DATA, sizes=(0xFFFFFFFF, 0xFFFFFFFF)), "states no size", id="no zip64 field"),
        pytest.param(by_hand(DATA, before=GOOD[:-22], at=len(GOOD) - 22), "stand before", id="hidden member before"),
        pytest.param(GOOD[:-1], "truncated", id="last byte missing"),
        pytest.param(GOOD[:-22], "truncated", id="end record missing"),
        pytest.param(GOOD[: len(GOOD) // 2], "truncated", id="half"),
        pytest.param(GOOD[:4], "truncated", id="four bytes"),
        pytest.param(GOOD + b"garbage", "other data follow", id="garbage at the end"),
        pytest.param(GOOD + bytes(70_000), "truncated, or other data", id="long padding"),
        pytest.param(GOOD[:-22] + b"garbage" + GOOD[-22:], "not where it should be", id="garbage inside"),
        pytest.param(packed(gzip.compress(DATA)), "holds a gzip file", id="gzip in zip"),
        pytest.param(packed(packed(DATA), method=0), "holds a zip file", id="zip in zip"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_with_the_reason(archive: bytes, reason: str, tmp_path: Path) -> None:
    refused = refusal(staged(tmp_path, archive), decompression={"max_ratio": 1e7})
    assert refused.kind == "zip"
    assert any(each in refused.reason for each in reason.split("|")), refused.reason


def test_65535_members_are_refused_without_reading_their_directory(tmp_path: Path) -> None:
    entries = 65_535
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, entries, entries, 46 * entries, 38, 0)
    path = staged(tmp_path, by_hand(b"")[:38] + os.urandom(46) * entries + end)
    tracemalloc.start()
    try:
        assert "has 65535 members" in refusal(path).reason
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MIB


def test_an_image_that_shall_stay_compressed_is_left_alone(tmp_path: Path) -> None:
    outcome = unpack(staged(tmp_path, GOOD), container="compressed")
    assert (outcome.path, outcome.summary) == (None, "kept as it is: container_format is compressed")


def test_zeros_become_holes(tmp_path: Path) -> None:
    outcome = unpack(staged(tmp_path, packed(DATA + bytes(64 * MIB) + DATA)))
    assert outcome.path is not None
    assert outcome.path.stat().st_blocks * 512 < 2 * MIB
    assert outcome.summary.startswith("unpacked zip: ")


def bomb(folder: Path, method: int, size_mib: int, stated: int | None = None) -> Path:
    path = folder / "staged"
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("disk.raw", "w") as stream:
        for _ in range(size_mib):
            stream.write(bytes(MIB))
    if stated is not None:
        archive_bytes = bytearray(path.read_bytes())
        struct.pack_into("<I", archive_bytes, archive_bytes.rindex(b"PK\1\2") + 24, stated)
        path.write_bytes(archive_bytes)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_a_bomb_that_states_its_size_is_refused_before_a_byte_is_unpacked(method: int, tmp_path: Path) -> None:
    path = bomb(tmp_path, method, 16)
    with pytest.raises(ImageTooLarge) as refused:
        unpack(path, imports={"image_size_cap_bytes": 10 * MIB}, decompression={"max_ratio": 1e9})
    assert (refused.value.size_bytes, refused.value.option) == (16 * MIB, "imports.image_size_cap_bytes")


@pytest.mark.parametrize("method", METHODS[2:])
def test_a_bomb_stops_at_the_ratio(method: int, tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge) as refused:
        unpack(bomb(tmp_path, method, 16), decompression={"ratio_floor_bytes": 0})
    assert refused.value.option == "decompression.max_ratio"


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_bomb_that_lies_about_its_size_stops_there(method: int, tmp_path: Path) -> None:
    path = bomb(tmp_path, method, 16, stated=3 * MIB)
    refused = refusal(path, decompression={"max_ratio": 1e9})
    assert "more comes out" in refused.reason or "checksum" in refused.reason


@pytest.mark.parametrize("method", METHODS)
def test_memory_stays_bounded_whatever_the_ratio(method: int, tmp_path: Path) -> None:
    path = bomb(tmp_path, method, 16)
    tracemalloc.start()
    try:
        unpack(path, decompression={"max_ratio": 1e9})
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 12 * MIB


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_stopped_import_leaves_nothing(method: int, tmp_path: Path) -> None:
    stop = StopToken()
    cancel: Callable[[int, int], None] = lambda _done, _total: stop.stop(ImportCancelled("by the test"))  # noqa: E731
    settings = settings_with(tmp_path, decompression={"max_ratio": 1e9})
    work, workspace = work_on(bomb(tmp_path, method, 16), settings, stop=stop, progress=cancel)
    with pytest.raises(ImportCancelled):
        PLUGIN.run(work)
    assert_nothing_left(workspace)
