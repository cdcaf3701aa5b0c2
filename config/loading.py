"""Gather the settings from their sources: defaults, Glance's files, ours, environment, command line; later ones win.

The readers are those of pydantic-settings; what this module adds is where each value came from, and
errors that name the source, the option and the remedy. All problems are told at once.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from config.notes import Note, NoteKind
from config.settings import LOOPBACK_HOSTS, AbsolutePath, Settings, StoreSettings
from config.settings.stores import KINDS
from transship.domain.errors import ConfigurationRefused, SeveralRefused

if TYPE_CHECKING:
    from config.glance.files import GlanceSettings, GlanceValue

PREFIX: Final = "TRANSSHIP_"
NESTING: Final = "__"
CONFIG_VARIABLE: Final = "TRANSSHIP_CONFIG"
HOME_VARIABLE: Final = "TRANSSHIP_HOME"
SNAPSHOT_VARIABLE: Final = "TRANSSHIP_SETTINGS_SNAPSHOT"
"""Names the snapshot that a process was handed (`config.snapshot`); no source of settings."""
GLANCE_OPTION: Final = "glance_config"
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
            every option has one. A value from a file of Glance has ``path:section.option``.
        files: files that were read, the one that wins last.
        notes: what is not right about the sources although they could be used.
        texts: contents of the Glance files and of the policy file. A process needs more of them than the options that
            became settings, also when it starts after they were edited.
    """

    settings: Settings
    origins: Mapping[str, str]
    files: tuple[Path, ...] = ()
    notes: tuple[Note, ...] = ()
    texts: Mapping[Path, str] = field(default_factory=dict)


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
            words between commas (``TRANSSHIP_GLANCE_CONFIG``: paths between colons), mappings are JSON.
        overrides: dotted options of the command line; text is read like that of the environment.
        system_file: the file of the machine.

    Raises:
        ConfigurationRefused: a file cannot be read, or a setting cannot be used; `SeveralRefused` if
            there is more than one. No secret is in the text.
    """
    variables = {name: text for name, text in environ.items() if name.startswith(PREFIX) and name != SNAPSHOT_VARIABLE}
    for name in (CONFIG_VARIABLE, HOME_VARIABLE):
        if not variables.get(name):
            variables.pop(name, None)
    overrides = overrides or {}
    files = _files(file, variables, overrides, system_file)
    unknown = _unknown_variables(variables)
    layers = [_Layer(_read_file(path), str(path)) for path in files]
    layers.append(_Layer(_read_environment(variables), "environment", variables))
    layers += [
        _Layer(_nested(tuple(option.split(".")), _from_text(option, value)), COMMAND_LINE)
        for option, value in overrides.items()
    ]
    gathered = _gathered(layers)
    glance = _glance_settings(gathered)
    notes: tuple[Note, ...] = ()
    named: tuple[Path, ...] = ()
    if glance is not None:
        if glance.refused:
            raise _all_refused([*unknown, *glance.refused])
        values, notes = _without_open_address(glance.values, gathered)
        gathered = _gathered([*(_Layer(_nested(each.path, each.value), each.origin) for each in values), *layers])
        notes = (*glance.notes, *notes, *_notes_in_force(values, gathered))
        named = glance.files
        files = (*named, *files)
    try:
        settings = Settings.model_validate(gathered.values)
    except ValidationError as error:
        raise _all_refused([*unknown, *_problems(error, gathered)]) from error
    if unknown:
        raise _all_refused(unknown)
    origins = {".".join(path): gathered.origin_of(path) for path in option_paths(settings)}
    policy = settings.api.policy_file
    return LoadedSettings(settings, origins, files, notes, _texts((*named, *([policy] if policy else []))))


def home_named(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Path:
    """Return the home directory that the sources name, also while something else in them cannot be used.

    Args:
        file, environ, overrides, system_file: as `load_settings`.
    """
    home = (overrides or {}).get("home") or environ.get(HOME_VARIABLE)
    if not home:
        with suppress(ConfigurationRefused):
            for path in reversed(_files(file, environ, overrides or {}, system_file)):
                with suppress(ConfigurationRefused):
                    home = home or _read_file(path).get("home")
    path = Path(str(home or Settings.model_fields["home"].default))
    with suppress(RuntimeError):
        path = path.expanduser()
    return path.absolute()


def option_paths(settings: Settings) -> Iterator[OptionPath]:
    """Yield the path of every option, those of the stores by their ids."""
    yield from _paths_of(settings, ())


def _paths_of(model: BaseModel, above: OptionPath) -> Iterator[OptionPath]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(model, Settings) and name == "stores":
            for store_id, store in model.all_stores.items():
                yield from _paths_of(store, (*above, name, store_id))
        elif isinstance(model, Settings) and name == "remotes":
            for region, remote in model.remotes.items():
                yield from _paths_of(remote, (*above, name, region))
        elif isinstance(value, BaseModel):
            yield from _paths_of(value, (*above, name))
        else:
            yield (*above, name)


def value_at(settings: Settings, path: OptionPath) -> object:
    """Return the value in force of an option of `option_paths`."""
    value: object = settings
    rest = path
    if path[0] == "stores":
        value, rest = settings.all_stores[path[1]], path[2:]
    elif path[0] == "remotes":
        value, rest = settings.remotes[path[1]], path[2:]
    for name in rest:
        value = getattr(value, name)
    return value


def variable_of(path: OptionPath) -> str:
    """Return the environment variable of an option."""
    return PREFIX + NESTING.join(path).upper()


# --- Glance ------------------------------------------------------------------------------------


def _glance_settings(gathered: _Gathered) -> GlanceSettings | None:
    """Read the files of a Glance that the other sources name; None if they name none."""
    try:
        named = TypeAdapter(tuple[AbsolutePath, ...]).validate_python(gathered.values.get(GLANCE_OPTION, ()))
    except ValidationError:
        return None  # the validation of all settings says what is wrong about it
    if not named:
        return None
    # oslo.config costs a third of a second, which those without such files need not pay.
    from config.glance.files import read_glance_settings  # noqa: PLC0415

    return read_glance_settings(named, gathered.origin_of((GLANCE_OPTION,)))


def _without_open_address(
    values: Sequence[GlanceValue], others: _Gathered
) -> tuple[tuple[GlanceValue, ...], tuple[Note, ...]]:
    """Leave out an address that would let everybody in; a Glance that asks who calls has one as a rule."""
    api = others.values.get("api", {})
    if not isinstance(api, Mapping) or "host" in api:
        return tuple(values), ()  # the address is another source's
    of_glance = {each.path: each.value for each in values}
    asks_who = api.get("auth", of_glance.get(("api", "auth"), "none")) != "none"
    accepted = asks_who or _is_true(api.get("accept_anyone", False))
    kept: list[GlanceValue] = []
    notes: list[Note] = []
    for each in values:
        if each.path == ("api", "host") and not accepted and each.value not in LOOPBACK_HOSTS:
            text = (
                f"{each.value} is not used: without an identity service everybody who reaches it is admin;"
                " set api.host and api.accept_anyone = true if that is meant"
            )
            notes.append(Note(NoteKind.WARNING, each.origin, text))
        else:
            kept.append(each)
    return tuple(kept), tuple(notes)


def _notes_in_force(values: Sequence[GlanceValue], gathered: _Gathered) -> Iterator[Note]:
    for each in values:
        if each.warning and gathered.origin_of(each.path) == each.origin:
            yield Note(NoteKind.WARNING, each.origin, each.warning)


def _is_true(value: object) -> bool:
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False


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
        return _decoded(value, os.pathsep if field_name == GLANCE_OPTION else ",") if isinstance(value, str) else value


def _decoded(text: str, separator: str = ",") -> object:
    text = text.strip()
    if not text.startswith(("[", "{")):
        return [word for part in text.split(separator) if (word := part.strip())]
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
    return tuple(path for path in (system_file, home_file) if _is_file(path))


def _existing(path: Path, source: str) -> Path:
    path = path.absolute()
    if not _is_file(path):
        raise ConfigurationRefused(source, "configuration file", f"{path} is not a file; name one that exists")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise ConfigurationRefused(str(path), "file", f"cannot be read: {error.strerror}") from error


def _read_file(path: Path) -> Values:
    try:
        return dict(TomlConfigSettingsSource(_FromOutside, toml_file=path).toml_data)
    except OSError as error:
        raise ConfigurationRefused(str(path), "file", f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationRefused(str(path), "file", f"is not TOML: {error}") from error


def _texts(files: Sequence[Path]) -> dict[Path, str]:
    texts = {}
    for path in files:
        # Whoever reads the file for what it says names what is wrong with it.
        with suppress(OSError):
            texts[path] = path.read_text(encoding="utf-8", errors="replace")
    return texts


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
    if found is None or not _is_list_or_mapping(found):
        return value
    return _decoded(value, os.pathsep if option == GLANCE_OPTION else ",")


def field_at(path: OptionPath, stores: Mapping[str, StoreSettings] | None = None) -> FieldInfo | None:
    """Return the description of the option at a path; None if there is no such option.

    Args:
        path: of an option.
        stores: those whose kinds are known; an option of another one is looked for in all kinds that come with us.
    """
    models: Sequence[type[BaseModel]] = (Settings,)
    rest = list(path)
    while rest:
        name = rest.pop(0)
        found = [model.model_fields[name] for model in models if name in model.model_fields]
        if not found or not rest:
            # Where kinds differ about an option, what one of them hides stays hidden.
            return min(found, key=lambda each: each.annotation is not SecretStr, default=None)
        models = _models_in(found[0].annotation)
        if models and models[0] is not found[0].annotation:
            key = rest.pop(0)  # of a mapping: a store id
            if models[0] is StoreSettings:
                known = (stores or {}).get(key)
                models = (type(known),) if known else tuple(kind.settings for kind in KINDS.values())
    return None


def _models_in(annotation: object) -> tuple[type[BaseModel], ...]:
    """Return the model that an annotation is, or that it is a mapping to or an alternative of."""
    if get_origin(annotation) is Annotated:
        return _models_in(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for each in get_args(annotation) for model in _models_in(each))


def _is_list_or_mapping(found: FieldInfo) -> bool:
    return isinstance(found.get_default(call_default_factory=True), tuple | Mapping)


def _nested(path: OptionPath, value: object) -> Values:
    nested: object = value
    for name in reversed(path):
        nested = {name: nested}
    return nested if isinstance(nested, dict) else {}


# --- merging -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one source says.

    Attributes:
        values: by section and option.
        origin: of all of them; not looked at where there are ``variables``.
        variables: the environment that they come from; each value's origin is its own variable.
    """

    values: Values
    origin: str
    variables: Mapping[str, str] | None = None


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


def _gathered(layers: Sequence[_Layer]) -> _Gathered:
    """Lay the sources over each other, later ones winning."""
    gathered = _Gathered()
    for layer in layers:
        if layer.variables is None:
            gathered.add(layer.values, layer.origin)
        else:
            gathered.add_environment(layer.values, layer.variables)
    return gathered


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
