"""The shared tail of all methods: from a sealed staged file to an active image."""

from __future__ import annotations

from contextlib import ExitStack

from prefect.futures import PrefectFuture, wait

from tasks.digest import digest
from tasks.finish import finish
from tasks.inspect import inspect
from tasks.place import place, unplace
from tasks.plugin import run_plugin
from tasks.session import ImportSession
from tasks.staged_files import SOURCE_ROLE, Staged, discard_staged
from transship.domain.errors import ImportCancelled, StoresFailed, TransferFailed
from transship.plugins.base import ImportPlugin
from transship.plugins.registry import load_plugins

DECOMPRESSION = "image_decompression"


def deliver(session: ImportSession, staged: Staged, undo: ExitStack) -> str:
    """Inspect, transform, and write a staged file to every target; return one line for people.

    Raises:
        TransferFailed: what could not be done; the caller undoes what was pushed on ``undo``.
        LockLost, ImportStopped: the import must end.
    """
    staged = _transform(session, staged)
    message = _deliver_to_stores(session, staged, undo)
    undo.pop_all()
    discard_staged(session, keep_source=False)
    return message


def _transform(session: ImportSession, staged: Staged) -> Staged:
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


def _deliver_to_stores(session: ImportSession, staged: Staged, undo: ExitStack) -> str:
    session.board.enter("place", staged.size)
    digests = digest.submit(staged)
    for store in session.begun.targets:
        undo.callback(unplace, session, store)
    placing = place.with_options(
        retries=session.settings.imports.store_retries,
        retry_delay_seconds=[1, 2, 4],
        retry_jitter_factor=0.5,
    )
    copies = {store: placing.submit(store, staged) for store in session.begun.targets}
    running: list[PrefectFuture[object]] = [*copies.values(), digests]  # type: ignore[list-item]  # futures are invariant
    try:
        wait(running)
    except BaseException:
        # A signal reaches this thread alone; the token brings it to those that copy.
        session.stop.stop(ImportCancelled("the process was told to end"))
        wait(running, timeout=20)
        raise
    failed: dict[str, TransferFailed] = {}
    for store, copy in copies.items():
        outcome = copy.state.result(raise_on_failure=False)
        if isinstance(outcome, TransferFailed):
            failed[store] = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
    if failed and (session.begun.strict or len(failed) == len(copies)):
        raise StoresFailed([str(error) for error in failed.values()])
    return finish(staged, digests.result(), {store: str(error) for store, error in failed.items()})
