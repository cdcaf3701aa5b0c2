"""The image_decompression plugin on real gzip files, good and hostile."""

from __future__ import annotations

import gzip
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest

from tests.fakes.archives import tar_of, zip_of
from tests.fakes.plugin_workspace import settings_with, work_on
from tests.fakes.unpacking import assert_nothing_left, staged, unpack, unpacked
from transship.domain.errors import ArchiveRefused, ImageTooLarge, ImportCancelled, StagingFull
from transship.domain.stop import StopToken
from transship.plugins.decompression import PLUGIN, output_bound

MIB = 1024 * 1024
DATA = random.Random(7).randbytes(300_000) + b"the end"


@pytest.mark.parametrize(
    ("packed", "image"),
    [
        pytest.param(gzip.compress(DATA), DATA, id="one member"),
        pytest.param(gzip.compress(DATA[:5]) + gzip.compress(DATA[5:]), DATA, id="two members"),
        pytest.param(gzip.compress(b"") * 3 + gzip.compress(DATA), DATA, id="empty members first"),
        pytest.param(
            b"".join(gzip.compress(bytes([n % 256])) for n in range(9000)),
            bytes(range(256)) * 35 + bytes(range(40)),
            id="thousands of tiny members",
        ),
        pytest.param(gzip.compress(DATA) + bytes(70_000), DATA, id="zero padding"),
        pytest.param(gzip.compress(DATA) + bytes(512) + gzip.compress(DATA), DATA * 2, id="padding between members"),
        pytest.param(gzip.compress(b""), b"", id="nothing in it"),
        pytest.param(gzip.compress(bytes(3 * MIB + 17)), bytes(3 * MIB + 17), id="zeros"),
        pytest.param(gzip.compress(DATA, compresslevel=0), DATA, id="stored"),
    ],
)
def test_gzip_is_unpacked_to_the_same_bytes(packed: bytes, image: bytes, tmp_path: Path) -> None:
    assert unpacked(staged(tmp_path, packed)) == image


@pytest.mark.parametrize("padding", range(131_060, 131_080))
def test_members_may_end_anywhere_in_what_is_read_at_a_time(padding: int, tmp_path: Path) -> None:
    first = gzip.compress(os.urandom(padding - 23), compresslevel=0)
    packed = first + gzip.compress(b"second")
    assert unpacked(staged(tmp_path, packed)) == gzip.decompress(packed)


def test_the_summary_and_the_record_tell_what_was_done(tmp_path: Path) -> None:
    outcome = unpack(staged(tmp_path, gzip.compress(bytes(MIB))))
    assert outcome.summary == "unpacked gzip: 1.0 KiB became 1.0 MiB"
    assert (outcome.disk_format, outcome.container_format, outcome.virtual_size) == (None, None, None)


def test_zeros_become_holes(tmp_path: Path) -> None:
    image = DATA + bytes(64 * MIB) + DATA + bytes(5 * MIB)
    outcome = unpack(staged(tmp_path, gzip.compress(image, compresslevel=1)))
    assert outcome.path is not None
    assert outcome.path.read_bytes() == image
    assert outcome.path.stat().st_blocks * 512 < 2 * MIB


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"QFI\xfb" * 100, b"BZh91AY" * 9, bytes(4096)])
def test_what_is_no_archive_is_left_alone(content: bytes, tmp_path: Path) -> None:
    outcome = unpack(staged(tmp_path, content))
    assert (outcome.path, outcome.summary) == (None, "nothing to unpack: not a compressed file")


def test_an_image_that_shall_stay_compressed_is_left_alone(tmp_path: Path) -> None:
    outcome = unpack(staged(tmp_path, gzip.compress(DATA)), container="compressed")
    assert (outcome.path, outcome.summary) == (None, "kept as it is: container_format is compressed")


@pytest.mark.parametrize("declared", ["ari", "aki", "ami"])
def test_kernels_and_ramdisks_stay_packed(declared: str, tmp_path: Path) -> None:
    work, workspace = work_on(staged(tmp_path, gzip.compress(DATA)), settings_with(tmp_path), disk_format=declared)
    outcome = PLUGIN.run(work)
    assert (outcome.path, outcome.summary) == (None, f"kept as it is: disk_format is {declared}")
    assert_nothing_left(workspace)


def _crc_wrong(packed: bytes) -> bytes:
    return packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]


def _length_wrong(packed: bytes) -> bytes:
    return packed[:-4] + bytes([packed[-4] ^ 1]) + packed[-3:]


PACKED = gzip.compress(DATA)


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        pytest.param(PACKED[:-1], "gzip", "truncated", id="last byte missing"),
        pytest.param(PACKED[:-8], "gzip", "truncated", id="trailer missing"),
        pytest.param(PACKED[: len(PACKED) // 2], "gzip", "truncated", id="half"),
        pytest.param(PACKED[:5], "gzip", "truncated", id="five bytes"),
        pytest.param(PACKED + PACKED[:40], "gzip", "truncated", id="second member truncated"),
        pytest.param(_crc_wrong(PACKED), "gzip", "damaged", id="wrong checksum"),
        pytest.param(_length_wrong(PACKED), "gzip", "damaged", id="wrong length"),
        pytest.param(PACKED[:10] + b"\xff" * 900, "gzip", "damaged", id="nonsense inside"),
        pytest.param(PACKED + b"garbage", "gzip", "other data follow", id="garbage at the end"),
        pytest.param(PACKED + bytes(512) + b"x", "gzip", "other data follow", id="garbage after padding"),
        pytest.param(gzip.compress(PACKED), "gzip", "holds a gzip file", id="gzip in gzip"),
        pytest.param(gzip.compress(zip_of(DATA)), "gzip", "holds a zip file", id="zip in gzip"),
        pytest.param(gzip.compress(tar_of(DATA)), "gzip", "multi-layer (tar) not supported", id="tar in gzip"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_with_the_reason(
    content: bytes, kind: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveRefused) as refused:
        unpack(staged(tmp_path, content))
    assert refused.value.kind == kind
    assert reason in refused.value.reason


def bomb(folder: Path, members: int) -> Path:
    """Members of 64 MiB of zeros each."""
    packer = zlib.compressobj(9, wbits=31)
    member = packer.compress(bytes(64 * MIB)) + packer.flush()
    return staged(folder, member * members)


def test_a_bomb_stops_at_the_size_cap(tmp_path: Path) -> None:
    path = bomb(tmp_path, members=160)
    assert path.stat().st_size < 11 * MIB
    with pytest.raises(ImageTooLarge) as refused:
        unpack(path, imports={"image_size_cap_bytes": 100 * MIB})
    assert refused.value.option == "imports.image_size_cap_bytes"
    assert refused.value.size_bytes <= 101 * MIB


def test_a_bomb_stops_at_the_ratio(tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge) as refused:
        unpack(bomb(tmp_path, members=2), decompression={"max_ratio": 100, "ratio_floor_bytes": 0})
    assert refused.value.option == "decompression.max_ratio"


@pytest.mark.parametrize(
    ("packed_mib", "image_mib", "passes"),
    [
        pytest.param(1, 1024, True, id="a blank disk of 1 GiB"),
        pytest.param(0.01, 1024, True, id="zeros of 1 GiB, better packed"),
        pytest.param(10, 10 * 1024, False, id="10 GiB of zeros"),
        pytest.param(2, 2 * 1024, False, id="2 GiB of zeros"),
        pytest.param(357, 10 * 1024, True, id="1 GiB of programs in an ext4 of 10 GiB"),
        pytest.param(387, 40 * 1024, True, id="1 GiB of programs in an ext4 of 40 GiB"),
        pytest.param(26, 10 * 1024, True, id="a system of 16 MiB in 10 GiB"),
    ],
)
def test_by_default_mostly_empty_disks_pass_and_zeros_alone_do_not(
    packed_mib: float, image_mib: int, passes: bool, tmp_path: Path
) -> None:
    bound = output_bound(int(packed_mib * MIB), settings_with(tmp_path))
    assert (bound.limit_bytes >= image_mib * MIB, bound.option) == (passes, "decompression.max_ratio")


@pytest.fixture(scope="module")
def beyond_32_bits() -> bytes:
    """One member of a little more than 4 GiB, so that the length in its trailer has wrapped."""
    size, step = 65, bytes(64 * MIB)
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    # A full flush forgets what was before, so the same bytes may follow again and again.
    packed = packer.compress(step) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(size):
        checksum = zlib.crc32(step, checksum)
    end = zlib.compressobj(9, wbits=-zlib.MAX_WBITS).flush()
    trailer = struct.pack("<2I", checksum, size * len(step) % 2**32)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + packed * size + end + trailer


def test_b3_a_member_above_4_gib_is_unpacked(beyond_32_bits: bytes, tmp_path: Path) -> None:
    outcome = unpack(staged(tmp_path, beyond_32_bits), decompression={"max_ratio": 1e9})
    assert outcome.path is not None
    assert (outcome.path.stat().st_size, outcome.path.stat().st_blocks) == (65 * 64 * MIB, 0)


def test_b3_the_wrapped_length_of_a_member_above_4_gib_is_checked(beyond_32_bits: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match="damaged"):
        unpack(staged(tmp_path, _length_wrong(beyond_32_bits)), decompression={"max_ratio": 1e9})


def test_memory_stays_bounded_whatever_the_ratio(tmp_path: Path) -> None:
    path = bomb(tmp_path, members=4)
    tracemalloc.start()
    try:
        unpack(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 16 * MIB


def test_room_is_reserved_before_it_is_used(tmp_path: Path) -> None:
    path = staged(tmp_path, gzip.compress(os.urandom(3 * MIB)))
    work, workspace = work_on(path, settings_with(tmp_path))
    outcome = PLUGIN.run(work)
    assert outcome.path is not None
    assert workspace.reserved[outcome.path] >= 3 * MIB


def test_the_last_room_can_be_used_up(tmp_path: Path) -> None:
    image = os.urandom(3 * MIB)
    outcome = unpack(staged(tmp_path, gzip.compress(image)), room=3 * MIB)
    assert outcome.path is not None
    assert outcome.path.read_bytes() == image


def test_holes_ask_for_no_room(tmp_path: Path) -> None:
    assert unpack(bomb(tmp_path, members=2), room=0).path is not None


def test_no_room_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StagingFull):
        unpack(staged(tmp_path, gzip.compress(os.urandom(3 * MIB))), room=MIB)


def test_a_stopped_import_leaves_nothing(tmp_path: Path) -> None:
    stop = StopToken()
    path = bomb(tmp_path, members=20)
    work, workspace = work_on(
        path,
        settings_with(tmp_path),
        stop=stop,
        progress=lambda _done, _total: stop.stop(ImportCancelled("by the test")),
    )
    with pytest.raises(ImportCancelled):
        PLUGIN.run(work)
    assert_nothing_left(workspace)


def test_progress_ends_with_the_whole_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = staged(tmp_path, gzip.compress(DATA))
    work, _ = work_on(path, settings_with(tmp_path), progress=lambda done, total: seen.append((done, total)))
    PLUGIN.run(work)
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_running_twice_gives_the_same(tmp_path: Path) -> None:
    path = staged(tmp_path, gzip.compress(DATA))
    work, _ = work_on(path, settings_with(tmp_path))
    first, second = PLUGIN.run(work), PLUGIN.run(work)
    assert first.path is not None
    assert second.path is not None
    assert first.path.read_bytes() == second.path.read_bytes() == DATA
