"""Disk images for tests: made by qemu-img where it can make them, else written byte by byte."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

MIB = 1024 * 1024


def raw_disk(path: Path, size_bytes: int = 8 * MIB, *, partitioned: bool = False) -> Path:
    """A sparse raw disk with some data, with a protective MBR and GPT signature if asked for."""
    with path.open("wb") as disk:
        disk.truncate(size_bytes)
        disk.seek(MIB)
        disk.write(bytes(range(256)) * 4096)
        if partitioned:
            disk.seek(0)
            disk.write(protective_mbr())
            disk.write(b"EFI PART")
    return path


def protective_mbr(*, start_lba: int = 1, boot_flag: int = 0, kind: int = 0xEE) -> bytes:
    entry = struct.pack("<B3BB3BII", boot_flag, 0, 2, 0, kind, 0xFF, 0xFF, 0xFF, start_lba, 0xFFFFFFFF)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def iso(path: Path, *, hybrid: bool = False, hybrid_mbr: bytes | None = None) -> Path:
    """The volume descriptor of an ISO 9660 image of 40 blocks, with a partition table if hybrid."""
    blocks = 40
    descriptor = bytearray(2048)
    descriptor[0:7] = b"\x01CD001\x01"
    descriptor[80:84] = struct.pack("<L", blocks)
    descriptor[128:130] = struct.pack("<H", 2048)
    data = bytearray(blocks * 2048)
    data[0x8000 : 0x8000 + 2048] = descriptor
    if hybrid:
        data[:512] = hybrid_mbr or protective_mbr()
    path.write_bytes(data)
    return path


def vhd_footer(
    size_bytes: int, *, kind: int, creator: bytes = b"win ", original: int | None = None, header_at: int = (1 << 64) - 1
) -> bytes:
    """A VHD's footer with its checksum: kind 2 is fixed, 3 dynamic, 4 differencing.

    Its geometry has 17 sectors a track and 4 heads, rounded down, as Virtual PC does it: a few KiB less than the size.
    """
    fields = struct.pack(">8sIIQI4sI4sQQ", b"conectix", 2, 0x10000, header_at, 0x2A000000, creator, 0x50003, b"Wi2k",
                         original or size_bytes, size_bytes)  # fmt: skip
    fields += struct.pack(">HBBI", size_bytes // 512 // (17 * 4), 4, 17, kind)
    rest = bytes(range(16)) + bytes(428)
    return fields + struct.pack(">I", ~(sum(fields) + sum(rest)) & 0xFFFFFFFF) + rest


def fixed_vhd(disk: Path, **footer: int | bytes) -> Path:
    """Turn a raw disk into a fixed VHD, whose only header is at its end."""
    size_bytes = disk.stat().st_size
    with disk.open("ab") as image:
        image.write(vhd_footer(size_bytes, **{"kind": 2, **footer}))  # type: ignore[arg-type]
    return disk


def with_vhd_footers(path: Path, size_bytes: int, **footer: int | bytes) -> Path:
    """Give a dynamic VHD, made by qemu-img, other footers at both its ends."""
    made = vhd_footer(size_bytes, **{"kind": 3, "header_at": 512, **footer})  # type: ignore[arg-type]
    return patched(patched(path, 0, made), path.stat().st_size - 512, made)


def qemu_img(*arguments: str | Path) -> None:
    """Run qemu-img to create an image; show its output only if it fails."""
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, timeout=540)


def encrypted(target: Path) -> Path:
    """Make an empty qcow2 that is encrypted.

    qemu-img 7.2 measures how fast it derives keys by the ticks of its CPU time, and gives up where none passed.
    """
    secret = (
        "--object",
        "secret,id=key,data=passphrase",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10",
    )
    for attempts_left in reversed(range(50)):
        try:
            qemu_img("create", "-f", "qcow2", *secret, target, "8M")
        except subprocess.CalledProcessError as failed:
            if b"accurate CPU usage" not in failed.stderr or not attempts_left:
                raise
        else:
            break
    return target


def converted(source: Path, target: Path, qemu_format: str, options: str = "") -> Path:
    extra = ("-o", options) if options else ()
    qemu_img("convert", "-f", "raw", "-O", qemu_format, *extra, source, target)
    return target


def patched(path: Path, offset: int, data: bytes) -> Path:
    with path.open("r+b") as image:
        image.seek(offset)
        image.write(data)
    return path
