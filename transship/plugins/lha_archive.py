"""Unpack LHA (lzh) files of exactly one member, with the program lhasa under limits.

The headers are read here, so number, size and method of the members are known before a decoder
sees a byte; names, paths and modes are ignored. The content is read through a pipe.

Source: LHa for UNIX ``header.doc.md`` (levels 0 to 3); docs/decisions/0007-archives.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from transship.domain.errors import ArchiveRefused
from transship.plugins.limited_command import Finished, Limits, missing_tools, run_limited
from transship.plugins.unpacking import Unpacking

METHODS: Final = frozenset(
    {
        *(b"-lh0-", b"-lh4-", b"-lh5-", b"-lh6-", b"-lh7-", b"-lhx-"),
        *(b"-lz4-", b"-lz5-", b"-lzs-", b"-pm0-"),
    }
)
"""Methods of lhasa 0.3 except the old adaptive ones (-lh1-, -pm1-, -pm2-), which are not used for disk images."""

MEMORY_BYTES: Final = 256 * 1024 * 1024
"""Address space of lhasa, nearly all of it for the C library; lhasa's windows are at most 512 KiB."""

_DIRECTORY: Final = b"-lhd-"
_LONGEST_HEADER: Final = 64 * 1024
_FIXED_BYTES: Final = 32
_LONG_SIZES: Final = 0x42
_TAIL_BYTES: Final = 64 * 1024


def unpack_lha(work: Unpacking) -> None:
    """Write the content of the only member; memory use is bounded by a piece, and lhasa runs as a separate process.

    Raises:
        ArchiveRefused: lhasa is not installed, the file is damaged or has several members, a directory,
            or a method that is not supported.
    """
    member = _only_member(work)
    work.expect(member.size)
    command = shutil.which(work.settings.lha_command)
    if command is None or missing_tools():
        raise _refused(
            f"{work.settings.lha_command} is not installed on this host",
            "its operator can install lhasa, or unpack the image yourself",
        )
    content = _Content(work, member.size)
    _run(work, [command, "pq2", str(work.path)], content.take)
    content.finish()
    # lhasa does not report checksum errors while it prints content, so test the file separately.
    if _run(work, [command, "tq2", str(work.path)], lambda _text: None).code != 0:
        raise _damaged("its checksum is wrong")


@dataclass(frozen=True, slots=True)
class _Member:
    """The fields of a header: the method, the end of the packed data, and the size of the content."""

    method: bytes
    end: int
    size: int


class _Content:
    """Collects lhasa's output into larger pieces, and verifies its length."""

    def __init__(self, work: Unpacking, size: int) -> None:
        self._work, self._size = work, size
        self._done = 0
        self._piece = bytearray()

    def take(self, data: bytes) -> None:
        """Accept output.

        Raises:
            ArchiveRefused: it is longer than the member.
        """
        self._done += len(data)
        if self._done > self._size:
            raise _damaged("more comes out of it than it states")
        self._piece += data
        if len(self._piece) >= self._work.settings.chunk_bytes:
            self._write()

    def finish(self) -> None:
        """Write the rest.

        Raises:
            ArchiveRefused: the output is shorter than the member.
        """
        if self._done != self._size:
            raise _damaged("less comes out of it than it states")
        self._write()

    def _write(self) -> None:
        self._work.write(bytes(self._piece))
        self._work.progress(self._done, self._size)
        self._piece.clear()


def _run(work: Unpacking, command: list[str], on_stdout: Callable[[bytes], None]) -> Finished:
    limit_s = work.settings.lha_timeout_s
    limits = Limits(cpu_s=max(1, int(limit_s)), memory_bytes=MEMORY_BYTES, file_bytes=0, wall_s=limit_s)
    try:
        finished = run_limited(command, limits, work.stop, on_stdout)
    except OSError as error:
        raise _refused(f"lha cannot be run on this host: {error.strerror}") from error
    if finished.cut_short:
        raise _refused(f"{finished.cut_short} (decompression.lha_timeout_s)")
    if finished.code < 0:
        raise _damaged(f"lhasa was ended by signal {-finished.code}")
    return finished


# --- headers -----------------------------------------------------------------------------------


def _only_member(work: Unpacking) -> _Member:
    member = _member(work.source, work.packed_bytes)
    if member.method == _DIRECTORY:
        raise _refused("it begins with a directory or a link", "pack the image itself")
    if member.method not in METHODS:
        raise _refused(f"method {member.method.decode('ascii', 'replace')} is not supported", "pack the image by -lh5-")
    _refuse_what_follows(work, member.end)
    return member


def _member(source: BinaryIO, file_bytes: int) -> _Member:
    head = _read(source, 0, min(_LONGEST_HEADER, file_bytes))
    if len(head) < _FIXED_BYTES:
        raise _damaged("its header is cut short")
    packed_bytes, size = _number(head, 7, 4), _number(head, 11, 4)
    level = head[20]
    if level not in _LEVELS:
        raise _refused(f"header level {level} is not known", "pack the image with another program")
    length, extended_bytes = _LEVELS[level](head)
    # Level 1 counts the extended headers as packed data.
    end = length + packed_bytes + (0 if level == 1 else extended_bytes)
    if packed_bytes < extended_bytes and level == 1:
        raise _damaged("its header contradicts itself")
    if end > file_bytes:
        raise _damaged("it is truncated")
    return _Member(head[2:7], end, size)


def _level_0(head: bytes) -> tuple[int, int]:
    _check_sum(head)
    return head[0] + 2, 0


def _level_1(head: bytes) -> tuple[int, int]:
    _check_sum(head)
    base = head[0] + 2
    return base, _extended_bytes(head, base, _number(head, base - 2, 2), 2)


def _level_2(head: bytes) -> tuple[int, int]:
    length = _number(head, 0, 2)
    _extended_bytes(head, 26, _number(head, 24, 2), 2)
    return length, 0


def _level_3(head: bytes) -> tuple[int, int]:
    if _number(head, 0, 2) != 4:
        raise _damaged("its header contradicts itself")
    _extended_bytes(head, 32, _number(head, 28, 4), 4)
    return _number(head, 24, 4), 0


_LEVELS: Final = {0: _level_0, 1: _level_1, 2: _level_2, 3: _level_3}
"""By header level: the length of the header, and of the extended headers that follow it."""


def _check_sum(head: bytes) -> None:
    covered = head[2 : 2 + head[0]]
    if len(covered) < head[0] or sum(covered) & 0xFF != head[1]:
        raise _damaged("the checksum of its header is wrong")


def _extended_bytes(head: bytes, at: int, length: int, size_bytes: int) -> int:
    """Return the total length of the extended headers; each ends with the length of the next."""
    first = at
    while length:
        if length <= size_bytes or at + length > len(head):
            raise _damaged("its header is longer than headers are")
        if head[at] == _LONG_SIZES:
            raise _refused("members of 4 GiB and more are not supported", "pack the image by gzip")
        following = _number(head, at + length - size_bytes, size_bytes)
        at, length = at + length, following
    return at - first


def _refuse_what_follows(work: Unpacking, end: int) -> None:
    work.source.seek(end)
    first = work.source.read(1)
    if first not in (b"", b"\0"):
        raise _refused("it has several members, or other data follow its end", "pack exactly one image into it")
    while more := work.source.read(_TAIL_BYTES):
        work.stop.check()
        if more.strip(b"\0"):
            raise _refused("other data follow its end", "remove them and import again")


def _number(head: bytes, at: int, length: int) -> int:
    return int.from_bytes(head[at : at + length], "little")


def _read(source: BinaryIO, at: int, length: int) -> bytes:
    source.seek(at)
    read = bytearray()
    while len(read) < length and (more := source.read(length - len(read))):
        read += more
    return bytes(read)


def _refused(reason: str, remedy: str = "") -> ArchiveRefused:
    return ArchiveRefused("lha", reason, remedy)


def _damaged(reason: str) -> ArchiveRefused:
    return ArchiveRefused("lha", f"{reason}, so it is damaged", "fetch it again")
