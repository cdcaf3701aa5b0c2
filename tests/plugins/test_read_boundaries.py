"""Unpacking and reading do not depend on the boundaries of reads."""

from __future__ import annotations

import io
import os
import socket
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from config.settings import DecompressionSettings, DownloadSettings
from transship.domain.errors import ArchiveRefused
from transship.domain.stop import StopToken
from transship.domain.uri_filter import UriRules, parse_uri
from transship.plugins.gzip_archive import INPUT_BYTES, unpack_gzip
from transship.plugins.unpacking import Unpacker, Unpacking
from transship.plugins.zip_archive import unpack_zip
from transship.sources.connection import Connection
from transship.sources.gate import Admitted
from transship.sources.watch import Watch

DATA = bytes(range(256)) * 3


class Reads(io.BytesIO):
    """A file of which no read goes past ``end``, and none is longer than ``longest``."""

    def __init__(self, content: bytes, *, end: int = 0, longest: int = 1 << 30) -> None:
        super().__init__(content)
        self._end, self._longest = end, longest

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._longest if size is None or size < 0 else min(size, self._longest)
        if self.tell() < self._end:
            wanted = min(wanted, self._end - self.tell())
        return super().read(wanted)


def unpacked(unpack: Unpacker, source: Reads) -> bytes:
    image = bytearray()
    work = Unpacking(
        path=Path("unused"),
        source=source,
        packed_bytes=len(source.getvalue()),
        expect=lambda _size: None,
        write=image.extend,
        progress=lambda _done, _total: None,
        settings=DecompressionSettings(),
        stop=StopToken(),
    )
    unpack(work)
    return bytes(image)


def gzip_member(flags: int, content: bytes = DATA, *, name: bytes = b"noble.img", level: int = 9) -> bytes:
    """A member whose header has the optional fields that ``flags`` name (RFC 1952, section 2.3.1)."""
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(5) + b"\x03"
    if flags & 0x04:
        header += struct.pack("<H", 8) + b"AB\x04\0wxyz"
    if flags & 0x08:
        header += name + b"\0"
    if flags & 0x10:
        header += b"a comment\0"
    if flags & 0x02:
        header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return header + packer.compress(content) + packer.flush() + struct.pack("<II", zlib.crc32(content), len(content))


FIELDS = {"none": 0, "checksum": 2, "extra": 4, "name": 8, "comment": 16, "name and comment": 24, "all": 30}


@pytest.mark.parametrize("flags", FIELDS.values(), ids=FIELDS.keys())
def test_a_gzip_file_may_be_read_in_two_pieces_at_any_place(flags: int) -> None:
    packed = gzip_member(flags) * 2
    assert [end for end in range(1, len(packed)) if unpacked(unpack_gzip, Reads(packed, end=end)) != DATA * 2] == []


@pytest.mark.parametrize("flags", FIELDS.values(), ids=FIELDS.keys())
def test_a_gzip_file_may_be_read_byte_by_byte(flags: int) -> None:
    assert unpacked(unpack_gzip, Reads(gzip_member(flags) * 2, longest=1)) == DATA * 2


@pytest.mark.parametrize("before", [1, 5, 11, 12, 15, 23, 40])
def test_a_member_may_begin_where_a_read_ends(before: int) -> None:
    """With whole reads, as from a disk: the second member's header lies across the end of the first one."""
    empty = len(gzip_member(0, b"", level=0))
    first_data = os.urandom(INPUT_BYTES - before - empty - 3 * 5)
    first = gzip_member(0, first_data, level=0)
    padded = first + bytes(INPUT_BYTES - before - len(first))
    assert unpacked(unpack_gzip, Reads(padded + gzip_member(30))) == first_data + DATA


def test_a_header_longer_than_a_read_is_taken_and_one_without_end_is_not() -> None:
    assert unpacked(unpack_gzip, Reads(gzip_member(8, name=b"n" * 3 * INPUT_BYTES))) == DATA
    with pytest.raises(ArchiveRefused, match="its header is longer than 1 MiB"):
        unpacked(unpack_gzip, Reads(gzip_member(8, name=b"n" * 40 * INPUT_BYTES)))


@pytest.mark.parametrize("flags", FIELDS.values(), ids=FIELDS.keys())
def test_a_gzip_file_cut_anywhere_is_refused(flags: int) -> None:
    packed = gzip_member(flags)
    for length in range(3, len(packed)):
        with pytest.raises(ArchiveRefused, match="truncated"):
            unpacked(unpack_gzip, Reads(packed[:length]))


ZIPS = {"stored": 0, "deflated": 8, "bzip2": 12, "LZMA": 14}


@pytest.mark.parametrize("method", ZIPS.values(), ids=ZIPS.keys())
@pytest.mark.parametrize("longest", [1, 3, 7])
def test_a_zip_file_may_be_read_in_small_pieces(method: int, longest: int) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        archive.writestr("disk.img", DATA)
    assert unpacked(unpack_zip, Reads(whole.getvalue(), longest=longest)) == DATA


class Fed(Watch):
    """Sends the next piece when the one before was heard, and ends the stream behind the last one."""

    def __init__(self, sender: socket.socket, pieces: list[bytes]) -> None:
        super().__init__("u", DownloadSettings(), StopToken())
        self._sender, self._pieces = sender, pieces
        self.heard(0)

    def heard(self, size_bytes: int) -> None:
        super().heard(size_bytes)
        if self._pieces:
            self._sender.sendall(self._pieces.pop(0))
        else:
            self._sender.close()


def test_chunks_may_arrive_in_two_pieces_at_any_place() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"3;name=value\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    source = Admitted(parse_uri("http://source/x", UriRules()), (), "default")
    for end in range(1, len(body)):
        for pieces in ([head + body[:end], body[end:]], [head, *(bytes([byte]) for byte in body)]):
            ours, theirs = socket.socketpair()
            with theirs, Connection(ours, source, Fed(theirs, list(pieces))) as connection:
                connection.read_head()
                found, buffer = b"", memoryview(bytearray(4))
                while read := connection.read_into(buffer):
                    found += bytes(buffer[:read])
            assert found == b"abc0123456789"
