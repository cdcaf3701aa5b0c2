"""The image_decompression plugin: unpacks gzip, zip and LHA files, recognised by content, within bounds.

One layer is unpacked, and zip and LHA files must have exactly one member. Names in the archive are
ignored. The content is written sparsely to a new staged file.

Source: Glance, "The Image Decompression" plugin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from config.settings import Settings
from transship.domain.errors import ArchiveRefused, human_size
from transship.domain.image import Image
from transship.domain.throttle import ThrottledProgress
from transship.host.staging_faults import staging_faults
from transship.plugins.base import PluginOutcome, PluginWork
from transship.plugins.format_gate import AMAZON_FORMATS, archive_kind, packing
from transship.plugins.gzip_archive import unpack_gzip
from transship.plugins.lha_archive import unpack_lha
from transship.plugins.sparse_writer import Bound, SparseWriter
from transship.plugins.unpacking import Unpacker, Unpacking
from transship.plugins.zip_archive import unpack_zip

UNPACKERS: Final[Mapping[str, Unpacker]] = {"gzip": unpack_gzip, "zip": unpack_zip, "lha": unpack_lha}
"""Unpackers by kind, as named by `format_gate.archive_kind`."""


class ImageDecompression:
    """Unpacks staged archives; the stateless object behind `PLUGIN`."""

    name = "image_decompression"
    label = "decompress"

    def check(self, settings: Settings) -> None:
        """Accept all settings: their types validate them, and a missing unpacker only fails imports that need it."""

    def run(self, work: PluginWork) -> PluginOutcome:
        """Unpack the staged file if it is an archive and the image's formats do not keep it packed.

        Raises:
            ArchiveRefused: it is damaged, encrypted, holds another archive or not exactly one member,
                or its method is not supported.
            ImageTooLarge: the content exceeds the size cap or the ratio; nothing is left of it.
            StagingFull, StagingBroken: staging cannot hold the content; nothing is left of it.
        """
        reason = reason_to_keep(work.image)
        if reason:
            return PluginOutcome(summary=f"kept as it is: {reason}")
        kind = archive_kind(work.path)
        if kind is None:
            return PluginOutcome(summary="nothing to unpack: not a compressed file")
        target = work.workspace.new_file("decompressed")
        try:
            packed_bytes, image_bytes = _unpack(work, kind, target)
            _refuse_second_layer(kind, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return PluginOutcome(
            path=target, summary=f"unpacked {kind}: {human_size(packed_bytes)} became {human_size(image_bytes)}"
        )


PLUGIN: Final = ImageDecompression()


def reason_to_keep(image: Image) -> str:
    """Return why an image's data are never unpacked; empty if an archive is unpacked.

    Boot loaders unpack kernels and ramdisks themselves, and an ami belongs to them.
    """
    if image.container_format == "compressed":
        return "container_format is compressed"
    return f"disk_format is {image.disk_format}" if image.disk_format in AMAZON_FORMATS else ""


def _unpack(work: PluginWork, kind: str, target: Path) -> tuple[int, int]:
    settings = work.settings
    with staging_faults(target), work.path.open("rb", buffering=0) as source, target.open("xb", buffering=0) as sink:
        packed_bytes = os.fstat(source.fileno()).st_size
        bound = output_bound(packed_bytes, settings)
        writer = SparseWriter(sink.fileno(), target, work.workspace, bound)
        report = ThrottledProgress(work.progress)
        UNPACKERS[kind](
            Unpacking(
                work.path, source, packed_bytes, bound.check, writer.write, report, settings.decompression, work.stop
            )
        )
        writer.finish()
        report(packed_bytes, packed_bytes)
    return packed_bytes, writer.size_bytes


def output_bound(packed_bytes: int, settings: Settings) -> Bound:
    """Return the tightest bound on the content of an archive of ``packed_bytes``."""
    unpacking = settings.decompression
    by_ratio = max(unpacking.ratio_floor_bytes, int(packed_bytes * unpacking.max_ratio))
    return min(
        Bound(settings.imports.image_size_cap_bytes, "imports.image_size_cap_bytes"),
        Bound(by_ratio, "decompression.max_ratio"),
        key=lambda each: each.limit_bytes,
    )


def _refuse_second_layer(kind: str, path: Path) -> None:
    inner = packing(path)
    if inner == "tar":
        raise ArchiveRefused(kind, "multi-layer (tar) not supported", "import the image that the tar archive holds")
    if inner is not None:
        raise ArchiveRefused(kind, f"it holds a {inner} file and only one layer is unpacked", "unpack it once yourself")
