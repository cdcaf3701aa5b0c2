"""Records which ranges of a sparse ``.part`` file are finished, so a download survives a kill at any moment.

The journal is a file beside the part, ``<part>.ranges``. Its first line names the version of the source and the size of
the ranges; each further line states how many bytes of one range are on disk. If the journal is empty or its first line
is torn, nothing in the part can be trusted. Without a journal the part holds a contiguous beginning of the source.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final

from transship.host.staging_faults import staging_error
from transship.sources.answer import Validators

SUFFIX: Final = ".ranges"
"""Suffix of a journal's name."""

_LINE: Final = re.compile(rb"range (\d{1,9}) of (\d{1,9}) has (\d{1,19}) bytes")


@dataclass(frozen=True, slots=True)
class RangePlan:
    """A source split into ranges of equal size; the last one may be shorter.

    Attributes:
        total_bytes: size of the source, at least 1.
        range_bytes: size of a range, at least 1.
    """

    total_bytes: int
    range_bytes: int

    @property
    def count(self) -> int:
        """Number of ranges."""
        return -(-self.total_bytes // self.range_bytes)

    def first(self, index: int) -> int:
        """Return the position of a range's first byte."""
        return index * self.range_bytes

    def length(self, index: int) -> int:
        """Return the size of a range in bytes."""
        return min(self.range_bytes, self.total_bytes - self.first(index))

    def prefix(self, size_bytes: int) -> dict[int, int]:
        """Return how many bytes of each range a contiguous beginning of ``size_bytes`` holds."""
        touched = range(-(-size_bytes // self.range_bytes))
        return {index: min(self.length(index), size_bytes - self.first(index)) for index in touched}


@dataclass(frozen=True, slots=True)
class Finished:
    """The finished bytes that a journal records.

    Attributes:
        plan: how the source was split.
        done: bytes by range; ranges without any are left out.
    """

    plan: RangePlan
    done: Mapping[int, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The position after the last finished byte."""
        return max((self.plan.first(index) + done for index, done in self.done.items()), default=0)


class RangeJournal:
    """The journal of one part file. Every method may raise StagingBroken or StagingFull."""

    def __init__(self, part: Path) -> None:
        self._path = part.with_name(part.name + SUFFIX)

    @property
    def exists(self) -> bool:
        """Whether there is a journal; if so, the part may be sparse."""
        return os.path.lexists(self._path)

    def read(self, known: Validators) -> Finished | None:
        """Return what is finished of the version ``known``; None when nothing can be trusted."""
        try:
            with self._open(os.O_RDONLY) as stream:
                head, *lines = stream.read().split(b"\n")[:-1] or [b""]
        except OSError as error:
            raise staging_error(error, 0, self._path.parent) from error
        plan = _plan_of(head, known)
        return None if plan is None else Finished(plan, _done_of(lines, plan))

    def void(self) -> None:
        """Record that nothing in the part can be trusted; the part may then be changed in any order."""
        self._write(os.O_CREAT | os.O_TRUNC, b"")

    def begin(self, version: Validators, finished: Finished) -> None:
        """Record what is finished of a version; those bytes must be on disk."""
        head = json.dumps({**_named(version), "range_bytes": finished.plan.range_bytes}).encode("ascii")
        lines = [_line(finished.plan, index, done) for index, done in finished.done.items()]
        self._write(os.O_CREAT | os.O_TRUNC, b"".join((head, b"\n", *lines)))

    def note(self, plan: RangePlan, index: int, done_bytes: int) -> None:
        """Record that a range has ``done_bytes``; they must be on disk."""
        self._write(os.O_APPEND, _line(plan, index, done_bytes))

    def remove(self) -> None:
        """Remove the journal, if any; the part must hold a contiguous beginning by now."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise staging_error(error, 0, self._path.parent) from error

    def _write(self, how: int, data: bytes) -> None:
        directory = self._path.parent
        try:
            with self._open(os.O_WRONLY | how) as stream:
                written = stream.write(data)
                os.fdatasync(stream.fileno())
        except OSError as error:
            raise staging_error(error, len(data), directory) from error
        if written != len(data):
            raise staging_error(OSError(errno.ENOSPC, ""), len(data), directory)

    def _open(self, how: int) -> FileIO:
        mode = "rb" if how == os.O_RDONLY else "wb"
        return FileIO(os.open(self._path, how | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), mode)


def _named(version: Validators) -> dict[str, object]:
    pinned = {"pinned": version.pinned} if version.pinned else {}
    return {"etag": version.etag, "last_modified": version.last_modified, "total_bytes": version.total_bytes, **pinned}


def _plan_of(head: bytes, known: Validators) -> RangePlan | None:
    try:
        written = json.loads(head)
    except ValueError:
        return None
    if not isinstance(written, dict) or not known.total_bytes:
        return None
    range_bytes = written.pop("range_bytes", None)
    if written != _named(known) or not isinstance(range_bytes, int) or range_bytes < 1:
        return None
    return RangePlan(known.total_bytes, range_bytes)


def _line(plan: RangePlan, index: int, done_bytes: int) -> bytes:
    return f"range {index} of {plan.count} has {done_bytes} bytes\n".encode("ascii")


def _done_of(lines: list[bytes], plan: RangePlan) -> dict[int, int]:
    done: dict[int, int] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        index, count, size = (int(number) for number in match.groups()) if match else (0, 0, 0)
        if count != plan.count or index >= count or not 0 < size <= plan.length(index):
            break  # a torn line; whatever follows it cannot be trusted
        done[index] = max(size, done.get(index, 0))
    return done
