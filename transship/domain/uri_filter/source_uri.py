"""A source URI, and its form for display."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from unicodedata import normalize
from urllib.parse import unquote

DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
"""The supported schemes, whatever the lists say, with their default ports."""

SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_AUTHORITY_END: Final = re.compile(r"[/?#]")
_SHOWN_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]*\]|[^\[\]:@%\\;&=]*)(?::[0-9]*)?")
_SHOWN_LENGTH: Final = 300
_ESCAPES: Final = 5
"""How many levels of nested escapes are decoded."""
_ESCAPED: Final = re.compile(r"(?:%(?:25)*[0-9A-Fa-f]{2})+|.", re.DOTALL)
_READ_LENGTH: Final = 4096
_SECRET: Final = re.compile(r"[?#;]|&[^/&=]*=|/[^/:@]*:[^/@]*@")
"""Where a secret may begin in a path: a query, a fragment, parameters of a segment, a query without its
question mark, and the user info of an embedded URL."""
_NOT_OF_A_HOST: Final = re.compile(r"[@:?#;&=\\]")


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A well-formed http or https URI without credentials.

    Attributes:
        scheme: ``http`` or ``https``.
        host: lower-case ASCII name without trailing dot, or canonical address without brackets.
        port: as written; None when the URI names none.
        target: path and query for the request line; may hold secrets.
        display: the URI from `display_uri`, for people, logs and errors.
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
        """Host and port for a ``Host`` header: no default port, brackets around IPv6."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.effective_port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The whole URI, query included; may hold secrets."""
        return f"{self.scheme}://{self.authority}{self.target}"


def display_uri(text: str) -> str:
    """Return a URI for display: without user info, query, parameters of a path (``;jsessionid=``) and fragment.

    Accepts any text and never raises. Parts that cannot be identified for certain are left out: escaped
    delimiters, and characters of other scripts that look like delimiters, count as delimiters.
    """
    return printable(_without_secrets(text.strip()))


def may_hold_secrets(text: str) -> bool:
    """Whether a URI has parts that `display_uri` leaves out."""
    return _without_secrets(text) != text


def _without_secrets(clean: str) -> str:
    scheme, separator, rest = clean.partition("://")
    if not separator or not SCHEME.fullmatch(f"{scheme}:"):
        return "(not shown)" if "@" in _plain(clean) else _path_without_secrets(clean)
    authority, tail = authority_and_tail(rest)
    bare = authority.rpartition("@")[2]
    # A raw '/', '?' or '#' in a password ends the authority early; the apparent host is user info then.
    doubtful = not _SHOWN_AUTHORITY.fullmatch(bare) and ("@" in tail or _NOT_OF_A_HOST.search(_plain(bare)))
    if doubtful or _NOT_OF_A_HOST.search(_plain("".join(char for char in bare if not char.isascii()))):
        return f"{scheme}://(not shown)"
    return f"{scheme}://{bare}{_path_without_secrets(tail)}"


def _path_without_secrets(path: str) -> str:
    """Return a path up to where a secret may begin."""
    pieces = [(found.start(), _plain(found[0])) for found in _ESCAPED.finditer(path[:_READ_LENGTH])]
    plain = "".join(piece for _, piece in pieces)
    begins = [found.start()] if (found := _SECRET.search(plain)) else []
    last_at = len(plain) if "@" in path[_READ_LENGTH:] else plain.rfind("@")
    if 0 <= (address := plain.find("://")) < last_at:
        begins.append(address)
    if not begins:
        return path
    passed = 0
    for start, piece in pieces:
        passed += len(piece)
        if passed > min(begins):
            return path[:start]
    return path


def _plain(text: str) -> str:
    """Return a text with escapes decoded, and characters such as a full-width '?' normalized."""
    for _ in range(_ESCAPES):
        unescaped = unquote(text)
        if unescaped == text:
            break
        text = unescaped
    return normalize("NFKC", text)


def authority_and_tail(rest: str) -> tuple[str, str]:
    """Split what follows ``//`` where path, query or fragment begins."""
    end = _AUTHORITY_END.search(rest)
    return (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])


def printable(text: str) -> str:
    """Return a text without unprintable characters, truncated for display."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: _SHOWN_LENGTH + 1])
    return shown if len(shown) <= _SHOWN_LENGTH else f"{shown[:_SHOWN_LENGTH]}…"
