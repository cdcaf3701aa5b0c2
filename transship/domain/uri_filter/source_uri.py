"""A source URI, and what may be shown of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
"""The schemes that a download can speak whatever the lists say, with their default ports."""

SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_AUTHORITY_END: Final = re.compile(r"[/?#]")
_QUERY_OR_FRAGMENT: Final = re.compile(r"[?#]")
_SHOWN_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]*\]|[^\[\]:@%\\]*)(?::[0-9]*)?")
_SHOWN_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A well-formed http or https URI without credentials.

    Attributes:
        scheme: ``http`` or ``https``.
        host: lower-case ASCII name without trailing dot, or canonical address without brackets.
        port: as written; None when the URI names none.
        target: path and query as they go into the request line; may hold secrets.
        display: the URI without query and fragment, for people, logs and errors.
    """

    scheme: str
    host: str
    port: int | None
    target: str = field(repr=False)
    display: str

    @property
    def effective_port(self) -> int:
        """The port to dial."""
        return DEFAULT_PORTS[self.scheme] if self.port is None else self.port

    @property
    def authority(self) -> str:
        """Host and port as a ``Host`` header has them: no default port, brackets around IPv6."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.effective_port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The whole URI, query included; may hold secrets."""
        return f"{self.scheme}://{self.authority}{self.target}"


def display_uri(text: str) -> str:
    """Return a URI as it may be shown: without user info, query and fragment.

    Takes any text and never raises. Where it is not clear which part is which, the doubtful part
    is left out rather than shown.
    """
    clean = text.strip()
    scheme, separator, rest = clean.partition("://")
    if not separator or not SCHEME.fullmatch(f"{scheme}:"):
        shown = _QUERY_OR_FRAGMENT.split(clean, maxsplit=1)[0]
        return printable("(not shown)" if "@" in clean else shown)
    authority, tail = authority_and_tail(rest)
    bare = authority.rpartition("@")[2]
    # A password with a raw '/', '?' or '#' ends the authority early: then what stands there is user info.
    doubtful = not _SHOWN_AUTHORITY.fullmatch(bare)
    if doubtful and ("@" in tail or ":" in bare or "\\" in bare):
        return printable(f"{scheme}://(not shown)")
    path = _QUERY_OR_FRAGMENT.split(tail, maxsplit=1)[0]
    return printable(f"{scheme}://{bare}{path}")


def authority_and_tail(rest: str) -> tuple[str, str]:
    """Split what follows ``//`` where path, query or fragment begins."""
    end = _AUTHORITY_END.search(rest)
    return (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])


def printable(text: str) -> str:
    """Return a text without what cannot be printed, and cut where it is too long for people."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: _SHOWN_LENGTH + 1])
    return shown if len(shown) <= _SHOWN_LENGTH else f"{shown[:_SHOWN_LENGTH]}…"
