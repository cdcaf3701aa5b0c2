"""The shared tail of all methods: from a sealed staged file to an active image."""

from __future__ import annotations

from contextlib import ExitStack

from prefect.client.schemas.objects import State

from flows.copying import copy_to_stores
from tasks.inspect import inspect
from tasks.plugin import run_plugin
from tasks.session import ImportSession
from transship.domain.import_data import SealedFile
from transship.domain.staged import SOURCE_ROLE
from transship.plugins.base import ImportPlugin
from transship.plugins.registry import load_plugins

DECOMPRESSION = "image_decompression"


def deliver(session: ImportSession, staged: SealedFile, undo: ExitStack) -> str:
    """Inspect, transform, and write a staged file to every target; return one line for people.

    Raises:
        TransferFailed: what could not be done; the caller undoes what was pushed on ``undo``.
        LockLost, ImportStopped: the import must end.
    """
    staged = _transform(session, _unwrapped(staged))
    return copy_to_stores(session, staged, undo)


def _unwrapped(staged: SealedFile | State[SealedFile]) -> SealedFile:
    """Return what a task gave; one that was skipped gives its state, so that people see that nothing was done."""
    return staged.result() if isinstance(staged, State) else staged


def _transform(session: ImportSession, staged: SealedFile) -> SealedFile:
    plugins = load_plugins(session.settings)
    inspect(staged, SOURCE_ROLE, unpacked_later=_unpacks(plugins))
    for position, plugin in enumerate(plugins):
        before = staged
        staged = run_plugin(plugin.name, plugin.label, before)
        if staged != before:
            inspect(staged, f"after {plugin.label}", unpacked_later=_unpacks(plugins[position + 1 :]))
    return staged


def _unpacks(plugins: tuple[ImportPlugin, ...]) -> bool:
    return any(plugin.name == DECOMPRESSION for plugin in plugins)
