"""The configuration that the documentation of Glance's interoperable image import prints, loaded as printed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from config.loading import LoadedSettings, load_settings
from config.notes import NoteKind
from transship.domain.errors import ConfigurationRefused

DOCUMENT = Path(__file__).parents[1] / "data" / "interoperable-image-import.rst"
BLOCK = re.compile(r"^(?P<indent> *)\.\. code-block:: ini\n\n(?P<text>(?:(?P=indent) +.*\n|\n)+)", re.MULTILINE)


def ini_blocks() -> tuple[str, ...]:
    return tuple(textwrap.dedent(found["text"]).strip() + "\n" for found in BLOCK.finditer(DOCUMENT.read_text()))


BLOCKS = ini_blocks()
QUOTED = {"property1": "value1", "property2": "value2"}

EXPECTED: tuple[tuple[str, Mapping[str, object], tuple[str, ...]], ...] = (
    (
        "node_staging_uri = file:///var/lib/glance/staging",
        {"staging.dir": "/var/lib/glance/staging"},
        (
            "the section is called [DEFAULT]; Glance ignores [DEFAULTS] silently",
            "no running Glance may share this directory",
        ),
    ),
    (
        "[os_glance_staging_store]",
        {"staging.dir": "/var/lib/glance/staging"},
        ("no running Glance may share this directory",),
    ),
    (
        "worker_self_reference_url",
        {},
        (
            "the section is called [DEFAULT]; Glance ignores [DEFAULTS] silently",
            "any API process handles any request; hosts that share staging must have the same host_name",
        ),
    ),
    (
        "image_import_plugins = [inject_image_metadata]",
        {
            "imports.plugins": ("inject_image_metadata",),
            "inject.ignore_user_roles": ("admin",),
            "inject.properties": QUOTED,
        },
        ("'...' was ignored", "'...' was ignored"),
    ),
    ("[property1]", {}, ()),
    (
        "image_import_plugins = ['image_conversion']",
        {"imports.plugins": ("image_conversion",), "conversion.output_format": "raw"},
        (),
    ),
    (
        "image_import_plugins = ['inject_image_metadata', 'image_conversion']",
        {
            "imports.plugins": ("inject_image_metadata", "image_conversion"),
            "inject.ignore_user_roles": ("admin",),
            "inject.properties": QUOTED,
            "conversion.output_format": "raw",
        },
        ("'...' was ignored", "quotes were removed", "'...' was ignored"),
    ),
    (
        "image_import_plugins = ['image_decompression']",
        {"imports.plugins": ("image_decompression",)},
        (),
    ),
    (
        "image_import_plugins = ['image_decompression', 'image_conversion']",
        {"imports.plugins": ("image_decompression", "image_conversion"), "conversion.output_format": "raw"},
        (),
    ),
)
"""By a line that a block has: the settings that come from it, and the beginnings of its notes."""


def load(folder: Path, text: str) -> LoadedSettings:
    path = folder / "glance-image-import.conf"
    path.write_text(text)
    environ = {"TRANSSHIP_HOME": str(folder), "TRANSSHIP_GLANCE_CONFIG": str(path)}
    return load_settings(environ=environ, system_file=folder / "absent.toml")


def taken(loaded: LoadedSettings) -> dict[str, object]:
    found: dict[str, object] = {}
    for option, origin in loaded.origins.items():
        if "glance-image-import.conf:" in origin:
            value: object = loaded.settings
            for name in option.split("."):
                value = getattr(value, name)
            found[option] = str(value) if isinstance(value, Path) else value
    return found


def test_every_block_of_the_document_is_looked_at() -> None:
    lines = [line for line, _, _ in EXPECTED]
    policies = [block for block in BLOCKS if block.startswith('"')]
    matched = [[line for line in lines if f"{line}\n" in block or f"{line} =" in block] for block in BLOCKS]
    assert [len(each) for each in matched if each] == [1] * len(EXPECTED)
    assert len(BLOCKS) == len(EXPECTED) + len(policies)
    assert len(policies) == 1


@pytest.mark.parametrize(("line", "settings", "notes"), EXPECTED, ids=[line for line, _, _ in EXPECTED])
def test_a_block_loads_as_printed(
    line: str, settings: Mapping[str, object], notes: tuple[str, ...], tmp_path: Path
) -> None:
    (block,) = (block for block in BLOCKS if f"{line}\n" in block or f"{line} =" in block)
    loaded = load(tmp_path, block)
    assert taken(loaded) == settings
    texts = sorted(note.text for note in loaded.notes if note.kind is not NoteKind.UNKNOWN)
    assert [text[: len(start)] for text, start in zip(texts, sorted(notes), strict=True)] == sorted(notes)


def test_the_policies_of_the_document_belong_in_another_file(tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if block.startswith('"'))
    with pytest.raises(ConfigurationRefused, match="belong in a policy file") as refused:
        load(tmp_path, block)
    assert refused.value.source.endswith("glance-image-import.conf")


def test_all_blocks_together_load_too(tmp_path: Path) -> None:
    blocks = [block for block in BLOCKS if not block.startswith('"')]
    loaded = load(tmp_path, "\n".join(blocks))
    assert loaded.settings.imports.plugins == ("image_decompression", "image_conversion")
    assert loaded.settings.inject.properties == QUOTED
    assert str(loaded.settings.staging.dir) == "/var/lib/glance/staging"
