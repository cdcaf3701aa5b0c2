"""Property protection files: read and judged as a whole, in the form that Glance reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from configparser import Error, RawConfigParser
from pathlib import Path
from typing import Final

from transship.domain.errors import ConfigurationRefused
from transship.domain.image import RESERVED_PREFIX
from transship.domain.protections import EVERYBODY, NOBODY, Operation, Protection

_OPTION: Final = "api.property_protection_file"


def read_protection_file(file: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigurationRefused: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(file, f"it cannot be read: {error}", "see that it is there and readable") from error


def protections_in(text: str, file: Path, *, by_policy: bool) -> tuple[Protection, ...]:
    """Return the protections in the text of a file, in its order.

    Sections about names that are reserved for the service are left out: clients cannot set these anyway.

    Args:
        file: where the text comes from, for errors.
        by_policy: whether the file names policies, one for each operation, instead of roles.

    Raises:
        ConfigurationRefused: the text is not in the format, or a section's expression or one of its lines is invalid.
    """
    parser = RawConfigParser()
    try:
        parser.read_string(text, str(file))
    except Error as error:
        raise _refused(
            file, str(error).replace("\n", " "), "write [expression] and four lines like 'read = admin'"
        ) from error
    return tuple(
        _protection(file, name, parser[name], by_policy=by_policy)
        for name in parser.sections()
        if not name.startswith(RESERVED_PREFIX)
    )


def refuse_unknown_policies(protections: tuple[Protection, ...], file: Path, known: Callable[[str], bool]) -> None:
    """Refuse protections by a policy that does not exist: nobody would pass it.

    Raises:
        ConfigurationRefused: names the first one.
    """
    for protection in protections:
        for word in {word for words in protection.permitted.values() for word in words} - {EVERYBODY, NOBODY}:
            if not known(word):
                reason = f"[{protection.pattern.pattern}] names the policy {word}, which does not exist"
                raise _refused(file, reason, "add it to the policy file (api.policy_file)")


def _protection(file: Path, name: str, lines: Mapping[str, str], *, by_policy: bool) -> Protection:
    try:
        pattern = re.compile(name)
    except re.error as error:
        raise _refused(file, f"[{name}] is not a regular expression: {error}", "correct it") from error
    missing = [str(operation) for operation in Operation if operation not in lines]
    if missing:
        remedy = "name roles, @ for everybody or ! for nobody"
        raise _refused(file, f"[{name}] does not say who may {', '.join(missing)}", remedy)
    permitted = {operation: tuple(_words(lines[operation])) for operation in Operation}
    for operation, words in permitted.items():
        if len(words) > 1 and not {EVERYBODY, NOBODY}.isdisjoint(words):
            raise _refused(file, f"[{name}] {operation}: {EVERYBODY} and {NOBODY} stand alone", "remove the others")
        if len(words) > 1 and by_policy:
            raise _refused(file, f"[{name}] {operation} names several policies", "name one, and combine them there")
    return Protection(pattern, permitted)


def _words(line: str) -> Iterator[str]:
    for word in line.split(","):
        if word.strip():
            yield word.strip()


def _refused(file: Path, reason: str, remedy: str) -> ConfigurationRefused:
    return ConfigurationRefused(str(file), _OPTION, reason, remedy)
