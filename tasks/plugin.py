"""Run one import plugin on inspected data."""

from __future__ import annotations

from dataclasses import replace

from tasks.session import ImportSession, current
from tasks.staged_files import PluginWorkspace, seal, unstage
from tasks.steps import step
from transship.catalog.imports import inject_properties
from transship.domain.image import RESERVED_PREFIX, Image
from transship.domain.import_data import Done, Inspected, Staged
from transship.plugins.base import ImportPlugin, PluginOutcome, PluginWork
from transship.plugins.registry import load_plugins


@step("plugin", "{label}")
def run_plugin(name: str, label: str, inspected: Inspected, roles: tuple[str, ...]) -> Done[Staged]:
    """Run a plugin, and return the data with which the import continues.

    Args:
        name: the plugin's name in ``imports.plugins``.
        label: its verb, for display.
        inspected: its input; if the plugin writes a new file, the input file is removed unless a client uploaded it.
        roles: the caller's, lower case.

    Raises:
        TransferFailed: the plugin refused or failed; the flow removes what it wrote.
        LockLost, ImportStopped: the import must end.
    """
    session, staged = current(), inspected.staged
    session.board.enter(label, staged.file.size)
    plugin = next(plugin for plugin in load_plugins(session.settings) if plugin.name == name)
    return Done(_apply(session, plugin.run(_work(session, plugin, staged, roles)), staged))


def _work(session: ImportSession, plugin: ImportPlugin, staged: Staged, roles: tuple[str, ...]) -> PluginWork:
    return PluginWork(
        image=staged.image,
        path=session.staging.sealed(staged.file.name),
        roles=roles,
        settings=session.settings,
        workspace=PluginWorkspace(session, plugin.label),
        progress=session.board.advance,
        stop=session.stop,
    )


def _apply(session: ImportSession, outcome: PluginOutcome, staged: Staged) -> Staged:
    image, arriving = _changed(staged.image, outcome), staged.arriving
    ours = {name: value for name, value in outcome.properties.items() if not name.startswith(RESERVED_PREFIX)}
    if ours:
        inject_properties(session.catalog, session.lease, ours)
        # Properties injected by the operator override those from the source.
        arriving = {name: value for name, value in arriving.items() if name not in ours}
        image = replace(image, properties={**image.properties, **ours})
    worked = replace(staged, image=image, arriving=arriving)
    if outcome.path is None:
        return worked
    made = seal(session, outcome.path.name.removesuffix(".part"))
    if not staged.uploaded:
        unstage(session, staged.file.name)
    return replace(worked, file=made, uploaded=False)


def _changed(image: Image, outcome: PluginOutcome) -> Image:
    return replace(
        image,
        disk_format=image.disk_format if outcome.disk_format is None else outcome.disk_format,
        container_format=image.container_format if outcome.container_format is None else outcome.container_format,
        virtual_size=image.virtual_size if outcome.virtual_size is None else outcome.virtual_size,
    )
