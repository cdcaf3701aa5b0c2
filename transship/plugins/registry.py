"""Loads the import plugins named in the settings, in their order, or refuses to start."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from config.settings import Settings
from transship.domain.errors import ConfigurationRefused
from transship.plugins.base import ImportPlugin

GROUP: Final = "transship.import_plugins"
OPTION: Final = "imports.plugins"
_MEMBERS: Final = ("name", "label", "check", "run")


def load_plugins(settings: Settings) -> tuple[ImportPlugin, ...]:
    """Return the plugins of ``imports.plugins`` in their order, after they have checked the settings.

    Raises:
        ConfigurationRefused: a name is unknown or listed twice, a plugin cannot be loaded, conversion
            is listed before decompression, or a plugin refuses the settings.
    """
    names = settings.imports.plugins
    if not names:
        return ()
    _refuse_bad_order(names)
    available = _entry_points(tuple(sys.path))
    plugins = tuple(_load(name, available) for name in names)
    for plugin in plugins:
        plugin.check(settings)
    return plugins


def known_plugins() -> tuple[str, ...]:
    """Return the names of all installed plugins, sorted."""
    return tuple(sorted(_entry_points(tuple(sys.path))))


@lru_cache(maxsize=4)
def _entry_points(path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    """Return the plugins installed on a module path, by name; scanning it takes 25 ms."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        same_name = found.setdefault(point.name, [])
        if point.value not in [other.value for other in same_name]:
            same_name.append(point)
    return found


def _refuse_bad_order(names: tuple[str, ...]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _refused(f"names {', '.join(twice)} more than once", "each plugin runs once")
    if {"image_conversion", "image_decompression"} <= set(names) and names.index("image_conversion") < names.index(
        "image_decompression"
    ):
        raise _refused("names image_conversion before image_decompression", "compressed images must be unpacked first")


def _load(name: str, available: dict[str, list[EntryPoint]]) -> ImportPlugin:
    points = available.get(name, [])
    if not points:
        known = ", ".join(sorted(available)) or "none is installed"
        raise _refused(f"no import plugin is called {name}", f"known are: {known}")
    if len(points) > 1:
        raise _refused(f"several installed packages have a plugin {name}: {', '.join(each.value for each in points)}")
    try:
        plugin = points[0].load()
    except (ImportError, AttributeError) as error:
        raise _refused(f"plugin {name} cannot be loaded: {error}") from error
    missing = [member for member in _MEMBERS if not hasattr(plugin, member)]
    if missing:
        raise _refused(f"plugin {name} has no {', '.join(missing)}", "see transship.plugins.base.ImportPlugin")
    loaded: ImportPlugin = plugin
    if loaded.name != name:
        raise _refused(f"plugin {name} calls itself {loaded.name}", "both names must be the same")
    return loaded


def _refused(reason: str, remedy: str = "") -> ConfigurationRefused:
    return ConfigurationRefused("settings", OPTION, reason, remedy)
