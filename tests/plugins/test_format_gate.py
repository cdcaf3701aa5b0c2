"""The format gate on images that qemu-img made, and on bytes that it would not make."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import FormatSettings
from tests.fakes import disk_images as images
from tests.fakes.archives import tar_of, zip_of
from transship.domain.errors import (
    FormatMismatch,
    FormatUnsafe,
    ImageTooLarge,
    ImportCancelled,
    StagingBroken,
    TransshipError,
)
from transship.domain.stop import StopToken
from transship.plugins.format_gate import Findings, Inspected, archive_kind, inspect_file, judge

GIB = 1024 * images.MIB
DISK_BYTES = 8 * images.MIB
Maker = Callable[[Path], Path]


def inspect(path: Path, declared: str, container: str = "bare", cap: int = 100 * GIB, **rules: object) -> Inspected:
    return inspect_file(
        path,
        declared,
        container,
        FormatSettings.model_validate(rules),
        size_cap_bytes=cap,
        stop=StopToken(),
        progress=lambda _done, _total: None,
    )


def _from_disk(qemu_format: str, options: str = "") -> Maker:
    return lambda folder: images.converted(
        images.raw_disk(folder / "source"), folder / f"made.{qemu_format}", qemu_format, options
    )


def _bytes(content: bytes) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / "bytes"
        path.write_bytes(content)
        return path

    return make


def _with_backing(folder: Path) -> Path:
    base, top = images.raw_disk(folder / "base"), folder / "top.qcow2"
    images.qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", base, top)
    return top


def _with_data_file(folder: Path) -> Path:
    path = folder / "with-data.qcow2"
    images.qemu_img("create", "-f", "qcow2", "-o", f"data_file={folder / 'data'}", path, "8M")
    return path


def _plain_qcow2(folder: Path) -> Path:
    return _from_disk("qcow2")(folder)


def _unknown_feature(folder: Path) -> Path:
    return images.patched(_plain_qcow2(folder), 72, struct.pack(">Q", 1 << 40))


def _qcow1(folder: Path) -> Path:
    return images.patched(_plain_qcow2(folder), 4, struct.pack(">I", 1))


def _flat_vmdk(folder: Path) -> Path:
    return _from_disk("vmdk", "subformat=monolithicFlat")(folder)


def _empty_flat_vmdk(folder: Path) -> Path:
    path = folder / "flat.vmdk"
    images.qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", path, "8M")
    return path


def _vmdk_extent(folder: Path) -> Path:
    path = _from_disk("vmdk")(folder)
    content = path.read_bytes()
    at = content.index(b'"made.vmdk"')
    return images.patched(path, at, b'"/etc/pass"')


def _grown_vhd(folder: Path) -> Path:
    path = _from_disk("vpc", "force_size=on")(folder)
    return images.with_vhd_footers(path, DISK_BYTES, original=DISK_BYTES // 2)


def _fixed_vhd(*, partitioned: bool = False, **footer: int | bytes) -> Maker:
    return lambda folder: images.fixed_vhd(images.raw_disk(folder / "fixed", partitioned=partitioned), **footer)


def _damaged_vhd_footer(folder: Path) -> Path:
    return images.patched(_fixed_vhd()(folder), DISK_BYTES + 500, b"damage")


def _volume(jump: bytes, oem: bytes, *fields: tuple[int, bytes]) -> Maker:
    """The boot sector of a file system, its boot code where an MBR has its table, and some data."""
    sector = bytearray(jump + oem + bytes(499) + b"\x55\xaa")
    sector[0x1BE:0x1FE] = b"\xb4\x0e" * 32
    for offset, field in fields:
        sector[offset : offset + len(field)] = field
    return _bytes(bytes(sector) + bytes(4096))


def _fat_parameters(media: int, fats: int = 2) -> tuple[int, bytes]:
    return 11, struct.pack("<HBHBHHBHHHII", 512, 1, 1, fats, 224, 2880, media, 9, 18, 2, 0, 0)


def _vmdk_extent_named(name: bytes, encoding: str = "") -> Maker:
    """A streamOptimized VMDK whose descriptor names its extent otherwise, as exports of such machines do."""

    def make(folder: Path) -> Path:
        path = _from_disk("vmdk", "subformat=streamOptimized")(folder)
        at, length = (512 * number for number in struct.unpack_from("<QQ", path.read_bytes(), 28))
        text = path.read_bytes()[at : at + length].rstrip(b"\0").replace(b"made.vmdk", name)
        if encoding:
            text = text.replace(b"version=1\n", f'version=1\nencoding="{encoding}"\n'.encode())
        return images.patched(path, at, text.ljust(length, b"\0"))

    return make


EXTENT_NAMES = [
    ("utf-8", "Größe-磁盘.vmdk"),
    ("gbk", "测试-disk1.vmdk"),
    ("windows-1252", "Größe-disk1.vmdk"),
    ("shift_jis", "ソフト表.vmdk"),  # the second bytes of its characters are ASCII, '\\' among them
    ("big5", "功能.vmdk"),
]


@pytest.mark.parametrize(("encoding", "name"), EXTENT_NAMES)
def test_a_vmdk_descriptor_may_be_in_another_encoding(encoding: str, name: str, tmp_path: Path) -> None:
    path = _vmdk_extent_named(name.encode(encoding), encoding)(tmp_path)
    assert inspect(path, "vmdk") == Inspected("vmdk", DISK_BYTES)


@pytest.mark.parametrize(("encoding", "name"), EXTENT_NAMES)
def test_an_extent_elsewhere_is_refused_in_any_encoding(encoding: str, name: str, tmp_path: Path) -> None:
    path = _vmdk_extent_named(f"/etc/{name}".encode(encoding), encoding)(tmp_path)
    with pytest.raises(FormatUnsafe, match="extent"):
        inspect(path, "vmdk")


def _extended_l2(folder: Path) -> Path:
    return _from_disk("qcow2", "extended_l2=on,cluster_size=128k")(folder)


@pytest.mark.parametrize("declared", ["qcow2", "raw"])
def test_extended_l2_entries_are_refused_with_a_remedy_that_helps(declared: str, tmp_path: Path) -> None:
    path, rewritten = _extended_l2(tmp_path), tmp_path / "rewritten"
    with pytest.raises(FormatUnsafe) as refused:
        inspect(path, declared)
    (remedy,) = re.findall(r"'qemu-img (.*?)'", refused.value.reason)
    images.qemu_img(*remedy.split(), path, rewritten)
    assert inspect(rewritten, "qcow2") == Inspected("qcow2", DISK_BYTES)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            _volume(b"\xeb\x3c\x90", b"MSDOS5.0", _fat_parameters(0xF0), (54, b"FAT12   ")), id="FAT12 floppy"
        ),
        pytest.param(_volume(b"\xeb\x3c\x90", b"mkfs.fat", _fat_parameters(0xF8), (54, b"FAT16   ")), id="FAT16"),
        pytest.param(_volume(b"\xeb\x58\x90", b"MSWIN4.1", _fat_parameters(0xF8, 1), (82, b"FAT32   ")), id="FAT32"),
        pytest.param(_volume(b"\xe9\x3c\x00", b"IBM  3.3", _fat_parameters(0xF9)), id="FAT before it had a name"),
        pytest.param(_volume(b"\xeb\x52\x90", b"NTFS    ", (11, b"\0\2\10"), (21, b"\xf8")), id="NTFS"),
        pytest.param(_volume(b"\xeb\x76\x90", b"EXFAT   "), id="exFAT"),
        pytest.param(_volume(b"\0\0\0", b"ReFS\0\0\0\0"), id="ReFS"),
        pytest.param(_volume(b"\xeb\x58\x90", b"-FVE-FS-", (11, b"\0\2\10")), id="BitLocker"),
    ],
)
def test_a_volume_without_a_partition_table_is_raw(make: Maker, tmp_path: Path) -> None:
    path = make(tmp_path)
    assert inspect(path, "raw") == Inspected("raw", path.stat().st_size)


@pytest.mark.parametrize(
    "start", [b"\xeb\x63\x90", b"\xfa\xb8\x00\x10", b"\x33\xc0\x8e\xd0"], ids=["GRUB", "syslinux", "Windows"]
)
def test_a_boot_sector_that_names_no_file_system_is_a_partition_table(start: bytes, tmp_path: Path) -> None:
    sector = start + images.protective_mbr(boot_flag=7)[len(start) :]
    with pytest.raises(FormatUnsafe, match="boot flag"):
        inspect(_bytes(sector)(tmp_path), "raw")


@pytest.mark.parametrize("command", ["mkfs.fat", "mkfs.ntfs", "mkfs.exfat"])
def test_a_volume_that_a_real_tool_made_is_raw(command: str, tmp_path: Path) -> None:
    path = tmp_path / "volume"
    with path.open("wb") as volume:
        volume.truncate(16 * images.MIB)
    program = shutil.which(command, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        pytest.skip(f"{command} is not installed")
    subprocess.run([program, *(["-F", "-Q"] if command == "mkfs.ntfs" else []), path], check=True, capture_output=True)
    assert inspect(path, "raw") == Inspected("raw", 16 * images.MIB)


@pytest.mark.parametrize(
    ("make", "declared", "detected", "virtual_size"),
    [
        pytest.param(_plain_qcow2, "qcow2", "qcow2", DISK_BYTES, id="qcow2"),
        pytest.param(_from_disk("qcow2", "compat=0.10"), "qcow2", "qcow2", DISK_BYTES, id="qcow2 version 2"),
        pytest.param(_from_disk("qcow2", "compression_type=zstd"), "qcow2", "qcow2", DISK_BYTES, id="qcow2 zstd"),
        pytest.param(_from_disk("vmdk"), "vmdk", "vmdk", DISK_BYTES, id="vmdk monolithicSparse"),
        pytest.param(
            _from_disk("vmdk", "subformat=streamOptimized"), "vmdk", "vmdk", DISK_BYTES, id="vmdk streamOptimized"
        ),
        pytest.param(_from_disk("vdi"), "vdi", "vdi", DISK_BYTES, id="vdi"),
        pytest.param(_from_disk("vpc", "force_size=on"), "vhd", "vhd", DISK_BYTES, id="vhd"),
        pytest.param(_grown_vhd, "vhd", "vhd", DISK_BYTES, id="vhd that was grown"),
        pytest.param(_fixed_vhd(), "vhd", "vhd", DISK_BYTES, id="fixed vhd"),
        pytest.param(_fixed_vhd(partitioned=True), "vhd", "vhd", DISK_BYTES, id="fixed vhd with GPT"),
        pytest.param(
            _fixed_vhd(original=images.MIB, creator=b"vpc "), "vhd", "vhd", DISK_BYTES, id="fixed vhd that was grown"
        ),
        pytest.param(
            _from_disk("vpc", "subformat=fixed,force_size=on"), "vhd", "vhd", DISK_BYTES, id="fixed vhd of qemu-img"
        ),
        pytest.param(_fixed_vhd(kind=3), "raw", "raw", DISK_BYTES + 512, id="footer of another kind"),
        pytest.param(_damaged_vhd_footer, "raw", "raw", DISK_BYTES + 512, id="footer with a wrong checksum"),
        pytest.param(_from_disk("vhdx"), "vhdx", "vhdx", DISK_BYTES, id="vhdx"),
        pytest.param(lambda d: images.raw_disk(d / "r"), "raw", "raw", DISK_BYTES, id="raw"),
        pytest.param(lambda d: images.raw_disk(d / "r", partitioned=True), "raw", "raw", DISK_BYTES, id="raw with GPT"),
        pytest.param(_bytes(bytes(images.MIB)), "raw", "raw", images.MIB, id="all zero"),
        pytest.param(_bytes(b""), "raw", "raw", 0, id="empty"),
        pytest.param(_bytes(b"#!/bin/sh\n" * 100), "raw", "raw", 1000, id="text"),
        pytest.param(_bytes(b"a" * 600 + b"\xff" * 1000), "raw", "raw", 1600, id="text, then bytes"),
        pytest.param(lambda d: images.iso(d / "i"), "iso", "iso", 40 * 2048, id="iso"),
        pytest.param(lambda d: images.iso(d / "i", hybrid=True), "iso", "iso", 40 * 2048, id="hybrid iso"),
        pytest.param(lambda d: images.raw_disk(d / "r"), "ami", "raw", None, id="ami"),
        pytest.param(_bytes(b"WithoutFreeSpace" + bytes(600)), "ploop", "ploop", None, id="ploop"),
    ],
)
def test_data_in_the_declared_format_pass(
    make: Maker, declared: str, detected: str, virtual_size: int | None, tmp_path: Path
) -> None:
    assert inspect(make(tmp_path), declared) == Inspected(detected, virtual_size)


@pytest.mark.parametrize(
    ("make", "declared", "check"),
    [
        pytest.param(_with_backing, "qcow2", "backing_file", id="qcow2 with backing file"),
        pytest.param(_with_backing, "raw", "backing_file", id="qcow2 with backing file, declared raw"),
        pytest.param(_with_data_file, "qcow2", "data_file", id="qcow2 with data file"),
        pytest.param(_unknown_feature, "qcow2", "unknown_features", id="qcow2 with unknown feature"),
        pytest.param(_qcow1, "qcow2", "unknown_features", id="qcow version 1"),
        pytest.param(_bytes(b"QFI\xfb" + bytes(100)), "raw", "cut short", id="qcow2 cut short"),
        pytest.param(_flat_vmdk, "vmdk", "name other files", id="vmdk monolithicFlat with data"),
        pytest.param(_empty_flat_vmdk, "vmdk", "subformat", id="vmdk monolithicFlat"),
        pytest.param(_flat_vmdk, "raw", "name other files", id="vmdk monolithicFlat declared raw"),
        pytest.param(_vmdk_extent, "vmdk", "extent", id="vmdk extent elsewhere"),
        pytest.param(
            _bytes(b"# Disk DescriptorFile\nversion=1\n" + bytes(900)), "raw", "header", id="vmdk text before zeros"
        ),
        pytest.param(_bytes(b"# \xff\n\nversion=1\n" + b"x" * 900), "raw", "header", id="vmdk text that is not ASCII"),
        pytest.param(_from_disk("qed"), "raw", "banned", id="qed"),
        pytest.param(_bytes(b"LUKS\xba\xbe\x00\x02" + bytes(4096)), "raw", "version", id="luks 2"),
        pytest.param(_bytes(images.protective_mbr(start_lba=0)), "raw", "LBA", id="GPT at the wrong block"),
        pytest.param(_bytes(images.protective_mbr(boot_flag=7)), "raw", "boot flag", id="MBR boot flag"),
        pytest.param(_bytes(images.protective_mbr(kind=0)), "raw", "gpt_safety_checks_nonfatal", id="MBR of nothing"),
        pytest.param(_bytes(b"Bochs Virtual HD Image" + bytes(600)), "raw", "not accepted", id="bochs"),
        pytest.param(_bytes(bytes(1024) + b"koly" + bytes(508)), "raw", "not accepted", id="dmg"),
        pytest.param(_bytes(b"WithoutFreeSpace" + bytes(600)), "raw", "not accepted", id="ploop declared raw"),
    ],
)
def test_unsafe_data_are_refused_with_the_check_that_failed(
    make: Maker, declared: str, check: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatUnsafe) as refused:
        inspect(make(tmp_path), declared, require_match=False)
    assert check in str(refused.value).lower() or check in str(refused.value)


def test_two_formats_in_one_file_are_refused(tmp_path: Path) -> None:
    path = images.patched(_plain_qcow2(tmp_path), 510, b"\x55\xaa")
    with pytest.raises(FormatUnsafe, match=r"gpt\+qcow2"):
        inspect(path, "qcow2")


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("declared", ["qcow2", "vmdk"])
def test_an_iso_does_not_pass_as_a_disk_image(declared: str, hybrid: bool, tmp_path: Path) -> None:
    with pytest.raises(FormatMismatch) as refused:
        inspect(images.iso(tmp_path / "i", hybrid=hybrid), declared)
    assert (refused.value.declared, refused.value.detected) == (declared, "iso")


def test_a_hybrid_iso_declared_raw_is_treated_like_a_plain_one(tmp_path: Path) -> None:
    table = images.protective_mbr(kind=0x17)
    plain, hybrid = images.iso(tmp_path / "p"), images.iso(tmp_path / "h", hybrid=True, hybrid_mbr=table)
    assert inspect(hybrid, "raw") == inspect(plain, "raw")
    assert inspect(plain, "raw").warnings == ("the image is declared raw and its data are iso; accepted as raw",)
    for path in (plain, hybrid):
        with pytest.raises(FormatMismatch):
            inspect(path, "raw", refuse_raw_in_disguise=True)


def test_the_partition_table_of_a_hybrid_iso_only_warns(tmp_path: Path) -> None:
    path = images.iso(tmp_path / "i", hybrid=True, hybrid_mbr=images.protective_mbr(start_lba=0))
    inspected = inspect(path, "iso")
    assert inspected.detected == "iso"
    assert ["hybrid ISO" in warning for warning in inspected.warnings] == [True]


@pytest.mark.parametrize(("declared", "made"), [("qcow2", "vmdk"), ("vmdk", "qcow2"), ("iso", "qcow2")])
def test_another_format_than_declared_is_refused(declared: str, made: str, tmp_path: Path) -> None:
    with pytest.raises(FormatMismatch) as refused:
        inspect(_from_disk(made)(tmp_path), declared)
    assert (refused.value.declared, refused.value.detected) == (declared, made)


def test_another_format_warns_when_the_site_does_not_ask_for_a_match(tmp_path: Path) -> None:
    inspected = inspect(_from_disk("vmdk")(tmp_path), "qcow2", require_match=False)
    assert (inspected.detected, inspected.virtual_size, len(inspected.warnings)) == ("vmdk", DISK_BYTES, 1)


def test_raw_data_do_not_pass_as_qcow2(tmp_path: Path) -> None:
    with pytest.raises(FormatMismatch):
        inspect(images.raw_disk(tmp_path / "r"), "qcow2")


def test_a_safe_image_declared_raw_is_accepted_as_raw_with_a_warning(tmp_path: Path) -> None:
    path = _plain_qcow2(tmp_path)
    inspected = inspect(path, "raw")
    assert (inspected.detected, inspected.virtual_size) == ("qcow2", path.stat().st_size)
    assert len(inspected.warnings) == 1


@pytest.mark.parametrize("require_match", [True, False])
def test_raw_in_disguise_is_refused_by_option(require_match: bool, tmp_path: Path) -> None:
    with pytest.raises(FormatMismatch):
        inspect(_plain_qcow2(tmp_path), "raw", refuse_raw_in_disguise=True, require_match=require_match)


def test_partition_checks_can_be_made_warnings(tmp_path: Path) -> None:
    path = _bytes(images.protective_mbr(start_lba=0))(tmp_path)
    inspected = inspect(path, "raw", gpt_safety_checks_nonfatal=["mbr"])
    assert (inspected.detected, len(inspected.warnings)) == ("raw", 1)


@pytest.mark.parametrize("declared", ["aki", "ari"])
def test_a_kernel_may_carry_a_boot_signature(declared: str, tmp_path: Path) -> None:
    assert inspect(_bytes(images.protective_mbr(kind=0))(tmp_path), declared).detected == "raw"


def test_a_fat_boot_sector_is_no_partition_table(tmp_path: Path) -> None:
    sector = bytearray(images.protective_mbr(kind=0))
    sector[0x10], sector[0x15] = 2, 0xF8
    assert inspect(_bytes(bytes(sector))(tmp_path), "raw").detected == "raw"


@pytest.mark.parametrize("container", ["compressed", "ova", "docker", "ovf"])
def test_only_bare_data_are_inspected(container: str, tmp_path: Path) -> None:
    assert inspect(_with_backing(tmp_path), "qcow2", container) == Inspected("")


@pytest.mark.parametrize("size_bytes", [1 << 63, 64 * 1024 * GIB, 100 * GIB + 1])
def test_a_virtual_size_above_the_cap_is_refused(size_bytes: int, tmp_path: Path) -> None:
    path = images.patched(_plain_qcow2(tmp_path), 24, struct.pack(">Q", size_bytes))
    with pytest.raises(ImageTooLarge) as refused:
        inspect(path, "qcow2")
    assert (refused.value.what, refused.value.size_bytes) == ("virtual size", size_bytes)
    assert refused.value.option == "imports.image_size_cap_bytes"


def test_a_format_is_known_without_reading_to_the_end(tmp_path: Path) -> None:
    path = images.raw_disk(tmp_path / "large", 64 * images.MIB)
    seen: list[tuple[int, int]] = []
    inspect_file(
        path,
        "raw",
        "bare",
        FormatSettings(),
        size_cap_bytes=GIB,
        stop=StopToken(),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(images.MIB, 64 * images.MIB)]


def test_a_stopped_import_ends_the_inspection(tmp_path: Path) -> None:
    stop = StopToken()
    stop.stop(ImportCancelled("by the test"))
    with pytest.raises(ImportCancelled):
        inspect_file(
            images.raw_disk(tmp_path / "r"),
            "raw",
            "bare",
            FormatSettings(),
            size_cap_bytes=GIB,
            stop=stop,
            progress=lambda _done, _total: None,
        )


def test_a_missing_file_is_a_fault_of_staging_that_names_no_path(tmp_path: Path) -> None:
    with pytest.raises(StagingBroken) as refused:
        inspect(tmp_path / "absent", "raw")
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("name", ["qcow2", "vmdk", "vhdx", "vhd", "vdi"])
def test_strict_judgement_takes_nothing_else_for_raw(name: str) -> None:
    with pytest.raises(FormatMismatch):
        judge(Findings(1, frozenset({name})), "raw", FormatSettings(require_match=False), size_cap_bytes=9, strict=True)


@pytest.mark.parametrize("magic", [b"vhdxfile", b"conectix", b"KDMV", b"QFI\xfb\0\0\0\3", b"LUKS\xba\xbe\0\1"])
@pytest.mark.parametrize("length", [8, 40, 100, 511, 512, 513, 4096, 300_000])
def test_a_magic_before_nonsense_ends_in_a_verdict(magic: bytes, length: int, tmp_path: Path) -> None:
    path = _bytes((magic + b"\xfe" * length)[:length])(tmp_path)
    try:
        inspect(path, "raw")
    except TransshipError as refused:
        assert str(refused)  # noqa: PT017 (either verdict is right; an error of a parser is not)


PACKINGS = {
    "gzip": gzip.compress,
    "zip": zip_of,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "tar": tar_of,
    "lha": lambda content: b"\x20\x80-lh5-" + content,
    "zstd": lambda content: b"\x28\xb5\x2f\xfd" + content,
    "lz4": lambda content: b"\x04\x22\x4d\x18" + content,
    "7z": lambda content: b"7z\xbc\xaf\x27\x1c" + content,
    "rar": lambda content: b"Rar!\x1a\x07\x01\x00" + content,
    "lzip": lambda content: b"LZIP\x01" + content,
    "lzop": lambda content: b"\x89LZO\x00\x0d\x0a\x1a\x0a" + content,
    "compress": lambda content: b"\x1f\x9d\x90" + content,
    "cab": lambda content: b"MSCF" + bytes(4) + content,
}


def _packed(packing: str, folder: Path) -> Path:
    # Packed data may have any two bytes where an MBR has its signature.
    path = _bytes(PACKINGS[packing](b"QFI\xfb" + random.Random(7).randbytes(4096)))(folder)
    return images.patched(path, 510, b"\x55\xaa")


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_data_are_named_and_to_be_unpacked(packing: str, tmp_path: Path) -> None:
    with pytest.raises(FormatMismatch) as refused:
        inspect(_packed(packing, tmp_path), "qcow2")
    assert f"its data are {packing}, which is no disk format; unpack" in str(refused.value)
    assert "set disk_format" not in str(refused.value)


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_data_declared_raw_are_accepted_with_a_warning_that_names_them(packing: str, tmp_path: Path) -> None:
    path = _packed(packing, tmp_path)
    warning = f"the image is declared raw and its data are {packing}; accepted as raw"
    assert inspect(path, "raw") == Inspected("raw", path.stat().st_size, (warning,))
    with pytest.raises(FormatMismatch, match=packing):
        inspect(path, "raw", refuse_raw_in_disguise=True)


@pytest.mark.parametrize("command", ["xz", "bzip2", "zstd", "lz4"])
def test_what_a_real_packer_made_is_named(command: str, tmp_path: Path) -> None:
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    disk = images.raw_disk(tmp_path / "disk", images.MIB)
    packed = subprocess.run([command, "-c", disk], check=True, capture_output=True).stdout
    with pytest.raises(FormatMismatch, match=f"its data are {command},"):
        inspect(_bytes(packed)(tmp_path), "qcow2")


@pytest.mark.parametrize("declared", ["aki", "ari", "ami"])
@pytest.mark.parametrize("packing", ["gzip", "xz", "zstd", "lz4"])
def test_kernels_and_ramdisks_are_packed_without_a_warning(packing: str, declared: str, tmp_path: Path) -> None:
    assert inspect(_packed(packing, tmp_path), declared) == Inspected("raw", None)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"\x20\x80-lh5-", "lha"),
        (b"\n\n-lh0-", "lha"),
        (b"QFI\xfb", None),
        (b"", None),
        (b"\x1f\x8b", None),
    ],
)
def test_archives_are_known_by_content(head: bytes, kind: str | None, tmp_path: Path) -> None:
    assert archive_kind(_bytes(head)(tmp_path)) == kind
