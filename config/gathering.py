"""Merges the values of all sources, and keeps the origin of each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from config.options import OptionPath, field_at, option_meant, section_of
from transship.domain.errors import ConfigurationRefused, SeveralRefused, ValueRefused

DEFAULT: Final = "default"
FROM_VARIABLE: Final = "environment "
COMMAND_LINE: Final = "command line"
_LONGEST_SHOWN: Final = 80
_BOUNDS: Final = {
    "greater_than": ("gt", "is too small", "more than"),
    "greater_than_equal": ("ge", "is too small", "at least"),
    "less_than": ("lt", "is too large", "less than"),
    "less_than_equal": ("le", "is too large", "at most"),
}
_USER_INFO: Final = re.compile(r"//[^/@\s]*@")
_UNITS: Final = {"_bytes": "bytes", "_s": "seconds", "_h": "hours", "_days": "days"}


@dataclass(slots=True)
class Gathered:
    """Values before validation, and the origin of each.

    Attributes:
        leaves: value and origin by path; no path lies below another one.
    """

    leaves: dict[OptionPath, tuple[object, str]] = field(default_factory=dict)

    def add(self, value: object, origin: str, path: OptionPath = ()) -> None:
        """Set the value at a path; a mapping is merged with the values already there, option by option."""
        if isinstance(value, Mapping) and (value or not path):
            for name, below in value.items():
                self.add(below, origin, (*path, str(name)))
            return
        related = [leaf for leaf in self.leaves if leaf != path and leaf[: len(path)] == path[: len(leaf)]]
        if value == {} and related:
            return  # an empty section changes nothing
        for leaf in related:
            del self.leaves[leaf]
        self.leaves[path] = (value, origin)

    def override_with(self, other: Gathered) -> None:
        """Add all values of other sources, which override these."""
        for path, (value, origin) in other.leaves.items():
            self.add(value, origin, path)

    def nested(self) -> dict[str, Any]:
        """Return the values by section and option."""
        values: dict[str, Any] = {}
        for path, (value, _) in self.leaves.items():
            section = values
            for name in path[:-1]:
                section = section.setdefault(name, {})
            section[path[-1]] = value
        return values

    def value_of(self, *path: str) -> object:
        """Return the value at a path; None if no source sets it."""
        return self.leaves.get(path, (None, ""))[0]

    def origin_of(self, path: OptionPath) -> str:
        """Return where the value at a path, or the values around or below it, came from."""
        origins = [origin for leaf, (_, origin) in self.leaves.items() if leaf[: len(path)] == path[: len(leaf)]]
        return ", ".join(dict.fromkeys(origins)) or DEFAULT

    def problems(self, error: ValidationError) -> Iterator[ConfigurationRefused]:
        """Yield the faults that a validation found, each with its source and option."""
        for fault in error.errors(include_url=False):
            yield self._problem(fault)

    def _problem(self, fault: ErrorDetails) -> ConfigurationRefused:
        path = tuple(part for part in fault["loc"] if isinstance(part, str) and part != "[key]")
        origin = self.origin_of(path[:-1] if fault["type"] == "missing" else path)
        refused = _explained(fault, path, as_json=origin == COMMAND_LINE or origin.startswith(FROM_VARIABLE))
        reason, remedy = refused.reason + _found(path, fault["input"]), refused.remedy
        if fault["type"] == "extra_forbidden":
            variable = origin.removeprefix(FROM_VARIABLE) if origin.startswith(FROM_VARIABLE) and len(path) == 1 else ""
            reason, remedy = "there is no such option", option_meant(path, variable)
        elif fault["type"] == "missing":
            described = field_at(path)
            example = f", e.g. {json.dumps(described.examples[0])}" if described and described.examples else ""
            reason, remedy = "is required but not set", f"set {'.'.join(path)}{example}"
        items = [part for part in fault["loc"] if isinstance(part, int)]
        if items:
            reason = f"item {items[0] + 1}: {reason}"
        if not path:
            path = _option_named(reason)
            origin = self.origin_of(path)
        return ConfigurationRefused(origin, ".".join(path) or "settings", reason, remedy)


def _explained(fault: ErrorDetails, path: OptionPath, *, as_json: bool) -> ValueRefused:
    """Return a fault with what is valid instead.

    Args:
        as_json: lists and sections are JSON in the source.
    """
    context = fault.get("ctx", {})
    if error := context.get("error"):
        return as_refused(error)
    match fault["type"]:
        case "int_parsing" | "int_type" | "int_from_float" | "float_parsing" | "float_type":
            whole = "whole number" if fault["type"].startswith("int") else "number"
            unit = next((unit for suffix, unit in _UNITS.items() if path and path[-1].endswith(suffix)), "")
            return ValueRefused(f"is not a {whole}", f"write the {unit} as a number" if unit else "write digits only")
        case "bool_parsing" | "bool_type":
            return ValueRefused("is neither true nor false", "write true or false")
        case "string_type":
            return ValueRefused("is not text", "put it in quotes")
        case "tuple_type" | "list_type":
            return ValueRefused("is not a list", 'write a list, e.g. ["a", "b"]')
        case "dict_type" | "model_type" | "model_attributes_type":
            section = f"write a section [{'.'.join(path)}]"
            remedy = 'write JSON, e.g. {"name": {"option": "value"}}' if as_json else section
            return ValueRefused("is not a section with options", remedy)
        case "literal_error" | "enum":
            return ValueRefused("is not among the valid values", f"choose from {context['expected']}")
        case ("greater_than" | "greater_than_equal" | "less_than" | "less_than_equal") as bound:
            name, reason, words = _BOUNDS[bound]
            return ValueRefused(reason, f"write {words} {context[name]}")
    return ValueRefused(fault["msg"])


def _option_named(reason: str) -> OptionPath:
    """Return the option with which a reason begins; checks of several sections name theirs so."""
    path = tuple(reason.split(" ", 1)[0].split("."))
    return path if field_at(path) is not None else ()


def as_refused(error: ValueError) -> ValueRefused:
    """Return an error of a library as one of ours, and ours unchanged."""
    return error if isinstance(error, ValueRefused) else ValueRefused(str(error))


def _found(path: OptionPath, value: object) -> str:
    described = field_at(path) if path else None
    hidden = described is None or described.annotation is SecretStr or section_of(path[0] if len(path) == 1 else "")
    shown = value if isinstance(value, str | int | float) and not hidden else ""
    text = _USER_INFO.sub("//********@", str(shown))
    return f", found {text[:_LONGEST_SHOWN]!r}" if text else ""


def all_refused(problems: list[ConfigurationRefused]) -> ConfigurationRefused:
    """Return one error that names all problems."""
    first, *others = problems
    if not others:
        return first
    return SeveralRefused(first.source, first.option, first.told, others=[str(other) for other in others])
