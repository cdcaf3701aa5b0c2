"""Hosts in their canonical spelling."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")
_NUMBER_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

HostEncoder = Callable[[str], str]
"""Converts a host name to its ASCII form; raises ValueError for a name without one."""


def ascii_only(host: str) -> str:
    """Return an ASCII host name unchanged.

    Raises:
        ValueError: the name has other characters; it needs an encoder for international names.
    """
    if not host.isascii():
        raise ValueError("international names must be written in their ASCII form (xn--…)")
    return host


class HostUnusable(ValueError):
    """A text is not a host, or parsers could read it in different ways.

    Args:
        rule: name of the rule that decided.
        reason: what was found.
        remedy: what is accepted; empty if the reason says it.
    """

    def __init__(self, rule: str, reason: str, remedy: str = "") -> None:
        super().__init__(rule, reason, remedy)
        self.rule, self.reason, self.remedy = rule, reason, remedy

    def __str__(self) -> str:
        return self.reason


def canonical_host(host: str, to_ascii: HostEncoder = ascii_only) -> str:
    """Return the canonical spelling of a host: lower-case ASCII without trailing dot, or a canonical address.

    Args:
        host: a name, an IPv4 address, or an IPv6 address with or without brackets.
        to_ascii: encoder for international names.

    Raises:
        HostUnusable: it is not a host, or parsers could read it in different ways.
    """
    if not host:
        raise HostUnusable("host_missing", "the host is missing")
    if "%" in host:
        raise HostUnusable("encoded_host", "the host holds a '%'", "write it without escapes and scope")
    if host.startswith("[") or ":" in host:
        return _canonical_ipv6(host)
    try:
        name = to_ascii(host).lower()
    except ValueError as error:
        raise HostUnusable("host_invalid", f"the host is no valid name: {error}") from error
    name = name.removesuffix(".")
    labels = name.split(".")
    if _NUMBER_LABEL.fullmatch(labels[-1]):
        # With digits and dots of other scripts, or invisible characters, one address has many spellings.
        return _canonical_ipv4(name if host.isascii() else "")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise HostUnusable(
            "host_invalid",
            "the host is no valid name: letters, digits, hyphens, 1 to 63 characters between dots, 253 in all",
        )
    return name


def _canonical_ipv4(name: str) -> str:
    try:
        return str(IPv4Address(name))
    except ValueError as error:
        raise HostUnusable(
            "ipv4_form",
            "the host looks like an address in decimal, octal, hexadecimal or short form, or in characters other than"
            " 0 to 9",
            "write four decimal numbers",
        ) from error


def _canonical_ipv6(host: str) -> str:
    try:
        return IPv6Address(host.removeprefix("[").removesuffix("]")).compressed
    except ValueError as error:
        raise HostUnusable("host_invalid", "the host is no valid IPv6 address") from error
