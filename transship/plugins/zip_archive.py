"""Unpack zip files of exactly one member as a stream; names are ignored.

The only exception: members that macOS adds beside a file are recognised by their names and skipped.

The standard library's reader is not used: it reads a directory of any length into memory, and accepts
a file whose parts are inconsistent. Here only the directory is read first; members, directory
and end record must follow each other without gaps that could hide data.

Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5, 5.8 (LZMA).
"""

from __future__ import annotations

import bz2
import lzma
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from isal import isal_zlib

from transship.domain.errors import ArchiveRefused
from transship.plugins.unpacking import Unpacking

INPUT_BYTES: Final = 128 * 1024
_LZMA_PROPERTIES: Final = 9
LARGEST_DICTIONARY_BYTES: Final = 64 * 1024 * 1024
"""Largest dictionary of an LZMA member."""

_END: Final = struct.Struct("<4s4H2IH")
_END_64_LOCATOR: Final = struct.Struct("<4sIQI")
_END_64: Final = struct.Struct("<4sQ2H2I4Q")
_ENTRY: Final = struct.Struct("<4s6H3I5H2I")
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_END_MAGIC, _END_64_LOCATOR_MAGIC, _END_64_MAGIC = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_ENTRY_MAGIC, _LOCAL_MAGIC = b"PK\x01\x02", b"PK\x03\x04"

MOST_MEMBERS: Final = 16
"""Most members that are examined, including those of macOS; with more, several must be the user's."""

_LONGEST_COMMENT: Final = 0xFFFF
_LARGEST_ENTRY: Final = _ENTRY.size + 3 * 0xFFFF
_LARGEST_DESCRIPTOR: Final = 24
_IN_EXTRA_16, _IN_EXTRA_32 = 0xFFFF, 0xFFFFFFFF
_ZIP64_EXTRA: Final = 0x0001
_ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000
_UNIX: Final = 3
_DOS_DIRECTORY: Final = 0x10
_STORED, _DEFLATED, _BZIP2, _LZMA, _AES = 0, 8, 12, 14, 99
_METHODS: Final = {
    1: "shrink",
    6: "implode",
    9: "deflate64",
    16: "z/OS CMPSC",
    18: "IBM TERSE",
    20: "zstd (old number)",
    93: "zstd",
    94: "mp3",
    95: "xz",
    96: "jpeg",
    97: "wavpack",
    98: "ppmd",
}


def unpack_zip(work: Unpacking) -> None:
    """Write the content of the only member; memory use is bounded by a piece and the LZMA dictionary.

    Raises:
        ArchiveRefused: it has no member, several, or a directory; it is encrypted, damaged, split, or packed
            by a method that is not supported.
    """
    member = _only_member(work.source, work.packed_bytes)
    work.expect(member.size)
    crc = written = 0
    for piece in _CONTENTS[member.method](_Packed(work, member), member.size):
        written += len(piece)
        if written > member.size:
            raise _damaged("more comes out of it than it states")
        crc = zlib.crc32(piece, crc)
        work.write(piece)
    if written != member.size:
        raise _damaged("less comes out of it than it states")
    if crc != member.crc:
        raise _damaged("its checksum is wrong")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member's entry in the directory."""

    name: bytes
    made: int
    flags: int
    method: int
    crc: int
    packed_size: int
    size: int
    disk: int
    external: int
    at: int


@dataclass(frozen=True, slots=True)
class _Member:
    """The only member: the position of its packed data, and its entry in the directory."""

    method: int
    data_at: int
    packed_size: int
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class _Directory:
    """The position of the directory, and the number of its members."""

    at: int
    length: int
    members: int


# --- structure ---------------------------------------------------------------------------------


def _only_member(source: BinaryIO, file_bytes: int) -> _Member:
    directory = _directory(source, file_bytes)
    if not 1 <= directory.members <= MOST_MEMBERS:
        raise _not_one(directory.members)
    entries = _entries(source, directory)
    images = [entry for entry in entries if not _made_by_macos(entry.name)] if len(entries) > 1 else entries
    if len(images) != 1:
        raise _not_one(len(images))
    (image,) = images
    if image.flags & _ENCRYPTED or image.method == _AES:
        raise _refused("it is encrypted", "pack the image without a password")
    if image.disk not in (0, _IN_EXTRA_16):
        raise _refused("it is one part of a split archive", "join the parts first")
    if _is_directory(image.name, image.made, image.external):
        raise _refused("its only member is a directory", "pack the image itself")
    if image.method not in _CONTENTS:
        called = _METHODS.get(image.method, f"number {image.method}")
        raise _refused(f"method {called} is not supported", "pack the image by deflate, bzip2 or LZMA")
    data_at = _image_data_at(source, entries, image, directory.at)
    return _Member(image.method, data_at, image.packed_size, image.size, image.crc)


def _image_data_at(source: BinaryIO, entries: list[_Entry], image: _Entry, end: int) -> int:
    """Return where the image's data begin; members must fill the file up to the directory without gaps."""
    found = done = 0
    for entry in sorted(entries, key=lambda each: each.at):
        if done == 0 and entry.at != 0:
            raise _damaged("other data stand before its member")
        if not 0 <= entry.at - done <= _LARGEST_DESCRIPTOR:
            raise _damaged("its members are not where its directory says, or other data stand between them")
        data_at = _data_at(source, entry)
        done = data_at + entry.packed_size
        if entry is image:
            found = data_at
    if not 0 <= end - done <= _LARGEST_DESCRIPTOR:
        raise _damaged("its member is not where its directory says, or other data stand behind it")
    return found


def _entries(source: BinaryIO, directory: _Directory) -> list[_Entry]:
    if not _ENTRY.size * directory.members <= directory.length <= _LARGEST_ENTRY * directory.members:
        raise _damaged("its directory is not that of its members")
    listed = _read(source, directory.at, directory.length)
    entries, at = [], 0
    for _ in range(directory.members):
        if at + _ENTRY.size > len(listed):
            raise _damaged("its directory is not that of its members")
        (magic, made, _need, flags, method, _time, _date, crc, packed_size, size, *rest) = _ENTRY.unpack_from(
            listed, at
        )
        (name_length, extra_length, comment_length, disk, _internal, external, local_at) = rest
        if magic != _ENTRY_MAGIC:
            raise _damaged("its directory is not that of its members")
        at += _ENTRY.size
        name, extra = listed[at : at + name_length], listed[at + name_length :][:extra_length]
        at += name_length + extra_length + comment_length
        size, packed_size, local_at = _long_sizes(extra, (size, packed_size, local_at))
        entries.append(_Entry(name, made, flags, method, crc, packed_size, size, disk, external, local_at))
    if at != len(listed):
        raise _damaged("its directory is not that of its members")
    return entries


def _made_by_macos(name: bytes) -> bool:
    """Return whether macOS added it to the user's files: resource forks, and views of folders.

    Source: RFC 1740 (AppleDouble), and archives made by Archive Utility.
    """
    folder, _slash, file = name.rpartition(b"/")
    return b"__MACOSX" in folder.split(b"/")[:1] or file.startswith(b"._") or file == b".DS_Store"


def _directory(source: BinaryIO, file_bytes: int) -> _Directory:
    tail_at = max(0, file_bytes - _END.size - _LONGEST_COMMENT)
    tail = _read(source, tail_at, file_bytes - tail_at)
    found = len(tail)
    while (found := tail.rfind(_END_MAGIC, 0, found)) >= 0:
        if len(tail) - found >= _END.size and found + _END.size + _END.unpack_from(tail, found)[-1] == len(tail):
            break
    else:
        raise _refused("it is truncated, or other data follow its end", "fetch it again")
    _magic, disk, directory_disk, _here, members, length, at, _comment = _END.unpack_from(tail, found)
    end = tail_at + found
    if _IN_EXTRA_16 in (members, disk) or _IN_EXTRA_32 in (length, at):
        long = _long_directory(source, end)
        if long is not None:
            return long
    if disk or directory_disk:
        raise _refused("it is one part of a split archive", "join the parts first")
    return _placed(_Directory(at, length, members), end)


def _long_directory(source: BinaryIO, end: int) -> _Directory | None:
    """Return the directory according to the zip64 records before the end record; None if there are none."""
    locator_at = end - _END_64_LOCATOR.size
    if locator_at < 0:
        return None
    magic, _disk, record_at, disks = _END_64_LOCATOR.unpack(_read(source, locator_at, _END_64_LOCATOR.size))
    if magic != _END_64_LOCATOR_MAGIC:
        return None
    if disks > 1:
        raise _refused("it is one part of a split archive", "join the parts first")
    if record_at + _END_64.size > locator_at:
        raise _damaged("its zip64 end record is not where it should be")
    record = _END_64.unpack(_read(source, record_at, _END_64.size))
    if record[0] != _END_64_MAGIC:
        raise _damaged("its zip64 end record is not where it should be")
    *_others, members, length, at = record
    return _placed(_Directory(at, length, members), record_at)


def _placed(directory: _Directory, end: int) -> _Directory:
    # Too many members are refused for their number, before anything else is read.
    if directory.members <= MOST_MEMBERS and directory.at + directory.length != end:
        raise _damaged("its directory is not where it should be, or other data stand before it")
    return directory


def _data_at(source: BinaryIO, entry: _Entry) -> int:
    local = _LOCAL.unpack(_read(source, entry.at, _LOCAL.size))
    (magic, _need, flags, method, *_times_and_sizes, name_length, extra_length) = local
    if magic != _LOCAL_MAGIC or method != entry.method or (flags ^ entry.flags) & _ENCRYPTED:
        raise _damaged("member and directory contradict each other")
    return entry.at + _LOCAL.size + int(name_length) + int(extra_length)


def _long_sizes(extra: bytes, short: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return size, packed size and offset; those that did not fit are taken from the zip64 field."""
    if _IN_EXTRA_32 not in short:
        return short
    found = iter(_zip64_numbers(extra))
    size, packed_size, at = (next(found, -1) if number == _IN_EXTRA_32 else number for number in short)
    if -1 in (size, packed_size, at):
        raise _damaged("its directory states no size")
    return size, packed_size, at


def _zip64_numbers(extra: bytes) -> tuple[int, ...]:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _ZIP64_EXTRA:
            return struct.unpack_from(f"<{len(field) // 8}Q", field)
    return ()


def _is_directory(name: bytes, made: int, external: int) -> bool:
    by_mode = made >> 8 == _UNIX and stat.S_ISDIR(external >> 16)
    return name.endswith(b"/") or by_mode or bool(external & _DOS_DIRECTORY)


def _read(source: BinaryIO, at: int, length: int) -> bytes:
    source.seek(at)
    read = bytearray()
    while len(read) < length:
        more = source.read(length - len(read))
        if not more:
            raise _damaged("it ends too early")
        read += more
    return bytes(read)


# --- content -----------------------------------------------------------------------------------


class _Packed:
    """The member's packed data, read sequentially; each read checks the import's stop token."""

    def __init__(self, work: Unpacking, member: _Member) -> None:
        work.source.seek(member.data_at)
        self._work, self._left = work, member.packed_size
        self.piece_bytes = work.settings.chunk_bytes

    def read(self, length: int = INPUT_BYTES) -> bytes:
        """Return at most ``length`` bytes; nothing at the end."""
        self.look()
        data = self._work.source.read(min(length, self._left))
        self._left -= len(data)
        return data

    def look(self) -> None:
        """Report progress, and raise if the import must end."""
        self._work.stop.check()
        self._work.progress(self._work.source.tell(), self._work.packed_bytes)


def _stored(packed: _Packed, _size: int) -> Iterator[bytes]:
    while piece := packed.read(packed.piece_bytes):
        yield piece


def _inflated(packed: _Packed, _size: int) -> Iterator[bytes]:
    member = isal_zlib.decompressobj(-zlib.MAX_WBITS)
    data = packed.read()
    while not member.eof:
        packed.look()
        try:
            piece = member.decompress(data, packed.piece_bytes)
        except isal_zlib.IsalError as error:  # type: ignore[misc] # its stub types the class as an instance
            raise _damaged("its data are no deflate stream") from error
        if piece:
            yield piece
        data = member.unconsumed_tail or packed.read()
        if not data and not piece and not member.eof:
            raise _damaged("its data end too early")


def _un_bzipped(packed: _Packed, _size: int) -> Iterator[bytes]:
    member = bz2.BZ2Decompressor()
    while not member.eof:
        data = packed.read() if member.needs_input else b""
        if member.needs_input and not data:
            raise _damaged("its data end too early")
        packed.look()
        try:
            yield member.decompress(data, packed.piece_bytes)
        except OSError as error:
            raise _damaged("its data are no bzip2 stream") from error


def _un_lzma(packed: _Packed, size: int) -> Iterator[bytes]:
    properties = packed.read(_LZMA_PROPERTIES)
    while len(properties) < _LZMA_PROPERTIES and (more := packed.read(_LZMA_PROPERTIES - len(properties))):
        properties += more
    member = _lzma_decompressor(properties)
    # A stream without an end marker ends at the stated size.
    while size > 0 and not member.eof:
        data = packed.read() if member.needs_input else b""
        if member.needs_input and not data:
            return
        packed.look()
        try:
            piece = member.decompress(data, packed.piece_bytes)
        except lzma.LZMAError as error:
            raise _damaged("its data are no LZMA stream") from error
        size -= len(piece)
        yield piece


def _lzma_decompressor(properties: bytes) -> lzma.LZMADecompressor:
    if len(properties) < _LZMA_PROPERTIES or int.from_bytes(properties[2:4], "little") != 5:
        raise _damaged("its LZMA properties are cut short")
    packed_bits, dictionary_bytes = struct.unpack("<BI", properties[4:9])
    if dictionary_bytes > LARGEST_DICTIONARY_BYTES:
        raise _refused(f"its LZMA dictionary is larger than {LARGEST_DICTIONARY_BYTES >> 20} MiB", "pack it with less")
    rest, lc = divmod(packed_bits, 9)
    pb, lp = divmod(rest, 5)
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": max(4096, dictionary_bytes), "lc": lc, "lp": lp, "pb": pb}]
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    except (lzma.LZMAError, ValueError) as error:
        raise _damaged("its LZMA properties make no sense") from error


_CONTENTS: Final[dict[int, Callable[[_Packed, int], Iterator[bytes]]]] = {
    _STORED: _stored,
    _DEFLATED: _inflated,
    _BZIP2: _un_bzipped,
    _LZMA: _un_lzma,
}


def _not_one(members: int) -> ArchiveRefused:
    return _refused(f"it has {f'{members} members' if members else 'no member'}", "pack exactly one image into it")


def _refused(reason: str, remedy: str = "") -> ArchiveRefused:
    return ArchiveRefused("zip", reason, remedy)


def _damaged(reason: str) -> ArchiveRefused:
    return ArchiveRefused("zip", f"{reason}, so it is damaged", "fetch it again")
