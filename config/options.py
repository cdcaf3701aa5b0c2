"""Options by path: their values, descriptions and environment variables."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Final, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.settings import Settings, StoreSettings
from config.settings.stores import KINDS, SHARED_KINDS

PREFIX: Final = "TRANSSHIP_"
NESTING: Final = "__"
CONFIG_VARIABLE: Final = "TRANSSHIP_CONFIG"
HOME_VARIABLE: Final = "TRANSSHIP_HOME"
GLANCE_OPTION: Final = "glance_config"
BY_ID: Final = ("stores", *(shared.group for shared in SHARED_KINDS), "remotes")
"""Top-level options that map ids to sections."""

OptionPath = tuple[str, ...]


def option_values(settings: Settings) -> dict[OptionPath, object]:
    """Return the value of every option, those of stores, credentials and regions by their ids."""
    sections: dict[OptionPath, object] = {}
    for name in Settings.model_fields:
        if name in BY_ID:
            by_id = settings.configured_stores if name == "stores" else getattr(settings, name)
            sections |= {(name, key): section for key, section in by_id.items()}
        else:
            sections[name,] = getattr(settings, name)
    values: dict[OptionPath, object] = {}
    for path, value in sections.items():
        if isinstance(value, BaseModel):
            values |= {(*path, option): getattr(value, option) for option in type(value).model_fields}
        else:
            values[path] = value
    return values


def variable_of(path: OptionPath) -> str:
    """Return the environment variable of an option."""
    return PREFIX + NESTING.join(path).upper()


def section_by_id(name: str) -> type[BaseModel]:
    """Return the class of the sections in a top-level option that maps ids to sections, except stores."""
    section: type[BaseModel] = get_args(Settings.model_fields[name].annotation)[1]
    return section


def section_of(name: str) -> type[BaseModel] | None:
    """Return the class of a section; None if there is none of that name."""
    annotation = Settings.model_fields[name].annotation if name in Settings.model_fields else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def field_at(path: OptionPath, stores: Mapping[str, StoreSettings] | None = None) -> FieldInfo | None:
    """Return the description of the option at a path; None if there is no such option.

    Args:
        path: of an option.
        stores: stores whose kinds are known; options of other stores are looked up in all built-in kinds.
    """
    models: Sequence[type[BaseModel]] = (Settings,)
    name, *below = path
    if name in BY_ID and below:
        known = (stores or {}).get(below.pop(0))
        kinds = [type(known)] if known else [kind.settings for kind in KINDS.values()]
        models = kinds if name == "stores" else [section_by_id(name)]
    elif below:
        section = section_of(name)
        models = [section] if section else []
    option = below or [name]
    found = [model.model_fields[option[0]] for model in models if option[0] in model.model_fields]
    if len(option) > 1:
        return None
    # An option that is secret in one kind is hidden in all.
    return min(found, key=lambda each: each.annotation is not SecretStr, default=None)


def option_meant(path: OptionPath, variable: str = "") -> str:
    """Return the remedy for an option that does not exist.

    Args:
        variable: environment variable that sets it; empty for other sources.
    """
    options: list[OptionPath] = [
        *((group, "<id>", name) for group in BY_ID if group != "stores" for name in section_by_id(group).model_fields),
        *option_values(Settings.model_validate({"home": "/"})),
        *((name,) for name in Settings.model_fields),
    ]
    if variable:
        meant = difflib.get_close_matches(variable, [*map(variable_of, options), CONFIG_VARIABLE], n=1)
    else:
        known = [".".join(option) for option in options]
        meant = difflib.get_close_matches(".".join(path), known, n=1)
        meant += [option for option in known if option.rpartition(".")[2] == path[-1]]
    return f"did you mean {meant[0]}?" if meant else "see docs/settings.md for all options"
