"""Parses the text of a URI, and refuses texts that parsers could read in different ways."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urljoin

from transship.domain.errors import UriRefused
from transship.domain.uri_filter.hosts import HostEncoder, HostUnusable, ascii_only, canonical_host
from transship.domain.uri_filter.rules import UriRules, judge_scheme
from transship.domain.uri_filter.source_uri import SCHEME, SourceUri, authority_and_tail, display_uri

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL_ESCAPE: Final = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_UNESCAPED: Final = re.compile("[ \u00a0-\ud7ff\ue000-\U0010ffff]+")
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~"
_QUERY_SAFE: Final = _PATH_SAFE + "?[]"


def parse_uri(text: str, rules: UriRules, to_ascii: HostEncoder = ascii_only) -> SourceUri:
    """Return the parts of an unambiguous URI.

    Args:
        text: as sent by the caller; a fragment is dropped, unescaped characters in the path are escaped.
        rules: for length and scheme.
        to_ascii: encoder for international host names.

    Raises:
        UriRefused: the text is not a URI, is ambiguous, or its scheme is not accepted.
    """
    display = display_uri(text)
    _refuse_bad_characters(text, rules, display)
    scheme, rest = _split_scheme(text, display)
    judge_scheme(scheme, rules, display)
    if not rest.startswith("//"):
        raise UriRefused(display, "host_missing", f"'//' and a host must follow '{scheme}:'")
    authority, tail = authority_and_tail(rest[2:])
    if "@" in authority:
        raise UriRefused(display, "userinfo", "it holds a user name or password", "give the address without them")
    host_text, port_text = _split_authority(authority, display)
    try:
        host = canonical_host(host_text, to_ascii)
    except HostUnusable as error:
        raise UriRefused(display, error.rule, error.reason, error.remedy) from error
    port = _port(port_text, display)
    target = _target(tail, display)
    whole = SourceUri(scheme, host, port, target, "").text
    return SourceUri(scheme, host, port, target, display=display_uri(whole))


def join_location(base: SourceUri, location: str) -> str:
    """Resolve a ``Location`` header to a URI, which must still be parsed and judged.

    Spaces and non-ASCII characters in its path and query are escaped, as in browsers, curl and wget.

    Raises:
        UriRefused: the header is empty or holds a control character, a backslash, or a space in its host.
    """
    if not location or location.startswith("#"):
        raise UriRefused(base.display, "location_missing", "the redirect does not say where to")
    location = _with_escaped_tail(location)
    if any(char.isspace() or _is_control(char) for char in location) or "\\" in location:
        raise UriRefused(base.display, "control_character", "the redirect holds a character that no URI has")
    if SCHEME.match(location):
        return location
    if location.startswith("//"):
        return f"{base.scheme}:{location}"
    origin = f"{base.scheme}://{base.authority}"
    path = base.target.partition("?")[0]
    if location.startswith("/"):
        return origin + location
    if location.startswith("?"):
        return origin + path + location
    return origin + urljoin(path, f"./{location}")


def _with_escaped_tail(location: str) -> str:
    """Escape characters after the authority, if any, as far as that does not change the meaning."""
    scheme = SCHEME.match(location)
    start = 0 if scheme is None else scheme.end()
    head, tail = location[:start], location[start:]
    if tail.startswith("//"):
        authority, tail = authority_and_tail(tail[2:])
        head += f"//{authority}"
    return head + _UNESCAPED.sub(lambda found: quote(found[0]), tail)


def _refuse_bad_characters(text: str, rules: UriRules, display: str) -> None:
    if len(text) > rules.max_length:
        remedy = f"at most {rules.max_length} are accepted"
        raise UriRefused(display, "max_length", f"it is {len(text)} characters long", remedy)
    if "\\" in text:
        raise UriRefused(display, "backslash", "it holds a backslash, which readers understand differently")
    if any(char.isspace() or _is_control(char) for char in text):
        raise UriRefused(display, "control_character", "it holds white space or a control character")


def _is_control(char: str) -> bool:
    code = ord(char)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000


def _split_scheme(text: str, display: str) -> tuple[str, str]:
    match = SCHEME.match(text)
    if match is None:
        raise UriRefused(display, "scheme_missing", "the scheme is missing", "begin with http:// or https://")
    return match[1].lower(), text[match.end() :]


def _split_authority(authority: str, display: str) -> tuple[str, str]:
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UriRefused(display, "host_invalid", "an IPv6 address must stand in brackets: [2001:db8::1]:80")
        return host + bracket, rest[1:]
    if authority.count(":") > 1:
        raise UriRefused(display, "port_invalid", "it holds more than one port, or an IPv6 address without brackets")
    host, _, port = authority.partition(":")
    return host, port


def _port(text: str, display: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise UriRefused(display, "port_invalid", "the port must be a number from 1 to 65535")
    if int(text) == 0:
        raise UriRefused(display, "port_zero", "port 0 cannot be reached", "the port must be from 1 to 65535")
    return int(text)


def _target(tail: str, display: str) -> str:
    path, question, query = tail.partition("#")[0].partition("?")
    if _CONTROL_ESCAPE.search(path):
        raise UriRefused(display, "control_character", "its path holds an escaped control character")
    return (_escaped(path, _PATH_SAFE) or "/") + question + _escaped(query, _QUERY_SAFE)


def _escaped(text: str, safe: str) -> str:
    return quote(_BAD_ESCAPE.sub("%25", text), safe=safe)
