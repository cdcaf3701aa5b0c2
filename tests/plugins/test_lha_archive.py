"""The image_decompression plugin on LHA files of every header level, with lhasa doing the decoding."""

from __future__ import annotations

import gzip
import random
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.lha_archives import (
    END,
    Member,
    level_0,
    level_1,
    level_2,
    level_3,
    packed_in_flagged_bytes,
    packed_in_flagged_groups,
    packed_literals,
    packed_zeros,
)
from tests.fakes.plugin_workspace import settings_with, work_on
from tests.fakes.unpacking import assert_nothing_left, refusal, staged, unpack, unpacked
from transship.domain.errors import ImageTooLarge, ImportCancelled
from transship.domain.stop import StopToken
from transship.plugins.decompression import PLUGIN

needs_lhasa = pytest.mark.skipif(shutil.which("lhasa") is None, reason="lhasa is missing; apt-get install lhasa")

MIB = 1024 * 1024
DATA = random.Random(9).randbytes(150_000) + b"the end"
GZIPPED = gzip.compress(DATA, mtime=0)
LEVELS = (level_0, level_1, level_2, level_3)
STORED = Member(DATA, DATA)
PACKED = Member(packed_literals(DATA), DATA, b"-lh5-")
NAME_HEADER = b"\x01" + b"other.raw"
PATH_HEADER = b"\x02" + b"..\xff..\xffetc\xff"
LONG_SIZE_HEADER = b"\x42" + struct.pack("<2Q", 1 << 33, 1 << 33)


def zeros(copies: int, method: bytes = b"-lh5-", size: int | None = None, crc: int = 0) -> bytes:
    data, length = packed_zeros(copies, method)
    return level_2(Member(data, b"", method, size=length if size is None else size, crc=crc)) + END


@needs_lhasa
@pytest.mark.parametrize("method", [b"-lh0-", b"-lh4-", b"-lh5-", b"-lh6-", b"-lh7-", b"-lhx-"])
@pytest.mark.parametrize("level", LEVELS)
def test_the_member_is_unpacked_to_the_same_bytes(
    level: Callable[[Member], bytes], method: bytes, tmp_path: Path
) -> None:
    packed = DATA if method == b"-lh0-" else packed_literals(DATA, method)
    archive = level(Member(packed, DATA, method)) + END
    assert unpacked(staged(tmp_path, archive)) == DATA


@needs_lhasa
@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(level_2(PACKED), id="no end mark"),
        pytest.param(level_2(PACKED) + bytes(70_000), id="zero padding"),
        pytest.param(level_0(replace(PACKED, name=b"../../etc/cron.d/x")) + END, id="name that climbs"),
        pytest.param(level_0(replace(PACKED, name=b"/etc/passwd")) + END, id="absolute name"),
        pytest.param(level_1(PACKED, (NAME_HEADER, PATH_HEADER)) + END, id="level 1 with a path that climbs"),
        pytest.param(level_2(PACKED, (PATH_HEADER,)) + END, id="level 2 with a path that climbs"),
        pytest.param(level_3(PACKED, (PATH_HEADER,)) + END, id="level 3 with a path that climbs"),
        pytest.param(level_2(replace(STORED, method=b"-pm0-")) + END, id="pm0"),
        pytest.param(level_2(replace(STORED, method=b"-lz4-")) + END, id="lz4"),
        pytest.param(level_2(Member(packed_in_flagged_groups(DATA), DATA, b"-lz5-")) + END, id="lz5"),
        pytest.param(level_2(Member(packed_in_flagged_bytes(DATA), DATA, b"-lzs-")) + END, id="lzs"),
    ],
)
def test_only_the_content_matters(archive: bytes, tmp_path: Path) -> None:
    assert unpacked(staged(tmp_path, archive)) == DATA
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["image.1.decompressed.0", "staged", "work"]


@needs_lhasa
@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        pytest.param(level_2(replace(PACKED, crc=1)) + END, "its checksum is wrong", id="wrong checksum"),
        pytest.param(level_2(replace(PACKED, size=len(DATA) + 1)) + END, "comes out", id="size too large"),
        pytest.param(level_2(replace(PACKED, size=5)) + END, "checksum is wrong", id="size too small"),
        pytest.param(level_0(replace(PACKED, name=b"")) + END, "comes out", id="no name"),
        pytest.param(level_2(replace(PACKED, packed=bytes(900))) + END, "comes out", id="nonsense inside"),
        pytest.param(level_2(Member(GZIPPED, GZIPPED)) + END, "holds a gzip file", id="gzip"),
    ],
)
def test_what_does_not_unpack_well_is_refused_with_the_reason(archive: bytes, reason: str, tmp_path: Path) -> None:
    refused = refusal(staged(tmp_path, archive))
    assert refused.kind == "lha"
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        pytest.param(level_2(STORED) * 2 + END, "has several members", id="two members"),
        pytest.param(level_0(STORED) + level_1(PACKED) + END, "has several members", id="two members of two levels"),
        pytest.param(level_1(STORED) + b"garbage", "has several members, or other data", id="garbage at the end"),
        pytest.param(level_1(STORED) + END + b"garbage", "other data follow", id="garbage after the end mark"),
        pytest.param(level_0(Member(b"", b"", b"-lhd-", b"images/")) + END, "a directory or a link", id="directory"),
        pytest.param(level_2(Member(b"", b"", b"-lhd-", b"x|/etc/passwd")) + END, "directory or a link", id="link"),
        pytest.param(level_2(replace(STORED, method=b"-lh1-")) + END, "method -lh1- is not supported", id="lh1"),
        pytest.param(level_2(replace(STORED, method=b"-lh2-")) + END, "method -lh2- is not supported", id="lh2"),
        pytest.param(level_2(replace(STORED, method=b"-lh3-")) + END, "method -lh3- is not supported", id="lh3"),
        pytest.param(level_2(replace(STORED, method=b"-pm1-")) + END, "method -pm1- is not supported", id="pm1"),
        pytest.param(level_2(replace(STORED, method=b"-pm2-")) + END, "method -pm2- is not supported", id="pm2"),
        pytest.param(level_2(replace(STORED, method=b"-pms-")) + END, "method -pms- is not supported", id="pms"),
        pytest.param(level_2(STORED, (LONG_SIZE_HEADER,)) + END, "4 GiB and more", id="64-bit sizes"),
        pytest.param(level_2(STORED)[:-1], "truncated", id="last byte missing"),
        pytest.param(level_2(replace(STORED, packed_size=0xFFFFFFFF)), "truncated", id="packed size 0xFFFFFFFF"),
        pytest.param(level_2(STORED)[:20], "header is cut short", id="twenty bytes"),
        pytest.param(b"\x20\x80-lh5-" + bytes(100), "checksum of its header", id="wrong header checksum"),
        pytest.param(b"\xff\x80-lh5-" + bytes(100), "checksum of its header", id="header longer than the file"),
        pytest.param(b"\x20\x80-lh5-" + bytes(13) + b"\x07" + bytes(90), "level 7 is not known", id="level 7"),
        pytest.param(b"\x05\x00-lh5-" + bytes(13) + b"\x03" + bytes(90), "contradicts itself", id="level 3 of words"),
        pytest.param(
            b"\x20\x00-lh5-" + bytes(13) + b"\x02\0\0U\xff\xff" + bytes(90), "longer than", id="endless extended header"
        ),
        pytest.param(
            b"\x20\x00-lh5-" + bytes(13) + b"\x02\0\0U\x02\x00" + bytes(90), "longer than", id="empty extended header"
        ),
    ],
)
def test_headers_that_cannot_be_accepted_are_refused_before_decoding(
    archive: bytes, reason: str, tmp_path: Path
) -> None:
    refused = refusal(staged(tmp_path, archive), decompression={"lha_command": "lhasa-of-nobody"})
    assert refused.kind == "lha"
    assert reason in refused.reason


def test_without_lhasa_the_import_fails_and_says_so(tmp_path: Path) -> None:
    refused = refusal(staged(tmp_path, level_2(PACKED) + END), decompression={"lha_command": "lhasa-of-nobody"})
    assert "lhasa-of-nobody is not installed on this host" in refused.reason


def test_an_image_that_shall_stay_compressed_is_left_alone(tmp_path: Path) -> None:
    outcome = unpack(staged(tmp_path, level_2(PACKED) + END), container="compressed")
    assert (outcome.path, outcome.summary) == (None, "kept as it is: container_format is compressed")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 1 << 31])
def test_a_bomb_that_states_its_size_is_refused_before_a_byte_is_unpacked(size: int, tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge) as refused:
        unpack(staged(tmp_path, zeros(1 << 24, size=size)), decompression={"lha_command": "lhasa-of-nobody"})
    assert (refused.value.size_bytes, refused.value.option) == (size, "decompression.max_ratio")


@needs_lhasa
def test_a_bomb_that_lies_about_its_size_stops_there(tmp_path: Path) -> None:
    refused = refusal(staged(tmp_path, zeros(1 << 24, size=100_000, crc=1)), decompression={"max_ratio": 1e9})
    assert "checksum is wrong" in refused.reason


@needs_lhasa
def test_zeros_become_holes_and_memory_stays_bounded(tmp_path: Path) -> None:
    path = staged(tmp_path, zeros(1 << 18))
    tracemalloc.start()
    try:
        outcome = unpack(path, decompression={"max_ratio": 1e9})
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.path is not None
    assert (outcome.path.stat().st_size, outcome.path.stat().st_blocks) == ((1 << 26) + 1, 0)
    assert peak_bytes < 8 * MIB


@needs_lhasa
def test_lhasa_may_not_take_longer_than_the_settings_allow(tmp_path: Path) -> None:
    path = staged(tmp_path, zeros(1 << 23))
    refused = refusal(path, decompression={"max_ratio": 1e9, "lha_timeout_s": 0.01})
    assert "decompression.lha_timeout_s" in refused.reason


@needs_lhasa
def test_a_stopped_import_leaves_nothing(tmp_path: Path) -> None:
    stop = StopToken()
    cancel: Callable[[int, int], None] = lambda _done, _total: stop.stop(ImportCancelled("by the test"))  # noqa: E731
    settings = settings_with(tmp_path, decompression={"max_ratio": 1e9})
    work, workspace = work_on(staged(tmp_path, zeros(1 << 22)), settings, stop=stop, progress=cancel)
    with pytest.raises(ImportCancelled):
        PLUGIN.run(work)
    assert_nothing_left(workspace)
