"""Detect the disk format of an image from its data if the command line does not name it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import unquote, urlsplit

from config.settings import Settings
from transship.domain.errors import (
    CommandRefused,
    FormatUnknown,
    RedirectRefused,
    SourceNotAccepted,
    SourceUnreachable,
    StagingUnusable,
    TransferFailed,
)
from transship.domain.stop import StopToken
from transship.domain.uri_filter import display_uri
from transship.host.logs import configure_logs
from transship.plugins.format_guess import HEAD_BYTES, TAIL_BYTES, guess_disk_format
from transship.sources.gate import gate_from
from transship.sources.web import Peek, SourceRequest, WebSource

REMEDY: Final = "add --disk-format, e.g. --disk-format qcow2"
_DECOMPRESSION: Final = "image_decompression"


def disk_format_of_file(path: Path, settings: Settings, container_format: str) -> str:
    """Return the disk format of a local file.

    Raises:
        CommandRefused: neither the data nor the name determine it.
    """
    return _guessed(path, path.name, str(path), settings, container_format, whole=True)


def disk_format_of_url(uri: str, settings: Settings, container_format: str) -> str:
    """Return the disk format of the file at a URL. Reads its beginning and, if the server supports ranges, its end.

    The request passes the same URI gate as the import's download, and dials the same addresses. It takes none of the
    host's connection slots: it is short, and must not wait for imports that download for hours.

    Raises:
        CommandRefused: the data cannot be read, or neither they nor the name determine it.
        SourceNotAccepted, RedirectRefused: the URL or a redirect must not be imported from.
        ConfigurationRefused: the settings of sources cannot be used.
    """
    configure_logs("ERROR", "import")  # the error says what is wrong
    source = WebSource(gate_from(settings), settings.download, settings.imports.image_size_cap_bytes)
    try:
        seen = source.peek(SourceRequest(uri), HEAD_BYTES, TAIL_BYTES, StopToken())
    except (SourceNotAccepted, RedirectRefused):
        raise
    except TransferFailed as error:
        reason = f"the disk format of {display_uri(uri)} cannot be detected: {error.brief}"
        raise CommandRefused(reason, error.remedy if isinstance(error, SourceUnreachable) else REMEDY) from error
    name = unquote(urlsplit(uri).path).rpartition("/")[2]
    with TemporaryDirectory() as directory:
        path = Path(directory) / "source"
        _write_sparse(path, seen)
        whole = seen.size is not None and (bool(seen.tail) or seen.size <= len(seen.head))
        return _guessed(path, name, display_uri(uri), settings, container_format, whole=whole)


def _guessed(path: Path, name: str, shown: str, settings: Settings, container_format: str, *, whole: bool) -> str:
    # An archive in container_format compressed is kept, and the disk format is that of its content.
    unpacked = _DECOMPRESSION in settings.imports.plugins or container_format == "compressed"
    try:
        return guess_disk_format(path, name, settings, unpacked=unpacked, whole=whole)
    except FormatUnknown as unknown:
        reason = f"the disk format of {shown} cannot be detected: {unknown.reason}"
        raise CommandRefused(reason, REMEDY) from unknown
    except StagingUnusable as error:
        raise CommandRefused(f"the disk format of {shown} cannot be detected: {error}", REMEDY) from error


def _write_sparse(path: Path, seen: Peek) -> None:
    """Write a file with the beginning and end of the source, and a hole between them."""
    with path.open("wb") as file:
        file.write(seen.head)
        if seen.size is not None and seen.tail:
            file.seek(seen.size - len(seen.tail))
            file.write(seen.tail)
