"""Detects the disk format of data without a declared format, from the data and never from a name alone.

Names mislead: most cloud images called ``.img`` are qcow2. The beginning and the end of the data decide, as read by
the format gate; for an archive that will be unpacked, the beginning of its content. Data without the signature of a
format are raw only if their name says so too. All else is refused, because an image with a wrong format does not boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final

from config.settings import Settings
from transship.domain.errors import ArchiveRefused, FormatUnknown
from transship.domain.stop import StopToken
from transship.plugins.format_gate import archive_kind, examine
from transship.plugins.gzip_archive import unpack_gzip
from transship.plugins.unpacking import Unpacker, Unpacking
from transship.plugins.zip_archive import unpack_zip

HEAD_BYTES: Final = 256 * 1024
"""Bytes at the beginning needed to detect a format, also inside an archive; an ISO's signature is at 32 KiB."""

TAIL_BYTES: Final = 128 * 1024
"""Bytes at the end needed to detect a format: a fixed VHD's footer, or the directory of a zip file of one member."""

_SUFFIXES: Final[Mapping[str, str]] = {
    ".iso": "iso",
    ".qcow2": "qcow2",
    ".img": "raw",
    ".raw": "raw",
    ".vmdk": "vmdk",
    ".vdi": "vdi",
    ".vhd": "vhd",
    ".vhdx": "vhdx",
}
_PACKED_SUFFIXES: Final = (".gz", ".zip")
_MARKED_AT_END: Final = frozenset({"vhd"})

_UNPACKERS: Final[Mapping[str, Unpacker]] = {"gzip": unpack_gzip, "zip": unpack_zip}


class _Enough(Exception):
    """Enough of an archive's content has been unpacked."""


def guess_disk_format(
    path: Path, name: str, settings: Settings, *, unpacked: bool, whole: bool = True, stop: StopToken | None = None
) -> str:
    """Return the disk format of data or, if they are an archive, of its content.

    Args:
        path: file with the beginning of the data, and with their end if ``whole``; only read. Between its first
            `HEAD_BYTES` and its last `TAIL_BYTES` it may have a hole.
        name: of the file, or the last part of the data's URL.
        settings: of the site.
        unpacked: whether an archive is unpacked on import, or is stored as it is in a matching container.
        whole: whether the end of the data is known.
        stop: checked while the file is read.

    Raises:
        FormatUnknown: data and name do not determine it.
        StagingBroken: the file cannot be read.
    """
    stop = stop or StopToken()
    kind = archive_kind(path)
    if kind is None:
        return _detect(path, name, settings, whole=whole, stop=stop)
    if not unpacked:
        raise FormatUnknown(f"they are packed by {kind}, which this site does not unpack (imports.plugins)")
    if kind not in _UNPACKERS:
        raise FormatUnknown(f"they are packed by {kind}, which is not looked into")
    with TemporaryDirectory() as directory:
        content = Path(directory) / "content"
        content.write_bytes(_beginning(path, kind, settings, stop))
        return _detect(content, name, settings, whole=False, stop=stop)


def decide(names: frozenset[str], said: str, *, end_known: bool) -> str:
    """Return the disk format determined by the findings and the name together.

    Args:
        names: formats that the data match, as the format gate names them.
        said: the disk format in the name; empty if it has none.
        end_known: whether the end of the data was examined.

    Raises:
        FormatUnknown: they do not determine it.
    """
    if names == {"raw"}:
        if said == "raw":
            return "raw"
        hint = f"and their name says {said}" if said else "and their name says none"
        raise FormatUnknown(f"they have no mark of a format, {hint}")
    if names == {"gpt"}:
        if said in _MARKED_AT_END and not end_known:
            raise FormatUnknown(f"their name says {said}, whose mark may be at their end, which could not be read")
        return "raw"
    if names == {"iso", "gpt"}:
        return "iso"
    if len(names) > 1:
        raise FormatUnknown(f"they match several formats at once: {', '.join(sorted(names))}")
    (name,) = names
    return name


def said_by(name: str) -> str:
    """Return the disk format in a name, which may be an archive's; empty if it has none."""
    lower = name.lower()
    inner = next((lower.removesuffix(each) for each in _PACKED_SUFFIXES if lower.endswith(each)), lower)
    return _SUFFIXES.get(PurePosixPath(inner).suffix, "")


def _detect(path: Path, name: str, settings: Settings, *, whole: bool, stop: StopToken) -> str:
    # A cap of 0 skips the tables: the import checks later whether the disk is complete.
    findings = examine(path, 0, stop, _ignore_progress)
    if findings.packing:
        raise FormatUnknown(f"they are packed by {findings.packing}, which imports do not unpack; unpack them first")
    found = decide(findings.names, said_by(name), end_known=whole)
    if found not in settings.formats.disk_formats:
        raise FormatUnknown(f"they are {found}, which is no disk format of this site")
    return found


def _beginning(path: Path, kind: str, settings: Settings, stop: StopToken) -> bytes:
    content = bytearray()

    def take(piece: bytes) -> None:
        content.extend(piece)
        if len(content) >= HEAD_BYTES:
            raise _Enough

    with path.open("rb", buffering=0) as source:
        packed_bytes = path.stat().st_size
        work = Unpacking(path, source, packed_bytes, _unbounded, take, _ignore_progress, settings.decompression, stop)
        try:
            _UNPACKERS[kind](work)
        except _Enough:
            pass
        except ArchiveRefused as refused:
            # The end of the archive may be missing, but the beginning of its content may be there.
            if not content:
                raise FormatUnknown(str(refused)) from refused
    return bytes(content[:HEAD_BYTES])


def _ignore_progress(done_bytes: int, all_bytes: int) -> None:
    """Ignore progress."""


def _unbounded(size_bytes: int) -> None:
    """Accept content of any size, because only its beginning is unpacked."""
