"""Incomplete images, and unusual complete ones, made by qemu-img."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.settings import FormatSettings
from tests.fakes import disk_images as images
from tests.fakes.plugin_workspace import settings_with, work_on
from transship.domain.errors import FormatUnsafe
from transship.domain.stop import StopToken
from transship.plugins.conversion import PLUGIN
from transship.plugins.disk_tables import flaw_of
from transship.plugins.format_gate import Inspected, inspect_file

MIB = images.MIB
DISK_BYTES = 6 * MIB
ODD_DISK_BYTES = DISK_BYTES + 1536
KINDS = {
    "qcow2": ("qcow2", "qcow2", ""),
    "qcow2 version 2": ("qcow2", "qcow2", "compat=0.10"),
    "qcow2 of small clusters": ("qcow2", "qcow2", "cluster_size=512"),
    "qcow2 of large clusters": ("qcow2", "qcow2", "cluster_size=2M"),
    "vmdk monolithicSparse": ("vmdk", "vmdk", "subformat=monolithicSparse"),
    "vmdk streamOptimized": ("vmdk", "vmdk", "subformat=streamOptimized"),
    "vdi": ("vdi", "vdi", ""),
    "dynamic vhd": ("vhd", "vpc", "force_size=on"),
    "fixed vhd": ("vhd", "vpc", "force_size=on,subformat=fixed"),
    "vhdx": ("vhdx", "vhdx", "block_size=1M"),
}
TABLE_KINDS = [name for name in KINDS if name != "fixed vhd"]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random data at the start, amid and at the end of holes."""
    return written(tmp_path_factory.mktemp("disk") / "disk", DISK_BYTES)


@pytest.fixture(scope="module")
def odd_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of a size that is no multiple of any cluster."""
    return written(tmp_path_factory.mktemp("odd") / "disk", ODD_DISK_BYTES)


def written(path: Path, size_bytes: int) -> Path:
    data = random.Random(7)
    with path.open("wb") as disk:
        disk.truncate(size_bytes)
        for offset in (0, 2 * MIB + 70_000, size_bytes - 200_000):
            disk.seek(offset)
            disk.write(data.randbytes(200_000))
    return path


@pytest.fixture(scope="module")
def made(disk: Path) -> Callable[[str], Path]:
    """Images of the disk by kind, each made once; not to be changed."""

    def make(name: str) -> Path:
        _format, qemu_format, options = KINDS[name]
        path = disk.with_name(name)
        return path if path.exists() else images.converted(disk, path, qemu_format, options)

    return make


def copied(path: Path, folder: Path, cut_at: int | None = None) -> Path:
    copy = folder / "image"
    shutil.copyfile(path, copy)
    if cut_at is not None:
        os.truncate(copy, cut_at)
    return copy


def inspect(path: Path, declared: str) -> Inspected:
    return inspect_file(
        path,
        declared,
        "bare",
        FormatSettings(),
        size_cap_bytes=1 << 41,
        stop=StopToken(),
        progress=lambda _done, _total: None,
    )


def flaw(path: Path, declared: str, stop: StopToken | None = None) -> str:
    with path.open("rb") as image:
        return flaw_of(declared, image.fileno(), path.stat().st_size, stop or StopToken())


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_image_has_no_flaw(name: str, made: Callable[[str], Path]) -> None:
    assert inspect(made(name), KINDS[name][0]) == Inspected(KINDS[name][0], DISK_BYTES)


# --- cut short ---------------------------------------------------------------------------------


@pytest.mark.parametrize("declared_raw", [False, True], ids=["declared", "declared raw"])
@pytest.mark.parametrize("name", TABLE_KINDS)
def test_an_image_that_was_cut_anywhere_is_refused(
    name: str, declared_raw: bool, made: Callable[[str], Path], tmp_path: Path
) -> None:
    declared = KINDS[name][0]
    size_bytes = made(name).stat().st_size
    # The last sector is a second footer, or may be padding.
    data_bytes = size_bytes - 512 if name in {"dynamic vhd", "vmdk streamOptimized"} else size_bytes
    for cut_at in (512, 4096, *(size_bytes * part // 24 | 1 for part in range(1, 24)), data_bytes - 1):
        path = copied(made(name), tmp_path, cut_at)
        if declared == "vhdx" and cut_at < 256 * 1024:
            continue  # see below
        with pytest.raises(FormatUnsafe) as refused:
            inspect(path, "raw" if declared_raw else declared)
        assert refused.value.detected == declared, cut_at
        assert "cut short" in refused.value.reason, cut_at


@pytest.mark.parametrize("cut_at", [512, 64 * 1024, 200 * 1024])
def test_a_vhdx_that_was_cut_in_its_headers_is_refused(
    cut_at: int, made: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(FormatUnsafe):
        inspect(copied(made("vhdx"), tmp_path, cut_at), "vhdx")


@pytest.mark.parametrize("name", TABLE_KINDS)
def test_a_cut_image_is_not_converted_either(name: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied(made(name), tmp_path, made(name).stat().st_size // 3)
    work, workspace = work_on(path, settings_with(tmp_path), disk_format=KINDS[name][0])
    with pytest.raises(FormatUnsafe):
        PLUGIN.run(work)
    assert list(workspace.directory.iterdir()) == []


def test_a_fixed_vhd_that_lacks_its_middle_is_refused(made: Callable[[str], Path], tmp_path: Path) -> None:
    whole = made("fixed vhd").read_bytes()
    path = tmp_path / "image"
    path.write_bytes(whole[: 2 * MIB] + whole[-512:])
    with pytest.raises(FormatUnsafe, match="cut short"):
        inspect(path, "vhd")


def test_an_iso_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = images.patched(images.iso(tmp_path / "iso"), 0x8000 + 80, struct.pack("<L", 40_000))
    with pytest.raises(FormatUnsafe, match="cut short"):
        inspect(path, "iso")


def test_an_iso_may_lack_its_padding(tmp_path: Path) -> None:
    path = images.patched(images.iso(tmp_path / "iso"), 0x8000 + 80, struct.pack("<L", 40 + 150))
    assert inspect(path, "iso") == Inspected("iso", 190 * 2048)


# --- whole, although it looks odd --------------------------------------------------------------


@pytest.mark.parametrize("missing_bytes", [512, 4096, 30 * 512])
def test_the_last_cluster_of_a_qcow2_may_be_short(missing_bytes: int, disk: Path, tmp_path: Path) -> None:
    path = images.converted(disk, tmp_path / "qcow2", "qcow2")
    os.truncate(path, path.stat().st_size - missing_bytes)
    subprocess.run(["qemu-img", "check", path], check=True, capture_output=True)
    assert inspect(path, "qcow2") == Inspected("qcow2", DISK_BYTES)


@pytest.mark.parametrize(
    ("qemu_format", "declared"),
    [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vdi", "vdi"), ("vpc", "vhd"), ("vhdx", "vhdx")],
)
@pytest.mark.parametrize("size", ["64M", "100G", "1T"])
def test_a_blank_image_is_whole(qemu_format: str, declared: str, size: str, tmp_path: Path) -> None:
    path = tmp_path / "blank"
    images.qemu_img("create", "-f", qemu_format, path, size)
    assert inspect(path, declared).detected == declared


@pytest.mark.parametrize(
    ("declared", "qemu_format", "options"),
    [
        *KINDS.values(),
        *(
            ("qcow2", "qcow2", f"cluster_size={cluster},{option}")
            for cluster in ("512", "4k", "2M")
            for option in ("preallocation=metadata", "preallocation=falloc", "refcount_bits=1", "lazy_refcounts=on")
        ),
        ("qcow2", "qcow2", "refcount_bits=64,compression_type=zstd"),
        ("vmdk", "vmdk", "subformat=monolithicSparse,zeroed_grain=on"),
        ("vmdk", "vmdk", "subformat=streamOptimized,zeroed_grain=on"),
        ("vdi", "vdi", "static=on"),
        ("vhdx", "vhdx", "subformat=fixed"),
        ("vhdx", "vhdx", "block_size=256M"),
        ("vhdx", "vhdx", "block_state_zero=off"),
    ],
)
def test_what_qemu_img_makes_is_whole(
    declared: str, qemu_format: str, options: str, odd_disk: Path, tmp_path: Path
) -> None:
    path = images.converted(odd_disk, tmp_path / "image", qemu_format, options)
    assert inspect(path, declared) == Inspected(declared, ODD_DISK_BYTES)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster", ["512", "64k", "2M"])
def test_a_compressed_qcow2_is_whole_until_it_is_cut(
    cluster: str, compression: str, disk: Path, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    zeros = images.raw_disk(tmp_path / "compressible")
    options = f"cluster_size={cluster},compression_type={compression}"
    images.qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, zeros, path)
    assert flaw(path, "qcow2") == ""
    # The last sector of compressed data need not be full; nothing of it is a cut.
    os.truncate(path, path.stat().st_size - 512)
    assert "its data ends at byte" in flaw(path, "qcow2")


@pytest.mark.parametrize(
    ("qemu_format", "declared"), [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vdi", "vdi"), ("vhdx", "vhdx")]
)
def test_an_image_that_a_guest_wrote_to_is_whole(qemu_format: str, declared: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    images.qemu_img("create", "-f", qemu_format, path, str(ODD_DISK_BYTES))
    for offset, length in ((MIB, 512), (4 * MIB + 4096, 4096), (ODD_DISK_BYTES - 512, 512)):
        subprocess.run(
            ["qemu-io", "-f", qemu_format, "-c", f"write {offset} {length}", path], check=True, capture_output=True
        )
        assert flaw(path, declared) == "", (offset, length)


def test_a_qcow2_with_snapshots_and_bitmaps_is_whole(disk: Path, tmp_path: Path) -> None:
    path = images.converted(disk, tmp_path / "image", "qcow2")
    for arguments in (
        ("snapshot", "-c", "one"),
        ("bitmap", "--add"),
        ("resize",),
        ("snapshot", "-d", "one"),
        ("resize", "--shrink"),
    ):
        last = {"bitmap": ["bits"], "resize": ["3M" if "--shrink" in arguments else "+1G"]}.get(arguments[0], [])
        images.qemu_img(*arguments, path, *last)
        assert flaw(path, "qcow2") == "", arguments


# --- tables that point elsewhere ---------------------------------------------------------------


def number(path: Path, offset: int, code: str) -> int:
    return int(struct.unpack_from(code, path.read_bytes(), offset)[0])


def _qcow2_places(path: Path) -> Iterator[tuple[int, bytes]]:
    beyond = struct.pack(">Q", 1 << 63 | 1 << 40)
    l1_at, refcounts_at = number(path, 40, ">Q"), number(path, 48, ">Q")
    l2_at = number(path, l1_at, ">Q") & 0x00FFFFFFFFFFFE00
    yield from ((40, struct.pack(">Q", 1 << 40)), (l1_at, beyond), (refcounts_at, beyond), (l2_at, beyond))
    yield l2_at + 8 * 50, beyond  # a cluster that was not there
    yield l2_at, struct.pack(">Q", 1 << 62 | 1 << 40)  # compressed
    yield from ((36, struct.pack(">I", 0)), (20, struct.pack(">I", 40)), (36, struct.pack(">I", 1 << 31)))
    yield 60, struct.pack(">IQ", 1, 1 << 40)  # snapshots


def _vmdk_places(path: Path) -> Iterator[tuple[int, bytes]]:
    beyond = struct.pack("<I", 1 << 30)
    directory_at = number(path, 56, "<Q") * 512
    table_at = number(path, directory_at, "<I") * 512
    yield from (
        (56, struct.pack("<Q", 1 << 40)),
        (directory_at, beyond),
        (table_at, beyond),
        (table_at + 4 * 60, beyond),
    )
    yield from ((20, struct.pack("<Q", 0)), (44, struct.pack("<I", 1 << 20)), (12, struct.pack("<Q", 1 << 31)))
    yield 56, struct.pack("<Q", (1 << 64) - 1)  # tables described by a footer that is not there


def _vdi_places(path: Path) -> Iterator[tuple[int, bytes]]:
    map_at = number(path, 0x154, "<I")
    yield from ((map_at, struct.pack("<I", 1 << 20)), (map_at + 4 * 3, struct.pack("<I", 1 << 31)))
    yield from (
        (0x154, struct.pack("<I", 1 << 31)),
        (0x158, struct.pack("<I", 1 << 31)),
        (0x180, bytes(4)),
        (0x178, bytes(4)),
    )


def _vhd_places(path: Path) -> Iterator[tuple[int, bytes]]:
    table_at = number(path, 512 + 16, ">Q")
    yield from ((table_at, struct.pack(">I", 1 << 20)), (table_at + 4, struct.pack(">I", 1 << 31)))
    yield from ((512 + 16, struct.pack(">Q", 1 << 60)), (512 + 28, bytes(4)), (512 + 32, bytes(4)), (16, b"\xff" * 8))


def _vhdx_places(path: Path) -> Iterator[tuple[int, bytes]]:
    content = path.read_bytes()
    entry = content.index(bytes.fromhex("6677c22d23f600429d64115e9bfd4a08"), 192 * 1024)
    (table_at,) = struct.unpack_from("<Q", content, entry + 16)
    yield from ((table_at, struct.pack("<Q", 1 << 40 | 6)), (table_at + 8, struct.pack("<Q", 1 << 60 | 7)))
    yield from ((entry, bytes(16)), (entry + 16, struct.pack("<Q", 1 << 40)), (192 * 1024 + 8, b"\xff\xff"))


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("qcow2", _qcow2_places),
        ("qcow2 version 2", _qcow2_places),
        ("qcow2 of small clusters", _qcow2_places),
        ("vmdk monolithicSparse", _vmdk_places),
        ("vmdk streamOptimized", _vmdk_places),
        ("vdi", _vdi_places),
        ("dynamic vhd", _vhd_places),
        ("vhdx", _vhdx_places),
    ],
)
def test_tables_that_point_beyond_the_end_are_refused(
    name: str, places: Callable[[Path], Iterator[tuple[int, bytes]]], made: Callable[[str], Path], tmp_path: Path
) -> None:
    for offset, data in places(made(name)):
        path = images.patched(copied(made(name), tmp_path), offset, data)
        with pytest.raises(FormatUnsafe) as refused:
            inspect(path, KINDS[name][0])
        assert refused.value.detected == KINDS[name][0], (offset, data)


def test_known_zeros_need_no_data(made: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied(made("qcow2"), tmp_path)
    l2_at = number(path, number(path, 40, ">Q"), ">Q") & 0x00FFFFFFFFFFFE00
    assert flaw(images.patched(path, l2_at, struct.pack(">Q", 1 << 40 | 1)), "qcow2") == ""


def _with_footer(image: Path, folder: Path, capacity: int | None = None) -> Path:
    """Describe the tables of a streamOptimized VMDK in a footer, as VMware's exports do."""
    path = copied(image, folder)
    footer = bytearray(path.read_bytes()[:512])
    if capacity is not None:
        struct.pack_into("<Q", footer, 12, capacity)
    images.patched(path, 56, b"\xff" * 8)
    with path.open("ab") as end:
        end.write(struct.pack("<QII496x", 1, 0, 3) + bytes(footer) + bytes(512))
    return path


def test_a_vmdk_with_its_tables_in_a_footer_is_whole_until_it_is_cut(
    made: Callable[[str], Path], disk: Path, tmp_path: Path
) -> None:
    path = _with_footer(made("vmdk streamOptimized"), tmp_path)
    assert inspect(path, "vmdk") == Inspected("vmdk", DISK_BYTES)
    images.qemu_img("compare", "-f", "vmdk", "-F", "raw", path, disk)
    for missing_bytes in (1, 512, 1024, 1536, 5000):
        (tmp_path / "cut").mkdir(exist_ok=True)
        cut = copied(path, tmp_path / "cut", path.stat().st_size - missing_bytes)
        with pytest.raises(FormatUnsafe):
            inspect(cut, "vmdk")


def test_a_footer_of_another_size_than_the_header_is_refused(made: Callable[[str], Path], tmp_path: Path) -> None:
    path = _with_footer(made("vmdk streamOptimized"), tmp_path, capacity=DISK_BYTES // 1024)
    with pytest.raises(FormatUnsafe, match="states another size"):
        inspect(path, "vmdk")


def test_a_cluster_that_claims_to_be_two_kinds_hides_no_other(made: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied(made("qcow2 of small clusters"), tmp_path)
    l2_at = number(path, number(path, 40, ">Q"), ">Q") & 0x00FFFFFFFFFFFE00
    entries = [1 << 63 | 1 << 40] * 63 + [3 << 62]
    images.patched(path, l2_at, struct.pack(">64Q", *entries))
    assert "cut short" in flaw(path, "qcow2")


# --- images that are not all of the disk -------------------------------------------------------


def _differencing_vhd(made: Callable[[str], Path], folder: Path) -> tuple[Path, str]:
    return images.with_vhd_footers(copied(made("dynamic vhd"), folder), DISK_BYTES, kind=4), "vhd"


def _vdi_snapshot(made: Callable[[str], Path], folder: Path) -> tuple[Path, str]:
    return images.patched(copied(made("vdi"), folder), 0x4C, struct.pack("<I", 4)), "vdi"


def _vdi_with_parent(made: Callable[[str], Path], folder: Path) -> tuple[Path, str]:
    return images.patched(copied(made("vdi"), folder), 0x1B8, b"parent"), "vdi"


def _differencing_vhdx(made: Callable[[str], Path], folder: Path) -> tuple[Path, str]:
    path = copied(made("vhdx"), folder)
    content = path.read_bytes()
    entry = content.index(bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b"))
    at = content.index(b"metadata", 256 * 1024) + struct.unpack_from("<I", content, entry + 16)[0]
    return images.patched(path, at + 4, struct.pack("<I", 2)), "vhdx"


def _vmdk_snapshot(made: Callable[[str], Path], folder: Path) -> tuple[Path, str]:
    path = copied(made("vmdk monolithicSparse"), folder)
    at = path.read_bytes().index(b"\0\0\0\0", 512)
    return images.patched(path, at, b'\nparentFileNameHint="base.vmdk"\n'), "vmdk"


@pytest.mark.parametrize(
    "make", [_differencing_vhd, _vdi_snapshot, _vdi_with_parent, _differencing_vhdx, _vmdk_snapshot]
)
def test_an_image_that_needs_its_parent_is_refused(
    make: Callable[[Callable[[str], Path], Path], tuple[Path, str]], made: Callable[[str], Path], tmp_path: Path
) -> None:
    path, declared = make(made, tmp_path)
    with pytest.raises(FormatUnsafe, match="needs its parent"):
        inspect(path, declared)


# --- what it costs -----------------------------------------------------------------------------


def looks_at(path: Path, declared: str) -> int:
    """Return how many pieces of tables are read."""
    looks: list[None] = []
    flaw(path, declared, StopToken(lambda: looks.append(None)))
    return len(looks)


def test_a_table_that_is_named_again_and_again_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "image"
    images.qemu_img("create", "-f", "qcow2", "-o", "cluster_size=64k", path, "1T")
    l1_at = number(path, 40, ">Q")
    os.truncate(path, 4 * MIB)
    images.patched(path, l1_at, struct.pack(">Q", 3 * MIB) * 2048)
    assert looks_at(path, "qcow2") == 3


@pytest.mark.parametrize("size_bytes", [1 << 42, 1 << 60])
def test_tables_of_a_disk_beyond_the_cap_are_not_read(
    size_bytes: int, made: Callable[[str], Path], tmp_path: Path
) -> None:
    path = images.patched(copied(made("qcow2"), tmp_path), 24, struct.pack(">Q", size_bytes))
    with pytest.raises(Exception, match="virtual size"):
        inspect(path, "qcow2")


@pytest.mark.parametrize("name", [name for name in KINDS if name != "qcow2 of large clusters"])
def test_nonsense_in_headers_and_tables_ends_in_a_verdict(
    name: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    dice, whole = random.Random(7), made(name).read_bytes()
    header_bytes = 400 * 1024 if name == "vhdx" else 4096
    path = tmp_path / "image"
    path.write_bytes(whole)
    for _ in range(100):
        offset = dice.randrange(min(header_bytes, len(whole)))
        images.patched(path, offset, dice.choice((bytes(8), b"\xff" * 8, dice.randbytes(8))))
        assert isinstance(flaw(path, KINDS[name][0]), str)
        images.patched(path, offset, whole[offset : offset + 8])
