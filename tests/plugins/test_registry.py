"""Finding the plugins that the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.plugin_workspace import settings_with
from transship.domain.errors import ConfigurationRefused
from transship.plugins.registry import known_plugins, load_plugins

ALL = ("no_op", "inject_image_metadata", "image_decompression", "image_conversion")


def load(folder: Path, *names: str) -> tuple[str, ...]:
    return tuple(plugin.name for plugin in load_plugins(settings_with(folder, imports={"plugins": names})))


def install(folder: Path, module: str, source: str, entry_points: str) -> None:
    """Put a distribution with plugins into a directory that stands on ``sys.path``."""
    (folder / f"{module}.py").write_text(source)
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[transship.import_plugins]\n{entry_points}\n")


PLUGIN_SOURCE = """
class Plugin:
    name, label = "site_plugin", "site"
    def check(self, settings): pass
    def run(self, work): pass
PLUGIN = Plugin()
NOT_ONE = object()
"""


def test_all_built_in_plugins_are_known() -> None:
    assert set(ALL) <= set(known_plugins())


@pytest.mark.parametrize("names", [(), ALL, ("image_decompression", "image_conversion", "inject_image_metadata")])
def test_plugins_come_in_their_configured_order(names: tuple[str, ...], tmp_path: Path) -> None:
    assert load(tmp_path, *names) == names


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("image_decompresion",), "no import plugin is called image_decompresion; known are: image_conversion"),
        (("no_op", "no_op"), "names no_op more than once"),
        (("image_conversion", "image_decompression"), "image_conversion before image_decompression"),
        (("image_conversion", "no_op", "image_decompression"), "image_conversion before image_decompression"),
    ],
)
def test_a_list_that_cannot_be_used_stops_the_start(names: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match=reason) as refused:
        load(tmp_path, *names)
    assert refused.value.option == "imports.plugins"


def test_a_plugin_that_refuses_the_settings_stops_the_start(tmp_path: Path) -> None:
    settings = settings_with(
        tmp_path, imports={"plugins": ["image_conversion"]}, conversion={"qemu_img": "qemu-img-of-nobody"}
    )
    with pytest.raises(ConfigurationRefused, match="qemu-img-of-nobody"):
        load_plugins(settings)


def test_a_plugin_of_another_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "site_good", PLUGIN_SOURCE, "site_plugin = site_good:PLUGIN")
    monkeypatch.syspath_prepend(tmp_path)
    assert load(tmp_path, "site_plugin") == ("site_plugin",)


@pytest.mark.parametrize(
    ("module", "entry", "name", "reason"),
    [
        ("site_gone", "gone = site_absent:PLUGIN", "gone", "plugin gone cannot be loaded"),
        ("site_nothing", "nothing = site_nothing:ABSENT", "nothing", "plugin nothing cannot be loaded"),
        ("site_object", "object = site_object:NOT_ONE", "object", "plugin object has no name, label, check, run"),
        ("site_other", "other = site_other:PLUGIN", "other", "plugin other calls itself site_plugin"),
        ("site_again", "no_op = site_again:PLUGIN", "no_op", "several installed packages have a plugin no_op"),
    ],
)
def test_a_broken_plugin_stops_the_start_by_name(
    module: str, entry: str, name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, module, PLUGIN_SOURCE, entry)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationRefused, match=reason):
        load(tmp_path, name)
