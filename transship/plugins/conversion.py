"""The image_conversion plugin: converts disk images to the site's format.

The format gate checks the data before qemu-img sees them, and checks qemu-img's output.
ISO images, kernels, ramdisks and data in a container other than ``bare`` are not converted.

Source: Glance, "The Image Conversion" plugin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from config.settings import Settings
from transship.domain.errors import ConversionFailed, FormatMismatch, FormatUnsafe, ImageTooLarge
from transship.domain.throttle import ThrottledProgress
from transship.host.staging_faults import staging_faults
from transship.plugins.base import PluginOutcome, PluginWork
from transship.plugins.format_gate import WITHOUT_INSPECTOR, Inspected, examine, judge
from transship.plugins.qemu_img import ImageFacts, QemuImg

_SECTOR_BYTES: Final = 512


class ImageConversion:
    """Converts staged images with qemu-img; the stateless object behind `PLUGIN`."""

    name = "image_conversion"
    label = "convert"

    def check(self, settings: Settings) -> None:
        """Require a working qemu-img and the programs that limit it.

        Raises:
            ConfigurationRefused: one of them is missing or does not run.
        """
        QemuImg(settings.conversion).check()

    def run(self, work: PluginWork) -> PluginOutcome:
        """Convert the staged file to ``conversion.output_format``.

        Raises:
            FormatMismatch: the data are not in the declared format; they are never read as another format.
            FormatUnsafe: they refer to other files, are encrypted or nested, or fail a safety check.
            ImageTooLarge: the virtual size, or the result, exceeds the size cap.
            ConversionFailed: qemu-img failed or exceeded a limit, or the disk's size changed.
            StagingFull, StagingBroken: staging cannot hold the result.
            LockLost, ImportStopped: the import must end; qemu-img has ended and the result is removed.
        """
        declared, target_format = work.image.disk_format or "", work.settings.conversion.output_format
        if work.image.container_format != "bare":
            return PluginOutcome(summary=f"not converted: container_format is {work.image.container_format}, not bare")
        if declared in WITHOUT_INSPECTOR:
            return PluginOutcome(summary=f"not converted: {declared} images stay as they are")
        inspected = _inspect(work, work.path, declared)
        if inspected.detected == "iso":
            return PluginOutcome(summary="not converted: an ISO image stays as it is")
        if declared == target_format == "raw":
            return PluginOutcome(virtual_size=inspected.virtual_size, summary="not converted: it is raw already")
        qemu_img = QemuImg(work.settings.conversion)
        facts = qemu_img.info(work.path, declared, target_format, work.stop)
        refuse_unfit(facts, declared, work.settings)
        virtual_size = _in_sectors(inspected.virtual_size)
        _refuse_other_size(declared, target_format, virtual_size, facts.virtual_size)
        if declared == target_format:
            return PluginOutcome(virtual_size=virtual_size, summary=f"not converted: it is {target_format} already")
        target = work.workspace.new_file("converted")
        try:
            work.workspace.reserve(target, qemu_img.measure(work.path, declared, virtual_size, work.stop))
            qemu_img.convert(
                work.path,
                declared,
                target,
                target_format,
                virtual_size=virtual_size,
                stop=work.stop,
                progress=ThrottledProgress(work.progress),
            )
            made = _judge_result(work, target, declared, target_format)
            _refuse_other_size(declared, target_format, virtual_size, made.virtual_size)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return PluginOutcome(
            path=target,
            disk_format=target_format,
            container_format="bare",
            virtual_size=virtual_size,
            summary=f"converted from {declared} to {target_format}",
        )


PLUGIN: Final = ImageConversion()


def _inspect(work: PluginWork, path: Path, declared: str) -> Inspected:
    cap_bytes = work.settings.imports.image_size_cap_bytes
    findings = examine(path, cap_bytes, work.stop, lambda _done, _total: None)
    return judge(findings, declared, work.settings.formats, size_cap_bytes=cap_bytes, strict=True)


def refuse_unfit(facts: ImageFacts, declared: str, settings: Settings) -> None:
    """Refuse an image by qemu-img's own reading of the header, which may differ from the gate's."""
    if facts.disk_format != declared:
        raise FormatMismatch.between(declared, facts.disk_format)
    if facts.refers_to:
        raise FormatUnsafe(declared, f"they refer to a {' and a '.join(facts.refers_to)}", "flatten the image first")
    if facts.encrypted:
        raise FormatUnsafe(declared, "they are encrypted and cannot be converted without the key")
    if declared == "vmdk" and facts.vmdk_type not in settings.formats.vmdk_allowed_types:
        allowed = ", ".join(settings.formats.vmdk_allowed_types) or "none"
        raise FormatUnsafe("vmdk", f"subformat {facts.vmdk_type}", f"formats.vmdk_allowed_types accepts: {allowed}")
    cap_bytes = settings.imports.image_size_cap_bytes
    if facts.virtual_size > cap_bytes:
        raise ImageTooLarge("virtual size", facts.virtual_size, cap_bytes, "imports.image_size_cap_bytes")


def _in_sectors(size_bytes: int | None) -> int:
    """Round a virtual size as qemu-img does, to whole sectors of 512 bytes; 0 if the format does not state it."""
    return -(-(size_bytes or 0) // _SECTOR_BYTES) * _SECTOR_BYTES


def _refuse_other_size(declared: str, target_format: str, stated: int, read: int | None) -> None:
    if read != stated:
        reason = f"its header states a virtual size of {stated} bytes and qemu-img reads {read}; export the image again"
        raise ConversionFailed(declared, target_format, reason)


def _judge_result(work: PluginWork, target: Path, declared: str, target_format: str) -> Inspected:
    with staging_faults(target):
        size_bytes = target.stat().st_size
    cap_bytes = work.settings.imports.image_size_cap_bytes
    if size_bytes > cap_bytes:
        raise ImageTooLarge("converted image", size_bytes, cap_bytes, "imports.image_size_cap_bytes")
    try:
        return _inspect(work, target, target_format)
    except FormatMismatch as error:
        raise FormatUnsafe(error.detected, f"they are nested inside a {declared} image") from error
