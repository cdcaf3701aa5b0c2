"""An executor: a forked child of the template that carries out one flow run at a time, and is reused.

It leads its own session, so a signal to its group reaches its children. SIGTERM ends it; a running import is first
interrupted, to be resumed elsewhere. SIGUSR1 cancels the run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from typing import Any, Final, NoReturn

import prefect.flow_engine
from prefect import Flow
from prefect._internal import control_listener
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SettingsContext, SyncClientContext, get_settings_context
from prefect.events.worker import EventsWorker
from prefect.exceptions import Abort, Pause, TerminationSignal
from prefect.flow_engine import run_flow
from prefect.flows import load_flow_from_entrypoint
from prefect.logging.handlers import APILogWorker
from prefect.logging.loggers import flow_run_logger
from prefect.settings import (
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    Settings,
    get_current_settings,
    temporary_settings,
)

from transship.host.logs import write_events
from transship.host.processes import end_with_parent, give_memory_back, resident_bytes
from transship.runner.lean_client import LeanClient, lean_client
from transship.runner.messages import CANCEL_SIGNAL, LINE_BYTES, Done, Job, Outcome
from transship.stores.pool import DRIVERS

DRAIN_S: Final = 3.0
"""How long an executor may send its last logs and events before it ends."""
HOOKS_VARIABLE: Final = "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"

log = logging.getLogger("transship.runner.executor")


class Terminated(BaseException):
    """This process was told to end while it had no run, or after its run was interrupted."""


def serve(channel: socket.socket) -> int:
    """Carry out jobs until the dispatcher closes the channel; return the exit status.

    Must be called in the main thread of a newly forked process.
    """
    os.setsid()
    end_with_parent()
    _own_signals()
    write_events("worker")
    # The dispatcher reports Cancelled, as Prefect's runner would.
    os.environ[HOOKS_VARIABLE] = "false"
    try:
        with _warm() as client, channel.makefile("rb") as lines:
            _say(channel, Done(os.getpid(), "", "", "", resident_bytes(os.getpid())))
            while line := lines.readline(LINE_BYTES):
                _say(channel, _do(Job.decode(line), client))
                give_memory_back()
    except Terminated:
        _drain()
        _die_of(signal.SIGTERM)
    except (BrokenPipeError, ConnectionResetError):
        # The dispatcher is gone, so no answer is needed.
        pass
    _drain()
    return 0


def _own_signals() -> None:
    for number in (signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL if number is signal.SIGCHLD else signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _on_term)
    signal.signal(CANCEL_SIGNAL, _on_cancel)


def _on_term(_number: int, _frame: object) -> NoReturn:
    # A second signal must not interrupt the final cleanup.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _on_cancel(_number: int, _frame: object) -> None:
    control_listener._set_intent("cancel")  # noqa: SLF001 - pinned by pins.py
    os.kill(os.getpid(), signal.SIGTERM)


@cache
def quiet_settings() -> Settings:
    """Return Prefect's settings without what executors leave to the dispatcher; the template makes them for all."""
    quiet: dict[Any, Any] = {
        # The dispatcher sends heartbeats for all runs; the engine's own thread would delay a run's end by a second.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }
    return get_current_settings().copy_with_update(updates=quiet)


@contextmanager
def _warm() -> Iterator[LeanClient]:
    """Set up once what each run would otherwise set up itself."""
    # The observer would open a websocket per run; the dispatcher watches for all runs.
    setattr(prefect.flow_engine, "observe_flow_run_suspension", lambda *_, **__: nullcontext())  # noqa: B010 - pinned
    with SettingsContext(profile=get_settings_context().profile, settings=quiet_settings()):
        context = SyncClientContext()
        context.client = client = lean_client()
        with context:
            EventsWorker.instance()
            APILogWorker.instance()
            yield client


def _do(job: Job, client: LeanClient) -> Done:
    """Carry out a job and return its outcome.

    Raises:
        Terminated: the process has to end; the run has been interrupted.
    """
    flow_run = FlowRun.model_validate(job.run)
    client.hold(flow_run, dry=job.dry)
    outcome, message = Outcome.ENDED, ""
    state: State[Any] | None
    try:
        with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}) if job.dry else nullcontext():
            state = _run(load_flow_from_entrypoint(job.entrypoint, use_placeholder_flow=False), flow_run)
    except (Abort, Pause) as refused:
        outcome, state, message = Outcome.ABORTED, flow_run.state, str(refused)
        if isinstance(refused.__cause__, TerminationSignal):
            # Prefect sends the signal again only on some paths.
            os.kill(os.getpid(), signal.SIGTERM)
    except TerminationSignal:
        # Without an intent Prefect has sent SIGTERM again, to our own handler.
        outcome, state = Outcome.CANCELLED, flow_run.state
    except Exception as error:  # noqa: BLE001 - whatever the engine trips over, the dispatcher is told, and this process ends
        outcome, state, message = Outcome.BROKEN, flow_run.state, f"{type(error).__name__}: {error}"
        flow_run_logger(flow_run).exception("The engine failed")
    finally:
        client.let_go()
    state_type = state.type.value if state is not None else ""
    return Done(os.getpid(), outcome, state_type, message, resident_bytes(os.getpid()))


def _run(flow: Flow[..., Any], flow_run: FlowRun) -> State[Any]:
    ended: Any = run_flow(flow, flow_run=flow_run, return_type="state")
    if flow.isasync:
        ended = asyncio.run(ended)
    return ended  # type: ignore[no-any-return]  # a state, as asked for


def _say(channel: socket.socket, message: Done) -> None:
    channel.sendall(message.encode() + b"\n")


def _drain() -> None:
    """Send the remaining logs and events, and close the stores."""
    with suppress(TimeoutError):
        for service in (APILogWorker, EventsWorker):
            service.drain_all(timeout=DRAIN_S)
    DRIVERS.close()  # copies forked from the template exit without atexit handlers


def _die_of(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
