"""Run one import plugin on the staged file."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.session import ImportSession, current
from tasks.staged_files import PluginWorkspace, holds_upload, seal, unstage
from transship.catalog.imports import inject_properties
from transship.domain.image import RESERVED_PREFIX
from transship.domain.import_data import SealedFile
from transship.plugins.base import ImportPlugin, PluginOutcome, PluginWork
from transship.plugins.registry import load_plugins


@task(name="plugin", task_run_name="{label}", cache_policy=NO_CACHE, retries=0)
def run_plugin(name: str, label: str, staged: SealedFile) -> SealedFile:
    """Let a plugin do its work, and return the file with which the import goes on.

    Args:
        name: the plugin's name in ``imports.plugins``.
        label: its verb, for people.
        staged: file to work on; removed when the plugin made another one, unless a client uploaded it.

    Raises:
        TransferFailed: the plugin refused or failed; the flow removes what it wrote.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    session.board.enter(label, staged.size)
    plugin = next(plugin for plugin in load_plugins(session.settings) if plugin.name == name)
    return _apply(session, plugin.run(_work(session, plugin, staged)), staged)


def _work(session: ImportSession, plugin: ImportPlugin, staged: SealedFile) -> PluginWork:
    return PluginWork(
        image=session.image,
        path=session.staging.sealed(staged.name),
        roles=session.begun.roles,
        settings=session.settings,
        workspace=PluginWorkspace(session, plugin.label),
        progress=session.board.advance,
        stop=session.stop,
    )


def _apply(session: ImportSession, outcome: PluginOutcome, staged: SealedFile) -> SealedFile:
    changes = {
        "disk_format": outcome.disk_format,
        "container_format": outcome.container_format,
        "virtual_size": outcome.virtual_size,
    }
    session.change_image(**{name: value for name, value in changes.items() if value is not None})
    ours = {name: value for name, value in outcome.properties.items() if not name.startswith(RESERVED_PREFIX)}
    if ours:
        inject_properties(session.catalog, session.lease, ours)
        # What the operator injects wins over what comes with the data.
        session.arriving = {name: value for name, value in session.arriving.items() if name not in ours}
        session.change_image(properties={**session.image.properties, **ours})
    if outcome.path is None:
        return staged
    made = seal(session, outcome.path.name.removesuffix(".part"))
    if not holds_upload(session, staged):
        unstage(session, staged.name)
    return made
