"""Gather the settings from their sources, later ones winning: defaults, files, environment, command line.

The readers are those of pydantic-settings; what this module adds is where each value came from, and
errors that name the source, the option and the remedy. All problems are told at once.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from config.settings import Settings
from transship.domain.errors import ConfigurationRefused, SeveralRefused

PREFIX: Final = "TRANSSHIP_"
NESTING: Final = "__"
CONFIG_VARIABLE: Final = "TRANSSHIP_CONFIG"
HOME_VARIABLE: Final = "TRANSSHIP_HOME"
FILE_NAME: Final = "transship.toml"
SYSTEM_FILE: Final = Path("/etc/transship") / FILE_NAME
DEFAULT: Final = "default"
COMMAND_LINE: Final = "command line"

OptionPath = tuple[str, ...]
Values = dict[str, Any]  # what readers give before validation has any type


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Valid settings, and where they came from.

    Attributes:
        settings: all settings.
        origins: dotted option to ``default``, a file's path, ``environment TRANSSHIP_…`` or ``command line``;
            every option has one.
        files: files that were read, the one that wins last.
    """

    settings: Settings
    origins: Mapping[str, str]
    files: tuple[Path, ...] = ()


def load_settings(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> LoadedSettings:
    """Return the settings in force.

    Args:
        file: TOML file asked for on the command line; must exist. Without it, the one that
            ``TRANSSHIP_CONFIG`` names, which must exist too; else ``/etc/transship/transship.toml`` and
            ``<home>/transship.toml``, each if it exists, the latter winning.
        environ: environment variables; ``TRANSSHIP_API__PORT`` is ``api.port``. Lists are JSON or
            words between commas, mappings are JSON.
        overrides: dotted options of the command line; text is read like that of the environment.
        system_file: the file of the machine.

    Raises:
        ConfigurationRefused: a file cannot be read, or a setting cannot be used; `SeveralRefused` if
            there is more than one. No secret is in the text.
    """
    variables = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
    for name in (CONFIG_VARIABLE, HOME_VARIABLE):
        if not variables.get(name):
            variables.pop(name, None)
    overrides = overrides or {}
    files = _files(file, variables, overrides, system_file)
    gathered = _Gathered()
    for path in files:
        gathered.add(_read_file(path), str(path))
    unknown = _unknown_variables(variables)
    gathered.add_environment(_read_environment(variables), variables)
    for option, value in overrides.items():
        gathered.add(_nested(option, _from_text(option, value)), COMMAND_LINE)
    try:
        settings = Settings.model_validate(gathered.values)
    except ValidationError as error:
        raise _all_refused([*unknown, *_problems(error, gathered)]) from error
    if unknown:
        raise _all_refused(unknown)
    origins = {".".join(path): gathered.origin_of(path) for path in option_paths(settings)}
    return LoadedSettings(settings, origins, files)


def option_paths(settings: Settings) -> Iterator[OptionPath]:
    """Yield the path of every option, those of the stores by their ids."""
    yield from _paths_of(settings, ())


def _paths_of(model: BaseModel, above: OptionPath) -> Iterator[OptionPath]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(model, Settings) and name == "stores":
            for store_id, store in model.all_stores.items():
                yield from _paths_of(store, (*above, name, store_id))
        elif isinstance(value, BaseModel):
            yield from _paths_of(value, (*above, name))
        else:
            yield (*above, name)


def variable_of(path: OptionPath) -> str:
    """Return the environment variable of an option."""
    return PREFIX + NESTING.join(path).upper()


# --- reading -----------------------------------------------------------------------------------


class _FromOutside(Settings, BaseSettings):
    """The settings in the form that the readers of pydantic-settings ask for; never made."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=NESTING)


class _Environment(EnvSettingsSource):
    """Reads given variables instead of the process's, and lists without JSON too."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(_FromOutside)
        self.env_vars = {name.lower(): text for name, text in variables.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode the text of a list or mapping; what cannot be decoded is left to validation."""
        return _decoded(value) if isinstance(value, str) else value


def _decoded(text: str) -> object:
    text = text.strip()
    if not text.startswith(("[", "{")):
        return [word for part in text.split(",") if (word := part.strip())]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _files(
    file: Path | None, variables: Mapping[str, str], overrides: Mapping[str, object], system_file: Path
) -> tuple[Path, ...]:
    if file is not None:
        return (_existing(file, COMMAND_LINE),)
    if CONFIG_VARIABLE in variables:
        return (_existing(Path(variables[CONFIG_VARIABLE]), f"environment {CONFIG_VARIABLE}"),)
    home = Path(str(overrides.get("home") or variables.get(HOME_VARIABLE) or Settings.model_fields["home"].default))
    try:
        home_file = home.expanduser().absolute() / FILE_NAME
    except RuntimeError:
        return ()
    return tuple(path for path in (system_file, home_file) if path.is_file())


def _existing(path: Path, source: str) -> Path:
    path = path.absolute()
    if not path.is_file():
        raise ConfigurationRefused(source, "configuration file", f"{path} is not a file; name one that exists")
    return path


def _read_file(path: Path) -> Values:
    try:
        return dict(TomlConfigSettingsSource(_FromOutside, toml_file=path).toml_data)
    except OSError as error:
        raise ConfigurationRefused(str(path), "file", f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationRefused(str(path), "file", f"is not TOML: {error}") from error


def _read_environment(variables: Mapping[str, str]) -> Values:
    return dict(
        _Environment(
            {name: text or _nothing_for(name) for name, text in variables.items() if name != CONFIG_VARIABLE}
        )()
    )


def _nothing_for(variable: str) -> str:
    """Return the JSON of an empty list or mapping; pydantic-settings takes no empty text for one."""
    described = field_at(tuple(variable.removeprefix(PREFIX).lower().split(NESTING)))
    if described is None or not _is_list_or_mapping(described):
        return ""
    return "[]" if isinstance(described.default, tuple) else "{}"


def _unknown_variables(variables: Mapping[str, str]) -> list[ConfigurationRefused]:
    """Return the variables whose first word is no option; validation finds those that go wrong further on."""
    known = [variable_of(path) for path in option_paths(_defaults())] + [CONFIG_VARIABLE]
    problems = []
    for name in sorted(set(variables) - {CONFIG_VARIABLE}):
        option = name.removeprefix(PREFIX).lower().split(NESTING)
        if option[0] in Settings.model_fields:
            continue
        close = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {close[0]}?" if close else "; see docs/settings.md for all names"
        problems.append(
            ConfigurationRefused(f"environment {name}", ".".join(option), f"there is no such option{meant}")
        )
    return problems


def _defaults() -> Settings:
    return Settings.model_validate({"home": "/"})


def _from_text(option: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    found = field_at(tuple(option.split(".")))
    return _decoded(value) if found is not None and _is_list_or_mapping(found) else value


def field_at(path: OptionPath) -> FieldInfo | None:
    """Return the description of the option at a path; None if there is no such option."""
    model: type[BaseModel] = Settings
    rest = list(path)
    while rest:
        found = model.model_fields.get(rest.pop(0))
        if found is None or not rest:
            return found
        models = [each for each in (found.annotation, *get_args(found.annotation)) if _is_model(each)]
        if not models:
            return None
        if found.annotation is not models[0]:
            rest.pop(0)  # the key of a mapping: a store id
        model = models[0]
    return None


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_list_or_mapping(found: FieldInfo) -> bool:
    return isinstance(found.get_default(call_default_factory=True), tuple | Mapping)


def _nested(option: str, value: object) -> Values:
    nested: object = value
    for name in reversed(option.split(".")):
        nested = {name: nested}
    return nested if isinstance(nested, dict) else {}


# --- merging -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Gathered:
    """Values of all sources so far, and the origin of each leaf."""

    values: Values = field(default_factory=dict)
    origins: dict[OptionPath, str] = field(default_factory=dict)

    def add(self, values: Values, origin: str) -> None:
        """Lay the values of one source over those before."""
        for path, _ in _leaves(values):
            self._set_origin(path, origin)
        _merge(self.values, values)

    def add_environment(self, values: Values, variables: Mapping[str, str]) -> None:
        """Lay the environment's values over those before; each leaf's origin is its own variable."""
        names = {name.upper(): name for name in variables}
        for path, _ in _leaves(values):
            candidates = (variable_of(path[:length]) for length in range(len(path), 0, -1))
            self._set_origin(path, "environment " + next((names[each] for each in candidates if each in names), ""))
        _merge(self.values, values)

    def origin_of(self, path: OptionPath) -> str:
        """Return where the value at a path, or the values below it, came from."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        below = [origin for leaf, origin in self.origins.items() if leaf[: len(path)] == path]
        return ", ".join(dict.fromkeys(below)) or DEFAULT

    def _set_origin(self, path: OptionPath, origin: str) -> None:
        for leaf in [each for each in self.origins if each == path[: len(each)] or path == each[: len(path)]]:
            del self.origins[leaf]
        self.origins[path] = origin


def _leaves(values: Mapping[str, Any], above: OptionPath = ()) -> Iterator[tuple[OptionPath, object]]:
    for name, value in values.items():
        path = (*above, str(name))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _merge(into: Values, new: Mapping[str, Any]) -> None:
    for name, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = _copied(value)


def _copied(value: object) -> object:
    return {name: _copied(each) for name, each in value.items()} if isinstance(value, Mapping) else value


# --- refusing ----------------------------------------------------------------------------------


def _problems(error: ValidationError, gathered: _Gathered) -> list[ConfigurationRefused]:
    return [_problem(dict(each), gathered) for each in error.errors(include_url=False, include_context=False)]


def _problem(described: Mapping[str, Any], gathered: _Gathered) -> ConfigurationRefused:
    path = tuple(part for part in described["loc"] if isinstance(part, str) and part != "[key]")
    items = [part for part in described["loc"] if isinstance(part, int)]
    kind, message = described["type"], str(described["msg"])
    if kind == "extra_forbidden":
        reason = f"there is no such option{_did_you_mean(path)}"
    elif kind == "missing":
        reason = "is needed and not set"
    else:
        reason = message.removeprefix("Value error, ") + _found(path, described["input"])
    if items:
        reason = f"item {items[0] + 1}: {reason}"
    path = path or _option_named(reason)
    origin = gathered.origin_of(path[:-1] if kind == "missing" else path)
    return ConfigurationRefused(origin, ".".join(path) or "settings", reason)


def _option_named(reason: str) -> OptionPath:
    """Return the option that a check across sections begins its reason with."""
    path = tuple(reason.split(" ", 1)[0].split("."))
    return path if field_at(path) is not None else ()


def _did_you_mean(path: OptionPath) -> str:
    known = [".".join(each) for each in option_paths(_defaults())] + list(Settings.model_fields)
    close = difflib.get_close_matches(".".join(path), known, n=1)
    if not close:
        same_name = [option for option in known if option.rpartition(".")[2] == path[-1]]
        close = same_name[:1]
    return f"; did you mean {close[0]}?" if close else "; see docs/settings.md for all options"


def _found(path: OptionPath, value: object) -> str:
    described = field_at(path)
    if described is None or described.annotation is SecretStr or not isinstance(value, str | int | float):
        return ""
    return f", found {str(value)[:80]!r}"


def _all_refused(problems: list[ConfigurationRefused]) -> ConfigurationRefused:
    first, *others = problems
    if not others:
        return first
    return SeveralRefused(first.source, first.option, first.reason, tuple(str(other) for other in others))
