"""Guess a disk format from a file name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from transship.domain.errors import CommandRefused

FORMAT_OF_SUFFIX: Final[Mapping[str, str]] = {
    ".iso": "iso",
    ".qcow2": "qcow2",
    ".img": "raw",
    ".raw": "raw",
    ".vmdk": "vmdk",
    ".vdi": "vdi",
    ".vhd": "vhd",
    ".vhdx": "vhdx",
}
COMPRESSED: Final = (".gz",)


def guess_disk_format(source: str) -> str:
    """Return the disk format that the name of a file or URL speaks of.

    Args:
        source: path or URL; a query does not count, ``.gz`` is looked through.

    Raises:
        CommandRefused: the name does not tell.
    """
    path = PurePosixPath(unquote(urlsplit(source).path) if "://" in source else source)
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    try:
        return FORMAT_OF_SUFFIX[path.suffix.lower()]
    except KeyError:
        raise CommandRefused(
            f"the name {path.name or source!r} does not tell the disk format; add --disk-format,"
            f" e.g. --disk-format qcow2"
        ) from None
