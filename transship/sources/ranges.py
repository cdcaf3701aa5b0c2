"""Which ranges of a sparse ``.part`` file are finished, written down so that a kill at any moment is survived.

The journal lies beside the part, as ``<part>.ranges``. Its first line names the version of the source and
the size of the ranges; each further line says how many bytes of one range the disk has. A journal
that is empty or torn says that nothing of the part can be trusted; without a journal the part
holds an unbroken beginning of the source.
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
"""What a journal's name has more than its part's."""

_LINE: Final = re.compile(rb"range (\d{1,9}) of (\d{1,9}) has (\d{1,19}) bytes")


@dataclass(frozen=True, slots=True)
class RangePlan:
    """A source cut into ranges of one size; the last one may be shorter.

    Attributes:
        total_bytes: size of the source, at least 1.
        range_bytes: size of a range, at least 1.
    """

    total_bytes: int
    range_bytes: int

    @property
    def count(self) -> int:
        """How many ranges there are."""
        return -(-self.total_bytes // self.range_bytes)

    def first(self, index: int) -> int:
        """Return the place of a range's first byte."""
        return index * self.range_bytes

    def length(self, index: int) -> int:
        """Return the bytes of a range."""
        return min(self.range_bytes, self.total_bytes - self.first(index))

    def prefix(self, size_bytes: int) -> dict[int, int]:
        """Return the bytes of each range that an unbroken beginning of ``size_bytes`` holds."""
        touched = range(-(-size_bytes // self.range_bytes))
        return {index: min(self.length(index), size_bytes - self.first(index)) for index in touched}


@dataclass(frozen=True, slots=True)
class Finished:
    """What a journal vouches for.

    Attributes:
        plan: how the source was cut.
        done: bytes by range; ranges without any are left out.
    """

    plan: RangePlan
    done: Mapping[int, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The byte after the last one that is vouched for."""
        return max((self.plan.first(index) + done for index, done in self.done.items()), default=0)


class RangeJournal:
    """The journal of one part file. Every method raises StagingBroken or StagingFull when the disk refuses."""

    def __init__(self, part: Path) -> None:
        self._path = part.with_name(part.name + SUFFIX)

    @property
    def exists(self) -> bool:
        """Whether there is a journal, which makes the part a sparse one."""
        return os.path.lexists(self._path)

    def read(self, known: Validators) -> Finished | None:
        """Return what is finished of the version that ``known`` names; None when nothing can be trusted."""
        try:
            with self._open(os.O_RDONLY) as stream:
                head, *lines = stream.read().split(b"\n")[:-1] or [b""]
        except OSError as error:
            raise staging_error(error, 0, self._path.parent) from error
        plan = _plan_of(head, known)
        return None if plan is None else Finished(plan, _done_of(lines, plan))

    def void(self) -> None:
        """Say that nothing of the part can be trusted; from here on the part may be changed in any order."""
        self._write(os.O_CREAT | os.O_TRUNC, b"")

    def begin(self, version: Validators, finished: Finished) -> None:
        """Say what is finished of a version; the disk must have those bytes."""
        head = json.dumps({**_named(version), "range_bytes": finished.plan.range_bytes}).encode("ascii")
        lines = [_line(finished.plan, index, done) for index, done in finished.done.items()]
        self._write(os.O_CREAT | os.O_TRUNC, b"".join((head, b"\n", *lines)))

    def note(self, plan: RangePlan, index: int, done_bytes: int) -> None:
        """Add that a range has ``done_bytes``; the disk must have them."""
        self._write(os.O_APPEND, _line(plan, index, done_bytes))

    def remove(self) -> None:
        """Forget; the part must hold an unbroken beginning by now. One that is gone is no error."""
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
            break  # torn: what stands behind it proves nothing
        done[index] = max(size, done.get(index, 0))
    return done
