"""The base class of groups of settings, and types shared by many options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo

from transship.domain.errors import ValueRefused

MIB = 1024 * 1024
GIB = 1024 * MIB

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")
"""How browsers write origins, which are compared as texts."""

WHOLE_PATHS: Final = "whole paths"
"""Key of the validation context: if true, a relative path is refused instead of completed."""


def web_url(option: str, text: str) -> str:
    """Return an http or https URL without a trailing slash; return an empty text unchanged.

    Raises:
        ValueError: it is not such a URL, or holds credentials.
    """
    if not text:
        return text
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.query or parts.fragment or not text.isascii():
        raise ValueRefused(
            f"{option} is not a usable URL",
            "write http://host:port/path or https://host:port/path, without credentials",
        )
    return text.rstrip("/")


def whole_path(path: Path, info: ValidationInfo) -> Path:
    """Return a path completed by the home or the working directory.

    Raises:
        ValueRefused: it is empty, or relative where that is not allowed.
    """
    if info.context and info.context.get(WHOLE_PATHS) and not path.is_absolute():
        raise ValueRefused(f"{str(path)!r} is not an absolute path", "write the whole path")
    if path == Path():  # an empty text would mean the working directory of the process that reads it
        raise ValueRefused("is empty", "write the whole path, or leave the option out")
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueRefused("the home directory behind ~ cannot be found", "write the whole path") from error


def _network(text: str) -> str:
    try:
        return str(ip_network(text.strip()))
    except ValueError as error:
        raise ValueRefused(str(error), "write a network like 10.0.0.0/8 or fd00::/8, or one address") from error


def _host_or_network(text: str) -> str:
    return _network(text) if "/" in text else text.strip()


def _origin(text: str) -> str:
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise ValueRefused(f"{text!r} is no origin", "write https://host or https://host:port in lower case, or *")
    return text


AbsolutePath = Annotated[Path, AfterValidator(whole_path)]
Network = Annotated[str, AfterValidator(_network)]
HostOrNetwork = Annotated[str, AfterValidator(_host_or_network)]
Origin = Annotated[str, AfterValidator(_origin)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A group of settings: frozen, and unknown names are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


def plain(value: object) -> object:
    """Convert a setting's value for ``json.dumps(…, default=plain)``; secrets are in the clear."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    return list(value)  # type: ignore[call-overload]  # tuples and sets; anything else is a defect, and raises
