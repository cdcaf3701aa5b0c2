"""Turns staged data into the final data for the stores: inspect, transform, inspect again."""

from __future__ import annotations

from dataclasses import replace

from tasks.inspect import inspect
from tasks.plugin import run_plugin
from tasks.session import current
from transship.domain.import_data import FinalData, Staged
from transship.domain.staged import SOURCE_ROLE
from transship.plugins.base import ImportPlugin
from transship.plugins.registry import load_plugins

DECOMPRESSION = "image_decompression"


def transform(staged: Staged, roles: tuple[str, ...]) -> FinalData:
    """Run the configured plugins on staged data; no other program sees data that were not inspected.

    Args:
        roles: the caller's, lower case.

    Raises:
        TransferFailed: the data, a plugin or staging are at fault.
        LockLost, ImportStopped: the import must end.
    """
    plugins = load_plugins(current().settings)
    inspected = inspect(staged, SOURCE_ROLE, unpacked_later=_unpacks(plugins))
    for position, plugin in enumerate(plugins):
        before = inspected.staged.file
        worked = run_plugin(plugin.name, plugin.label, inspected, roles)
        if worked.file == before:
            inspected = replace(inspected, staged=worked)
        else:
            later = plugins[position + 1 :]
            inspected = inspect(worked, f"after {plugin.label}", unpacked_later=_unpacks(later))
    final = inspected.staged
    return FinalData(final.file, final.image, final.arriving, final.remarks)


def _unpacks(plugins: tuple[ImportPlugin, ...]) -> bool:
    return any(plugin.name == DECOMPRESSION for plugin in plugins)
