"""Show the settings: the values in force, a sample file, and the page ``docs/settings.md``.

All three are generated from the descriptions in `config.settings`, so no option can be forgotten.
``python -m config.show`` rewrites the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.loading import LoadedSettings
from config.options import BY_ID, OptionPath, field_at, option_values, section_by_id, section_of, variable_of
from config.policy_pages import POLICY_PAGE_FILE, POLICY_SAMPLE_FILE, policy_page, policy_sample
from config.settings import Settings
from config.settings.stores import DEFAULT_KIND, KINDS

MASK: Final = "********"
SAMPLE_FILE: Final = Path("config/samples/transship.toml")
DOCS_FILE: Final = Path("docs/settings.md")
_USER_INFO: Final = re.compile(r"//[^/@\s]*@")
ONE_OF: Final = "one of "
_TYPE_WORDS: Final = (
    (str, "text"),
    (bool, "true or false"),
    (int, "number"),
    (float, "number"),
    (Path, "path"),
    (SecretStr, "secret text"),
)


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One option, for display.

    Attributes:
        option: dotted name.
        value: value in force as text; secrets are masked.
        origin: where it came from.
        description: one line.
    """

    option: str
    value: str
    origin: str
    description: str


def option_rows(loaded: LoadedSettings) -> tuple[OptionRow, ...]:
    """Return all options in the order of `config.settings`."""
    return tuple(
        OptionRow(
            ".".join(path),
            _shown(value),
            loaded.origins[".".join(path)],
            described.description or "" if (described := field_at(path, loaded.settings.configured_stores)) else "",
        )
        for path, value in option_values(loaded.settings).items()
    )


def sample_toml() -> str:
    """Return a TOML file that holds every option, its description and its default, all commented out."""
    lines = [
        "# Settings of Transship. Every option is listed with its default;",
        "# remove the '# ' before an option to change it.",
        "#",
        "# Read from the file that --config or TRANSSHIP_CONFIG names, else from",
        "# /etc/transship/transship.toml, <home>/transship.toml and <home>/remembered.toml.",
    ]
    for section in _sections():
        lines += ["", *(f"# {line}" for line in section.description)]
        if section.header:
            lines.append(section.header)
        for option in section.options:
            lines += ["", f"# {option.description} ({option.type_text})", f"# {option.name} = {option.literal}"]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Return ``docs/settings.md``."""
    lines = [
        "# Settings",
        "",
        "<!-- Written by `python -m config.show` from config/settings/; do not edit. -->",
        "",
        "Values come from these sources, and later ones override earlier ones: the defaults below; the Glance files in",
        "`glance_config` ([glance-configuration.md](glance-configuration.md)); `/etc/transship/transship.toml`,",
        "`<home>/transship.toml` and `<home>/remembered.toml` (options of earlier `transship up`) if they exist,",
        "or instead of them the file named by `--config` or `TRANSSHIP_CONFIG`; the environment; the command line.",
        "Sources are merged option by option.",
        "`transship config show` prints every value in force and its source, with secrets masked.",
        "",
        "In the environment an option is `TRANSSHIP_<SECTION>__<OPTION>`. Lists are JSON or comma-separated words,",
        "mappings are JSON; `TRANSSHIP_GLANCE_CONFIG` is a colon-separated list of paths. Store ids in the environment",
        "are lower case. An unknown name or an invalid value stops the start with an error that names its source and",
        "what is valid.",
        "",
        "`config/samples/transship.toml` is a file with all options, ready to be edited.",
    ]
    for section in _sections():
        lines += ["", f"## {section.title}", "", *section.description, ""]
        lines += ["| Option | Value | Default | Environment |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{option.name}`<br>{_cell(option.description)} | {_cell(option.type_text)} |"
            f" {_code(option.default)} | `{option.variable}` |"
            for option in section.options
        ]
    return "\n".join(lines) + "\n"


def write_files(root: Path) -> None:
    """Write the sample files and the pages below the repository's root."""
    from config.glance.page import GLANCE_FILE, glance_page  # noqa: PLC0415 (oslo.config is slow to import)

    texts = {
        SAMPLE_FILE: sample_toml(),
        DOCS_FILE: settings_page(),
        GLANCE_FILE: glance_page((root / GLANCE_FILE).read_text(encoding="utf-8")),
        POLICY_SAMPLE_FILE: policy_sample(),
        POLICY_PAGE_FILE: policy_page((root / POLICY_PAGE_FILE).read_text(encoding="utf-8")),
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


_EXAMPLES: Final[Mapping[OptionPath, str]] = {
    ("api", "policy_file"): "/etc/transship/policy.yaml",
    ("api", "property_protection_file"): "/etc/transship/property-protections.conf",
    ("auth", "ca_file"): "/etc/transship/keystone-authority.pem",
    ("download", "ca_file"): "/etc/transship/authorities.pem",
    ("download", "proxy_ca_file"): "/etc/transship/proxy-authority.pem",
    ("host_name",): "node-1",
    ("remotes", "<id>", "ca_file"): "/etc/transship/keystone-authority.pem",
    ("remotes", "<id>", "url"): "https://images.region-two.example.org",
    ("staging", "dir"): "/srv/transship/staging",
}
"""What the sample shows for options whose default is not a constant."""


_BY_NAME: Final = (
    ("s3_credentials", "name", "radosgw", "One section per pair of keys, with a name of your choice."),
    ("remotes", "region", "RegionTwo", "One section per region, named after the region."),
)
"""Groups of sections; what their names are called, an example of one, and how many there are."""


# --- values ------------------------------------------------------------------------------------


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if value is None:
        return "(unset)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(_shown(each) for each in value) or "(none)"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_shown(each)}" for name, each in value.items()) or "(none)"
    return _USER_INFO.sub(f"//{MASK}@", str(value))


# --- descriptions ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Option:
    name: str
    description: str
    type_text: str
    default: str
    literal: str
    variable: str


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    header: str
    description: tuple[str, ...]
    options: tuple[_Option, ...]


def _sections() -> Iterator[_Section]:
    plain = {
        name: each for name, each in Settings.model_fields.items() if name not in BY_ID and section_of(name) is None
    }
    yield _Section(
        "Top level",
        "",
        ("Options before the first section of the file.",),
        tuple(_option(each, (name,)) for name, each in plain.items()),
    )
    for name in Settings.model_fields:
        if section := section_of(name):
            options = tuple(_option(field, (name, key)) for key, field in section.model_fields.items())
            yield _Section(name, f"[{name}]", _doc(section), options)
    for kind in KINDS.values():
        options = tuple(_option(field, ("stores", "<id>", key)) for key, field in kind.settings.model_fields.items())
        stores = Settings.model_fields["stores"].description or ""
        yield _Section(
            f"stores.&lt;id&gt; of type {kind.name}",
            f"# [stores.{'local' if kind.name == DEFAULT_KIND else kind.name}]",
            (*_doc(kind.settings), stores, "One section per store, named after its id."),
            options,
        )
    for group, id_, example, sentence in _BY_NAME:
        section = section_by_id(group)
        options = tuple(_option(each, (group, "<id>", key)) for key, each in section.model_fields.items())
        description = Settings.model_fields[group].description or ""
        yield _Section(
            f"{group}.&lt;{id_}&gt;",
            f"# [{group}.{example}]",
            (*_doc(section), description, sentence),
            options,
        )


def _doc(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(line.strip() for line in (model.__doc__ or "").strip().splitlines() if line.strip())


def _option(field: FieldInfo, path: OptionPath) -> _Option:
    default = _default_text(field, path)
    example = next(iter(field.examples or ()), _EXAMPLES.get(path, ""))
    literal = json.dumps(example) if default.startswith("(") else default
    variable = variable_of((path[0], "<id>", path[-1])) if len(path) == 3 else variable_of(path)
    return _Option(path[-1], field.description or "", _type_text(field), default, literal, variable)


def _default_text(field: FieldInfo, path: OptionPath) -> str:
    if field.is_required():
        return "(required)"
    if field.default_factory is not None:
        return "(name of this machine)" if path == ("host_name",) else "(computed)"
    if field.default is None:
        return "(unset)"
    return toml_value(field.default)


def toml_value(value: object) -> str:
    """Return a value as it is written in a TOML file; a secret in the clear."""
    if isinstance(value, SecretStr):
        return json.dumps(value.get_secret_value())
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml_value(each) for each in value)}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(name)} = {toml_value(each)}" for name, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(str(value))


def _type_text(field: FieldInfo) -> str:
    return _annotation_text(field.annotation) + _bounds_text(field)


def _annotation_text(annotation: object) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ONE_OF + ", ".join(f"'{each}'" for each in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ONE_OF + ", ".join(f"'{each.value}'" for each in annotation)
    if origin is tuple:
        return f"list of {_annotation_text(arguments[0]).removeprefix(ONE_OF)}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {_annotation_text(arguments[0])} to {_annotation_text(arguments[1])}"
    if arguments:  # X | None, or Annotated
        return _annotation_text(arguments[0])
    return next((text for kind, text in _TYPE_WORDS if annotation is kind), "name")


def _bounds_text(field: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    found = [
        f"{words[name]} {getattr(bound, name)}" for bound in field.metadata for name in words if hasattr(bound, name)
    ]
    return f", {', '.join(found)}" if found else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    return text if text.startswith("(") else f"`{text}`"


if __name__ == "__main__":
    write_files(Path(__file__).resolve().parent.parent)
