"""The format gate: detects the real format of data, and whether they are safe to process.

`examine` reads a staged file with the inspectors of oslo.utils and returns its findings; `judge`
decides, without input or output, whether they match the declared disk format. The import's
inspection and the conversion plugin share both, so the same rules apply.

Nothing here runs a program on the data.

Source: Glance, "image data format inspection"; oslo.utils ``format_inspector``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oslo_utils.imageutils import format_inspector

from config.settings import FormatSettings
from transship.domain.errors import FormatMismatch, FormatUnsafe, ImageTooLarge
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.host.staging_faults import staging_faults
from transship.plugins.disk_tables import flaw_of
from transship.plugins.inspectors import PARSER_FAULTS, Inspectors, fixed_vhd

CHUNK_BYTES: Final = 1024 * 1024
"""Ten times faster than 64 KiB; with a larger chunk the VHDX inspector misses a size in the previous chunk."""

AMAZON_FORMATS: Final = frozenset({"ami", "aki", "ari"})
"""Disk formats of machines that boot from a separate kernel, ramdisk and file system."""

WITHOUT_INSPECTOR: Final = AMAZON_FORMATS | {"ploop"}
"""Disk formats whose data cannot be distinguished from raw data."""

KERNEL_FORMATS: Final = frozenset({"aki", "ari"})
"""Kernels and ramdisks may contain a boot signature without any partition."""

ARCHIVE_HEADS: Final = (
    ("gzip", re.compile(rb"\A\x1f\x8b\x08")),
    ("zip", re.compile(rb"\APK(?:\x03\x04|\x05\x06)")),
    ("lha", re.compile(rb"\A..-(?:lh[0-9a-z]|lz[45s]|pm[012s])-", re.DOTALL)),
)
"""Kinds that the image_decompression plugin unpacks."""

PACKING_HEADS: Final = (
    *ARCHIVE_HEADS,
    ("xz", re.compile(rb"\A\xfd7zXZ\x00")),
    ("bzip2", re.compile(rb"\ABZh[1-9](?:1AY&SY|\x17rE8P\x90)")),
    ("zstd", re.compile(rb"\A(?:\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)")),
    ("lz4", re.compile(rb"\A(?:\x04\x22\x4d|\x02\x21\x4c)\x18")),
    ("7z", re.compile(rb"\A7z\xbc\xaf\x27\x1c")),
    ("rar", re.compile(rb"\ARar!\x1a\x07")),
    ("lzma", re.compile(rb"\A\x5d\x00\x00.{2}(?:\xff{8}|.{5}\x00{3})", re.DOTALL)),
    ("lzip", re.compile(rb"\ALZIP[\x00\x01]")),
    ("lzop", re.compile(rb"\A\x89LZO\x00\x0d\x0a\x1a\x0a")),
    ("compress", re.compile(rb"\A\x1f\x9d")),
    ("cab", re.compile(rb"\AMSCF\x00{4}")),
    ("tar", re.compile(rb"\A.{257}ustar", re.DOTALL)),
)
"""Compressed files and archives, none of which is a disk image itself."""

PACKING_HEAD_BYTES: Final = 512

_FOREIGN_HEADS: Final = (
    ("ploop", re.compile(rb"\AWithou(?:tFreeSpace|FreSpacExt)")),
    ("bochs", re.compile(rb"\ABochs Virtual HD Image")),
    ("cloop", re.compile(rb"\A#!/bin/sh\n#V2\.0 Format\nmodprobe cloop")),
)
"""Formats that readers of disk images accept but the inspectors do not know."""

_MISSED_HEADS: Final = (
    ("qcow2", "the header is cut short", re.compile(rb"\AQFI\xfb")),
    ("qed", "the header is cut short", re.compile(rb"\AQED\0")),
    ("vmdk", "an old kind of sparse extent", re.compile(rb"\ACOWD")),
    (
        "vmdk",
        "a descriptor of its own, which may name other files",
        re.compile(rb"\A#[ \t]*disk descriptorfile|\A(?:#[^\n]*\n|[ ]*\r?\n)*version=[123]\r?\n", re.IGNORECASE),
    ),
)
"""Headers that a format-guessing program accepts but the inspectors of oslo.utils 10.2 do not recognise:
they require a descriptor to be text up to its 512th byte, while qemu-img pads it with zeros."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the inspectors found in a file.

    Attributes:
        size_bytes: length of the file.
        names: matching formats, as the inspectors name them; only ``raw`` if none matched.
        virtual_sizes: bytes that a guest would see, by format, if the header states them.
        failures: failed safety checks by format: name of the check and its reason.
        packing: how raw data are packed, e.g. ``xz``; None if they are not.
    """

    size_bytes: int
    names: frozenset[str]
    virtual_sizes: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    packing: str | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """The gate's verdict on data that passed.

    Attributes:
        detected: disk format of the data; a disk with a partition table is ``raw``, a hybrid
            ISO is ``iso``; empty when the container is not inspected.
        virtual_size: bytes that a guest sees; None if the format does not state them.
        warnings: what should be checked although the data were accepted.
    """

    detected: str
    virtual_size: int | None = None
    warnings: tuple[str, ...] = ()


def inspect_file(
    path: Path,
    declared: str,
    container: str,
    settings: FormatSettings,
    *,
    size_cap_bytes: int,
    stop: StopToken,
    progress: Callable[[int, int], None],
) -> Inspected:
    """Refuse a staged file whose data do not match the declared format, or are not safe.

    Args:
        path: sealed staged file; only read.
        declared: the image's disk format.
        container: the image's container format; only ``bare`` data are inspected.
        settings: rules of the site.
        size_cap_bytes: largest virtual size accepted.
        stop: checked once per MiB.
        progress: called with bytes read and the file's size, a few times a second.

    Raises:
        FormatMismatch: the data are in another format.
        FormatUnsafe: a safety check failed, or the data match several formats at once.
        ImageTooLarge: the virtual size exceeds the cap.
        StagingBroken: the file cannot be read.
    """
    if container != "bare":
        return Inspected("")
    findings = examine(path, size_cap_bytes, stop, progress)
    return judge(findings, declared, settings, size_cap_bytes=size_cap_bytes)


def judge(
    findings: Findings, declared: str, settings: FormatSettings, *, size_cap_bytes: int, strict: bool = False
) -> Inspected:
    """Decide whether data are accepted as ``declared``.

    Args:
        findings: from `examine`.
        declared: disk format of the image.
        settings: rules of the site.
        size_cap_bytes: largest virtual size accepted.
        strict: accept only data in the declared format, whatever the settings allow; for callers that
            are going to read them in that format.

    Raises:
        FormatMismatch, FormatUnsafe, ImageTooLarge: as `inspect_file`.
    """
    name, warnings = _one_format(findings, declared)
    warnings += _safety_warnings(findings, name, declared, settings)
    detected = "raw" if name == "gpt" else name
    inner_size = findings.virtual_sizes.get(name)
    found = findings.packing or detected
    disguised = f"the image is declared raw and its data are {found}; accepted as raw"
    if detected == declared and not (findings.packing and settings.refuse_raw_in_disguise):
        warnings += [disguised] if findings.packing else []
        virtual_size = findings.size_bytes if detected == "raw" else inner_size
    elif detected == "raw" and declared in WITHOUT_INSPECTOR:
        virtual_size = None
    elif declared == "raw" and not strict and not settings.refuse_raw_in_disguise:
        warnings.append(disguised)
        virtual_size = findings.size_bytes
    elif strict or settings.require_match or declared == "raw":
        raise FormatMismatch.between(declared, found)
    else:
        warnings.append(f"the image declares {declared} and its data are {found}; formats.require_match is off")
        virtual_size = inner_size
    largest = max(virtual_size or 0, inner_size or 0)
    if largest > size_cap_bytes:
        raise ImageTooLarge("virtual size", largest, size_cap_bytes, "imports.image_size_cap_bytes")
    return Inspected(detected, virtual_size, tuple(warnings))


def examine(path: Path, size_cap_bytes: int, stop: StopToken, progress: Callable[[int, int], None]) -> Findings:
    """Read as much of a file as is needed to know its formats and whether it is complete.

    Args:
        path: sealed file; only read.
        size_cap_bytes: largest virtual size accepted; tables of a larger disk are not read.
        stop: checked once per MiB.
        progress: called with bytes read and the file's size, a few times a second.

    Raises:
        StagingBroken: the file cannot be read.
    """
    report = ThrottledProgress(progress)
    with staging_faults(path), path.open("rb", buffering=0) as source:
        size_bytes = os.fstat(source.fileno()).st_size
        head, tail = (
            os.pread(source.fileno(), PACKING_HEAD_BYTES, 0),
            os.pread(source.fileno(), 512, max(0, size_bytes - 512)),
        )
        reader = Inspectors(source)
        done_bytes = 0
        while chunk := reader.read(CHUNK_BYTES):
            stop.check()
            done_bytes += len(chunk)
            report(done_bytes, size_bytes)
            if reader.decided():
                break
        inspectors = reader.matching()
        if {inspector.NAME for inspector in inspectors} <= {"gpt"}:
            foreign = _foreign(head, tail, size_bytes)
            if foreign is not None:
                return foreign
            # An apparent partition table belongs to the disk inside, or is packed data by chance.
            packed_as, fixed = _kind(head, PACKING_HEADS), fixed_vhd(tail)
            inspectors = [fixed] if fixed is not None else inspectors if packed_as is None else []
        failures = {inspector.NAME: _failed_checks(inspector) for inspector in inspectors}
        virtual_sizes = _virtual_sizes(inspectors, size_bytes)
        for name, failed in failures.items():
            refused = failed or virtual_sizes.get(name, 0) > size_cap_bytes
            flaw = "" if refused else flaw_of(name, source.fileno(), size_bytes, stop)
            if flaw:
                failed["completeness"] = flaw
    return Findings(
        size_bytes=size_bytes,
        names=frozenset(failures) or frozenset({"raw"}),
        packing=None if failures else _kind(head, PACKING_HEADS),
        virtual_sizes=virtual_sizes,
        failures=failures,
    )


def archive_kind(path: Path) -> str | None:
    """Return ``gzip``, ``zip`` or ``lha`` if a file begins as one; its name does not matter.

    Raises:
        StagingBroken: the file cannot be read.
    """
    return _kind(_head_of(path), ARCHIVE_HEADS)


def packing(path: Path) -> str | None:
    """Return how a file is packed, judged by its first bytes: an archive's kind, or e.g. ``xz`` or ``tar``.

    Raises:
        StagingBroken: the file cannot be read.
    """
    return _kind(_head_of(path), PACKING_HEADS)


# --- reading -----------------------------------------------------------------------------------


def _head_of(path: Path) -> bytes:
    with staging_faults(path), path.open("rb") as source:
        return source.read(PACKING_HEAD_BYTES)


def _kind(head: bytes, heads: tuple[tuple[str, re.Pattern[bytes]], ...]) -> str | None:
    return next((kind for kind, magic in heads if magic.match(head)), None)


def _virtual_sizes(inspectors: list[format_inspector.FileInspector], size_bytes: int) -> dict[str, int]:
    sizes = {}
    for inspector in inspectors:
        try:
            size = inspector.virtual_size
        except PARSER_FAULTS:
            continue
        if inspector.NAME == "luks":
            size += size_bytes - inspector.actual_size
        if size > 0:
            sizes[inspector.NAME] = size
    return sizes


def _failed_checks(inspector: format_inspector.FileInspector) -> dict[str, str]:
    if not inspector.complete:
        return {"completeness": "its header is incomplete, so it is cut short; fetch or export it again"}
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        return {name: str(reason) for name, reason in error.failures.items()}
    except format_inspector.ImageFormatError as error:
        return {"structure": str(error)}
    except PARSER_FAULTS:
        return {"structure": "the header cannot be read"}
    return {}


def _foreign(head: bytes, tail: bytes, size_bytes: int) -> Findings | None:
    for name, magic in _FOREIGN_HEADS:
        if magic.match(head):
            return Findings(size_bytes, frozenset({name}))
    if tail.startswith(b"koly"):
        return Findings(size_bytes, frozenset({"dmg"}))
    for name, reason, magic in _MISSED_HEADS:
        if magic.match(head):
            return Findings(size_bytes, frozenset({name}), failures={name: {"header": reason}})
    return None


# --- deciding ----------------------------------------------------------------------------------


def _one_format(findings: Findings, declared: str) -> tuple[str, list[str]]:
    if findings.names == {"iso", "gpt"}:
        # The partition table of a hybrid ISO is made for boot loaders and rarely passes the check.
        return "iso", [f"hybrid ISO: {text}" for text in _texts(findings.failures.get("gpt", {}))]
    if len(findings.names) > 1:
        raise FormatUnsafe("+".join(sorted(findings.names)), "they match several formats at once")
    (name,) = findings.names
    if name in {"ploop", "bochs", "cloop", "dmg"} and name != declared:
        raise FormatUnsafe(name, "this format is not accepted", "convert it and import the result")
    return name, []


def _safety_warnings(findings: Findings, name: str, declared: str, settings: FormatSettings) -> list[str]:
    failed = findings.failures.get(name, {})
    tolerated = set(settings.gpt_safety_checks_nonfatal) if name == "gpt" else set()
    if name == "gpt" and declared in KERNEL_FORMATS:
        tolerated.add("mbr")
    fatal = {check: reason for check, reason in failed.items() if check not in tolerated}
    if fatal:
        remedy = " (formats.gpt_safety_checks_nonfatal can make it a warning)" if name == "gpt" else ""
        raise FormatUnsafe(name, "; ".join(_texts(fatal)) + remedy)
    return _texts(failed)


def _texts(failed: Mapping[str, str]) -> list[str]:
    return [f"safety check {check}: {reason}" for check, reason in failed.items()]
