"""How a flow run carries out an import: take the lease, run the steps, and undo and report any failure.

The outcome of the import is what the catalogue says; the state that the run returns to Prefect only
shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any, Final

import structlog
from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, PrefectException, TerminationSignal
from prefect.states import Completed, Crashed, Failed

from config.settings import Settings
from config.snapshot import settings_in_force
from flows.copying import clean_up, copy_from_best
from tasks.check_quota import check_quota
from tasks.session import ImportSession, open_session
from tasks.staged_files import discard_scrap, discard_staged
from transship.catalog.carriers import moved_on
from transship.catalog.endings import fail_import
from transship.catalog.engine import Catalog
from transship.catalog.images import load_images
from transship.catalog.imports import Begun
from transship.catalog.leases import expire_lease
from transship.domain.clock import utc_now
from transship.domain.errors import (
    CatalogUnavailable,
    ConfigurationRefused,
    ImportCancelled,
    ImportInterrupted,
    ImportStopped,
    InternalFault,
    LockLost,
    SiteMisconfigured,
    StagingBroken,
    StoresFailed,
    Superseded,
    TransferFailed,
    TransshipError,
)
from transship.domain.methods import ImportMethod
from transship.domain.task import RunState
from transship.host.logs import configure_flow_logs
from transship.staging.opening import open_staging

FIRST_LINE: Final = "flow begun"
"""Logged first; the time before this event is not the import's own."""

log = structlog.get_logger("transship.flow")

Steps = Callable[[Begun, ExitStack], str]
"""The steps of a method: they push their undo on the stack, and return one line for display."""


def carry(flow_run_id: str, begin: Callable[[Settings, Catalog], Begun], steps: Steps) -> State[Any]:
    """Carry out an import from its lease to its end, and return the state to show in Prefect.

    Args:
        flow_run_id: Prefect's id of this run.
        begin: takes the lease.
        steps: the method's steps.

    Raises:
        Abort: the run belongs to another attempt now, so this one must not report to Prefect.
        BaseException: a signal ended the process; the import is then resumed automatically, or was
            cancelled if that was the reason.
    """
    try:
        settings = settings_in_force().settings
        configure_flow_logs(settings.log.level)
        log.info(FIRST_LINE)
        catalog = Catalog.open(settings)
    except ConfigurationRefused as refused:
        # Not Failed: a run that crashed before it began is started again by the keeper.
        return Crashed(message=str(_site_fault(refused)))
    with closing(catalog):
        try:
            begun = begin(settings, catalog)
        except CatalogUnavailable as away:
            return Crashed(message=str(away))
        except Superseded as nothing_to_do:
            _abort_if_moved_on(catalog, flow_run_id, None)
            return Completed(name=RunState.SUPERSEDED, message=f"Nothing done: {nothing_to_do}")
        except ConfigurationRefused as refused:
            return Failed(message=str(_site_fault(refused)))
        except TransshipError as refused:
            return Failed(message=str(refused))
        except Exception as unexpected:
            # The transaction changed nothing. If the exception were raised, Prefect would show it, and the keeper
            # would end a waiting import with its text, which may hold anything.
            log.exception("import not begun because of an internal error")
            return Failed(message=str(InternalFault(type(unexpected).__name__, str(unexpected))))
        try:
            with open_session(settings, catalog, begun) as session:
                state = _run(flow_run_id, begun, session, steps)
        except BaseException as told:
            _abort_if_moved_on(catalog, flow_run_id, begun, told)
            raise
        _abort_if_moved_on(catalog, flow_run_id, begun)
        return state


def _abort_if_moved_on(
    catalog: Catalog, flow_run_id: str, begun: Begun | None, told: BaseException | None = None
) -> None:
    """End this attempt without a state if the run belongs to another attempt now.

    A process that was stopped for a while wakes up late; its last state would end the attempt that took over.

    Raises:
        Abort: the run belongs to another attempt.
    """
    try:
        gone_on = moved_on(catalog, flow_run_id, begun)
    except CatalogUnavailable as away:
        log.warning("owner of the run not read from the catalogue", reason=str(away))
        gone_on = begun is None
    if gone_on:
        log.warning("attempt ended without a state: another process carries on the run")
        raise Abort("another process carries this import on") from told


def _run(flow_run_id: str, begun: Begun, session: ImportSession, steps: Steps) -> State[Any]:
    undo = ExitStack()
    try:
        _prepare_staging(session)
        if session.settings.quota.of_projects:
            check_quota(begun)
        copies_only = begun.has_data and not ImportMethod(begun.task.method).facts.in_place
        message = copy_from_best(begun, undo) if copies_only else steps(begun, undo)
        undo.pop_all()
        clean_up(lambda: discard_staged(session, keep_source=False))
    except LockLost as lost:
        log.warning("import interrupted", reason=str(lost))
        clean_up(lambda: discard_scrap(session))
        return Completed(name=RunState.SUPERSEDED, message=f"Nothing more done: {lost}")
    except ImportInterrupted as interrupted:
        # Crashed, not Failed, as when a process is lost: the import is resumed automatically.
        _give_up(session, interrupted)
        return Crashed(message=f"The import resumes automatically: {interrupted}")
    except CatalogUnavailable as away:
        # Not the import's fault, and nothing can be written now: it resumes when the catalogue is back.
        _give_up(session, ImportInterrupted(str(away)))
        return Crashed(message=f"The import resumes automatically: {away}")
    except TransferFailed as failed:
        return _fail(begun, session, undo, failed)
    except ConfigurationRefused as refused:
        return _fail(begun, session, undo, _site_fault(refused))
    except Exception as unexpected:
        if (told := _signal_behind(unexpected)) is not None:
            _end_on_signal(flow_run_id, begun, session, undo)
            raise told from unexpected
        # The outermost handler: whatever happened, the user gets a reason and the image is freed.
        log.exception("import failed with an internal error")
        return _fail(begun, session, undo, InternalFault(type(unexpected).__name__, str(unexpected)))
    except BaseException:
        # SIGTERM, Ctrl-C, and Prefect's own signals for cancel, pause and suspend.
        _end_on_signal(flow_run_id, begun, session, undo)
        raise
    session.board.enter("done")
    session.board.write_end()
    if any(store.error for store in session.board.now.stores):
        # Failed in Prefect, whose dashboard shows an operator only such runs; the task has succeeded.
        return Failed(name=RunState.IMPORTED_IN_PART, message=message)
    return Completed(name=RunState.IMPORTED, message=message)


def _prepare_staging(session: ImportSession) -> None:
    try:
        open_staging(session.catalog, session.staging, session.lease)
    except ConfigurationRefused as refused:
        raise StagingBroken(_for_users(refused)) from refused


def _site_fault(refused: ConfigurationRefused) -> SiteMisconfigured:
    return SiteMisconfigured(_for_users(refused))


def _for_users(refused: ConfigurationRefused) -> str:
    """Log all details for the operator, and return a text for users without paths and values."""
    log.error("a setting cannot be used", reason=str(refused))
    return refused.for_users


def _fail(begun: Begun, session: ImportSession, undo: ExitStack, failed: TransferFailed) -> State[Any]:
    """Undo, free the image with the reason, and return the state to show."""
    session.stop.stop(ImportCancelled(str(failed)))
    rerunnable = _may_run_again(begun, failed)
    try:
        clean_up(undo.close)
        clean_up(lambda: discard_staged(session, keep_source=rerunnable))
        stores = {store.store: store.error for store in session.board.now.stores if store.error}
        fail_import(
            session.catalog,
            session.lease,
            str(failed),
            stores,
            rerunnable=rerunnable,
            now=utc_now(),
            time_to_live_h=session.settings.imports.task_time_to_live_h,
            rerun_ttl_s=session.settings.lease.rerun_ttl_s,
        )
    except LockLost as lost:
        log.warning("import was taken over while it was being undone", reason=str(lost))
        return Completed(name=RunState.SUPERSEDED, message=f"Nothing more done: {lost}")
    session.board.fail_rest(_holders(session))
    session.board.keep_end()
    session.board.write_end()
    log.warning("import failed", reason=str(failed))
    return Failed(message=str(failed))


def _holders(session: ImportSession) -> frozenset[str]:
    """Return the stores that clients can get the image from; none when the catalogue does not answer."""
    try:
        with session.catalog.statement() as connection:
            images = load_images(connection, [session.lease.image_id])
    except CatalogUnavailable as away:
        log.warning("stores of the image not known", reason=str(away))
        return frozenset()
    return frozenset(location.store for image in images for location in image.locations)


def _may_run_again(begun: Begun, failed: TransferFailed) -> bool:
    """Return whether a further attempt may use the staged files.

    Uploaded data exist nowhere else, so they are kept unless the data themselves are at fault. An operator can fix
    a store.
    """
    if ImportMethod(begun.task.method).facts.uploaded:
        return not failed.blames_data
    return failed.retryable or isinstance(failed, ImportStopped | StoresFailed)


def _signal_behind(error: BaseException) -> TerminationSignal | None:
    """Return the signal that caused an error; None if there was none.

    Prefect's engine turns a signal that arrives while it creates a task run into "Task run is not set"
    (task_engine.py, `handle_crash`, 3.9).
    """
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, TerminationSignal):
        behind = behind.__cause__ or behind.__context__
    return behind


def _end_on_signal(flow_run_id: str, begun: Begun, session: ImportSession, undo: ExitStack) -> None:
    """End in order after a signal: the run was cancelled, or our own service stops."""
    why = _why_cancelled(flow_run_id)
    if why:
        _fail(begun, session, undo, ImportCancelled(why))
        return
    _give_up(session, ImportInterrupted("the worker was stopped"))


def _give_up(session: ImportSession, interrupted: ImportInterrupted) -> None:
    session.stop.stop(interrupted)
    try:
        expire_lease(session.catalog, session.lease)
    except LockLost as lost:
        log.warning("import was taken over", reason=str(lost))
    except CatalogUnavailable as away:
        log.warning("lease not released; it will expire", reason=str(away))


def _why_cancelled(flow_run_id: str) -> str:
    """Return why a run was cancelled in Prefect; empty when it was not, or that is not known."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run_id).state  # type: ignore[arg-type]  # a UUID as text is accepted
    except (HTTPError, PrefectException) as error:
        # The keeper checks again, and ends the import if it was cancelled.
        log.warning("Prefect cannot be asked whether the run was cancelled", error=str(error))
        return ""
    if state is None:
        return ""
    if state.is_paused():
        return "paused or suspended in Prefect"
    return "cancelled in Prefect" if state.is_cancelling() or state.is_cancelled() else ""
