"""The shared tail of all methods: from a sealed staged file to an active image."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from prefect.futures import PrefectFuture, as_completed, wait

from flows.carrying import clean_up
from tasks.digest import digest
from tasks.finish import finish
from tasks.inspect import inspect
from tasks.place import place, unplace
from tasks.plugin import run_plugin
from tasks.session import ImportSession
from tasks.staged_files import Staged, discard_staged
from transship.domain.errors import ImportCancelled, ImportStopped, StoresFailed, StoresUnavailable, TransferFailed
from transship.domain.staged import SOURCE_ROLE
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
    clean_up(lambda: discard_staged(session, keep_source=False))
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
    copies: dict[str, PrefectFuture[str]] = {}
    try:
        _copy_to_targets(session, staged, copies)
        wait([digests])
    except BaseException:
        # A signal reaches this thread alone; the token brings it to those that copy.
        session.stop.stop(ImportCancelled("the process was told to end"))
        running: list[PrefectFuture[object]] = [*copies.values(), digests]  # type: ignore[list-item]  # futures are invariant
        wait(running, timeout=20)
        raise
    failed = _failures(copies)
    if failed and (session.begun.strict or len(failed) == len(copies)):
        may_pass = all(error.retryable for error in failed.values())
        raise (StoresUnavailable if may_pass else StoresFailed)([str(error) for error in failed.values()])
    return finish(staged, digests.result(), {store: str(error) for store, error in failed.items()})


def _copy_to_targets(session: ImportSession, staged: Staged, copies: dict[str, PrefectFuture[str]]) -> None:
    """Copy to the targets in their order, some at a time, and note each copy in ``copies`` as it is begun."""
    imports = session.settings.imports
    placing = place.with_options(retries=imports.store_retries, retry_delay_seconds=[1, 2, 4], retry_jitter_factor=0.5)
    running: set[PrefectFuture[str]] = set()
    for store in session.begun.targets:
        if len(running) == imports.max_parallel_stores:
            running.remove(next(iter(as_completed(list(running)))))
        copies[store] = placing.submit(store, staged)
        running.add(copies[store])
    wait(list(copies.values()))


def _failures(copies: Mapping[str, PrefectFuture[str]]) -> dict[str, TransferFailed]:
    """Return why copies failed, by store; what ends the whole import is raised."""
    failed: dict[str, TransferFailed] = {}
    for store, copy in copies.items():
        outcome = copy.state.result(raise_on_failure=False)
        if isinstance(outcome, TransferFailed) and not isinstance(outcome, ImportStopped):
            failed[store] = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
    return failed
