"""The image_decompression plugin: unpack a gzip file, whatever its name, within bounds.

One layer is unpacked. What comes out is written sparsely: runs of zeros become holes.

Source: Glance, "The Image Decompression" plugin; RFC 1952 (members may follow each other).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from isal import isal_zlib

from config.settings import Settings
from transship.domain.errors import ArchiveRefused, ImageTooLarge, StagingFull, human_size
from transship.domain.stop import StopToken
from transship.plugins.base import PluginOutcome, PluginWork, Workspace
from transship.plugins.format_gate import archive_kind, is_tar
from transship.plugins.pace import Paced
from transship.plugins.staging_faults import staging_faults

INPUT_BYTES: Final = 128 * 1024
"""Small, so that a chunk of thousands of tiny members is not copied once per member for long."""

RESERVE_STEP_BYTES: Final = 64 * 1024 * 1024
ZERO_BLOCK: Final = bytes(64 * 1024)
GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW_BITS: Final = 31


class ImageDecompression:
    """Unpacks staged gzip files; the stateless object behind `PLUGIN`."""

    name = "image_decompression"
    label = "decompress"

    def check(self, settings: Settings) -> None:
        """Accept all settings: their types already bound them."""

    def run(self, work: PluginWork) -> PluginOutcome:
        """Unpack the staged file if it is a gzip file and the image does not ask to keep it packed.

        Raises:
            ArchiveRefused: it is damaged, holds another archive, or is of a kind that is not unpacked.
            ImageTooLarge: what comes out passes the size cap or the ratio; nothing is left of it.
            StagingFull, StagingBroken: staging cannot take it; nothing is left of it.
        """
        if work.image.container_format == "compressed":
            return PluginOutcome(summary="kept as it is: container_format is compressed")
        kind = archive_kind(work.path)
        if kind is None:
            return PluginOutcome(summary="nothing to unpack: not a compressed file")
        if kind != "gzip":
            raise ArchiveRefused(
                kind,
                f"{kind} files are not supported; unpack it and import the image,"
                " or set container_format compressed to keep it packed",
            )
        target = work.workspace.new_file("decompressed")
        try:
            packed_bytes, image_bytes = _unpack(work, target)
            _refuse_second_layer(target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return PluginOutcome(
            path=target, summary=f"unpacked gzip: {human_size(packed_bytes)} became {human_size(image_bytes)}"
        )


PLUGIN: Final = ImageDecompression()


@dataclass(frozen=True, slots=True)
class _Bound:
    """One limit of the output, and the setting behind it."""

    limit_bytes: int
    option: str


def _unpack(work: PluginWork, target: Path) -> tuple[int, int]:
    settings = work.settings
    with staging_faults(target), work.path.open("rb", buffering=0) as source, target.open("xb", buffering=0) as sink:
        packed_bytes = os.fstat(source.fileno()).st_size
        bound = min(
            _Bound(settings.imports.image_size_cap_bytes, "imports.image_size_cap_bytes"),
            _Bound(int(packed_bytes * settings.decompression.max_ratio), "decompression.max_ratio"),
            key=lambda each: each.limit_bytes,
        )
        writer = _SparseWriter(sink.fileno(), target, work.workspace, bound)
        report = Paced(work.progress)
        for piece in _pieces(source, settings.decompression.chunk_bytes, work.stop):
            writer.write(piece)
            report(source.tell(), packed_bytes)
        writer.finish()
        report(packed_bytes, packed_bytes)
    return packed_bytes, writer.size_bytes


def _pieces(source: BinaryIO, piece_bytes: int, stop: StopToken) -> Iterator[bytes]:
    """Yield the unpacked content of every member; memory is bounded by a piece and `INPUT_BYTES`."""
    packed = source.read(INPUT_BYTES)
    while packed:
        member = isal_zlib.decompressobj(_GZIP_WINDOW_BITS)
        while True:
            stop.check()
            try:
                piece = member.decompress(packed, piece_bytes)
            except isal_zlib.IsalError as error:  # type: ignore[misc] # its stub types the class as an instance
                raise ArchiveRefused("gzip", "its data are damaged (checksum or structure); fetch it again") from error
            if piece:
                yield piece
            if member.eof:
                break
            packed = member.unconsumed_tail
            if packed:
                continue
            packed = source.read(INPUT_BYTES)
            if not packed and not piece:
                raise ArchiveRefused("gzip", "it is truncated; fetch it again")
        packed = _next_member(source, member.unused_data, stop)


def _next_member(source: BinaryIO, rest: bytes, stop: StopToken) -> bytes:
    """Return the beginning of the next member, or nothing at the end; zero padding is skipped."""
    rest = rest.lstrip(b"\0")
    while len(rest) < len(GZIP_MAGIC):
        stop.check()
        more = source.read(INPUT_BYTES)
        if not more:
            break
        rest = (rest + more).lstrip(b"\0")
    if rest and not rest.startswith(GZIP_MAGIC):
        raise ArchiveRefused("gzip", "other data follow its end; remove them and import again")
    return rest


def _refuse_second_layer(path: Path) -> None:
    kind = archive_kind(path)
    if kind is not None:
        raise ArchiveRefused("gzip", f"it holds a {kind} file and only one layer is unpacked; unpack it once yourself")
    if is_tar(path):
        raise ArchiveRefused("gzip", "multi-layer (tar) not supported; import the image that the tar archive holds")


class _SparseWriter:
    """Writes pieces one after the other, leaves holes for zeros, keeps to the bound and reserves room."""

    def __init__(self, descriptor: int, path: Path, workspace: Workspace, bound: _Bound) -> None:
        self._descriptor, self._path, self._workspace, self._bound = descriptor, path, workspace, bound
        self._reserved_bytes = 0
        self._data_bytes = 0
        self.size_bytes = 0

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises:
            ImageTooLarge: the bound is passed; the piece was not written.
            StagingFull: there is no room for it.
        """
        end = self.size_bytes + len(piece)
        if end > self._bound.limit_bytes:
            raise ImageTooLarge("decompressed image", end, self._bound.limit_bytes, self._bound.option)
        view = memoryview(piece)
        for first, last in _data_ranges(piece, self.size_bytes):
            self._reserve(last - first)
            _write_all(self._descriptor, view[first:last], self.size_bytes + first)
        self.size_bytes = end

    def finish(self) -> None:
        """Give the file its length, which holes at its end do not."""
        os.ftruncate(self._descriptor, self.size_bytes)

    def _reserve(self, more_bytes: int) -> None:
        self._data_bytes += more_bytes
        if self._data_bytes <= self._reserved_bytes:
            return
        generous = min(self._bound.limit_bytes, self._data_bytes + max(RESERVE_STEP_BYTES, self._data_bytes // 4))
        try:
            self._workspace.reserve(self._path, generous)
            self._reserved_bytes = generous
        except StagingFull:
            self._workspace.reserve(self._path, self._data_bytes)
            self._reserved_bytes = self._data_bytes


def _data_ranges(piece: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a piece that are not zero blocks, blocks lying at multiples of their size in the file."""
    data_from: int | None = None
    at = 0
    while at < len(piece):
        block_bytes = min(len(ZERO_BLOCK) - (offset + at) % len(ZERO_BLOCK), len(piece) - at)
        if piece.startswith(ZERO_BLOCK[:block_bytes], at):
            if data_from is not None:
                yield data_from, at
                data_from = None
        elif data_from is None:
            data_from = at
        at += block_bytes
    if data_from is not None:
        yield data_from, len(piece)


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
