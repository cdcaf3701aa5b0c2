"""The supervisor: one event loop in one thread that starts, watches, restarts and stops components."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from transship.domain.errors import StartFailed, TransshipError
from transship.host.ports import listen
from transship.host.processes import (
    Standstills,
    become_subreaper,
    describe_exit,
    end_strangers,
    stop_signals,
)
from transship.supervisor.child import Child
from transship.supervisor.component import Backoff, Component, Condition
from transship.supervisor.forking import ForkServer
from transship.supervisor.home import take_stop_note
from transship.supervisor.listeners import answers
from transship.supervisor.liveness import Silence, stalled
from transship.supervisor.output import SUPERVISOR, Output, log_path
from transship.supervisor.reloading import Reload
from transship.supervisor.slot import Slot
from transship.supervisor.status import ComponentStatus, Phase, SupervisorStatus, write_status

SWEEP_EVERY_S: Final = 0.5
"""Interval at which orphans of killed processes are killed."""

LOOK_EVERY_S: Final = 1.0
"""Interval between checks for signs of life of a starting component."""

WAITING_SHOWN_EVERY_S: Final = 10.0
"""Interval between lines that name the components for which a start waits."""

PROBE_EVERY_S: Final = 0.2
"""Interval between health checks until a component is up."""

WATCH_EVERY_S: Final = 10.0
"""Interval between health checks of a component that is up."""

PROBE_TIMEOUT_S: Final = 5.0
"""Timeout of one health check."""

DEATHS_AT_START: Final = 3
"""If a component dies this often before everything is ready, the start fails."""

RELOAD_SIGNAL: Final = signal.SIGUSR1
"""Requests a reload; SIGHUP is sent when a terminal is closed, and stops everything."""

SENDERS: Final = {signal.SIGINT: "a terminal (Ctrl-C)", signal.SIGHUP: "a terminal that was closed"}
"""Usual senders of stop signals."""

DEBOUNCE_S: Final = 0.5
"""A second stop signal within this time is ignored, because a terminal and the guard both send it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to supervise, and where.

    Attributes:
        components: all processes, in any order.
        fork_server: forks components that name their imports until everything is up; None: all are started.
        directory: working directory of all components.
        status_file: rewritten at each change.
        start_timeout_s: a starting component fails after this time without CPU use or output; otherwise it may take
            any time.
        backoff: waits between restarts.
        standstill_s: how long a component may be stopped by a signal (SIGSTOP) before it is killed and restarted.
    """

    components: tuple[Component, ...]
    directory: Path
    status_file: Path
    start_timeout_s: float = 180.0
    fork_server: Component | None = None
    backoff: Backoff = field(default_factory=Backoff)
    standstill_s: float = 60.0


class Supervisor:
    """Runs a plan until it is stopped.

    SIGTERM or SIGINT stops everything in order; a later second one kills everything at once. SIGUSR1 reloads.

    Args:
        plan: what to supervise.
        output: receives the lines of the components and of the supervisor.
        on_ready: called once, when everything is up.
        replan: returns the same components with the current settings, for a reload.
    """

    def __init__(
        self,
        plan: Plan,
        output: Output,
        on_ready: Callable[[], None],
        replan: Callable[[], Sequence[Component]],
    ) -> None:
        self.plan, self.output, self.on_ready, self._replan = plan, output, on_ready, replan
        self.slots = [Slot(component) for component in plan.components]
        self.beside: set[Slot] = set()
        self._forks: ForkServer | None = None
        self._standstills = Standstills(plan.standstill_s)
        self._untold = False
        self._reload_asked = asyncio.Event()
        self._reloads, self._last_reload, self._reload_failed = 0, "", False
        self._phase = Phase.STARTING
        self._started_at = datetime.now(UTC)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: asyncio.Future[None] | None = None
        self._stop_asked_at = 0.0

    async def run(self) -> None:
        """Start everything, watch it, and stop it on request; all processes have ended afterwards.

        Raises:
            StartFailed: a component did not start; everything was stopped again.
        """
        become_subreaper()
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        signals = stop_signals()
        for number in signals:
            loop.add_signal_handler(number, self._on_stop_signal, number)
        if signal.SIGHUP not in signals:
            # Components use SIGHUP. They would inherit an ignored signal, but exec resets a handler.
            loop.add_signal_handler(signal.SIGHUP, lambda: None)
        loop.add_signal_handler(RELOAD_SIGNAL, self._reload_asked.set)
        sweeper = asyncio.create_task(self._sweep())
        try:
            await self._start()
            while not self._stop.is_set():
                await self._first_of(asyncio.create_task(self._reload_asked.wait()))
                if self._reload_asked.is_set() and not self._stop.is_set():
                    await self._first_of(asyncio.create_task(self._reload()))
        except Exception as error:
            self._say(f"stopping: {error.brief if isinstance(error, TransshipError) else repr(error)}")
            raise
        finally:
            await self._stop_everything()
            sweeper.cancel()
            for number in signals:
                loop.remove_signal_handler(number)

    # --- start ---------------------------------------------------------------------------------

    async def _start(self) -> None:
        began = asyncio.get_running_loop().time()
        self._open_sockets()
        self._start_fork_server()
        for stage in sorted({slot.component.stage for slot in self.slots}):
            await self._start_stage([slot for slot in self.slots if slot.component.stage == stage])
            if self._stop.is_set():
                return
        await self._end_fork_server()
        self._enter(Phase.READY)
        self._say(f"ready after {asyncio.get_running_loop().time() - began:.1f} s")
        self.on_ready()

    def _open_sockets(self) -> None:
        for slot in self.slots:
            if slot.component.listen is None:
                continue
            host, port = slot.component.listen
            # The section of its settings has the component's name.
            slot.sockets = listen(host, port, f"{slot.component.name}.port")

    def _start_fork_server(self) -> None:
        component = self.plan.fork_server
        if component is None:
            return
        try:
            self._forks = ForkServer(component, self.plan.directory, partial(self.output.line, component.name))
        except OSError as error:
            self._say(f"{component.name} cannot be run: {error.strerror}")

    async def _end_fork_server(self) -> None:
        """End it once all is up: what dies later, or is reloaded, gets an interpreter with the code of then."""
        forks, self._forks = self._forks, None
        if forks is not None:
            await forks.close()

    async def _start_stage(self, slots: Sequence[Slot]) -> None:
        self._say(f"starting {', '.join(slot.component.name for slot in slots)}")
        for slot in slots:
            self.launch(slot)
        stalls = [asyncio.create_task(self._fail_when_stalled(slot)) for slot in slots]
        for stall in stalls:
            stall.add_done_callback(self._on_keeper_end)
        # Let their own requests reach the fork server first.
        await asyncio.sleep(0)
        self._prepare(max(slot.component.stage for slot in slots))
        waits = asyncio.create_task(self._show_waits(slots))
        try:
            await self._first_of(asyncio.gather(*(slot.up.wait() for slot in slots)))
        finally:
            for task in (*stalls, waits):
                task.cancel()

    async def _show_waits(self, slots: Sequence[Slot]) -> None:
        began = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(WAITING_SHOWN_EVERY_S)
            names = ", ".join(slot.component.name for slot in slots if not slot.up.is_set())
            self._say(f"waiting for {names} for {asyncio.get_running_loop().time() - began:.0f} s")

    def _prepare(self, stage: int) -> None:
        """Request the imports of later stages while this one starts."""
        for slot in self.slots:
            if self._forks is not None and slot.component.stage > stage:
                self._forks.prepare(slot.component.imports)

    async def _fail_when_stalled(self, slot: Slot) -> None:
        await self.stall(slot)
        if not slot.up.is_set():
            self._fail(StartFailed(slot.component.name, stalled(self.plan.start_timeout_s), self.output.directory))

    async def stall(self, slot: Slot) -> None:
        """Wait until a component has shown no sign of life for as long as it may."""
        clock, limit_s = asyncio.get_running_loop().time, self.plan.start_timeout_s
        pause_s = min(LOOK_EVERY_S, limit_s / 10)
        silence, looked_at = Silence(slot.vitals()), clock()
        while silence.lasted_s < limit_s:
            await asyncio.sleep(pause_s)
            # A look that comes late says that this process got no CPU time, and hence little of others.
            elapsed_s = min(clock() - looked_at, 2 * pause_s)
            silence, looked_at = silence.after(slot.vitals(), elapsed_s, limit_s), clock()

    def launch(self, slot: Slot) -> None:
        """Start a component and keep it running."""
        slot.keeper = asyncio.create_task(self._keep(slot))
        slot.keeper.add_done_callback(self._on_keeper_end)

    async def _reload(self) -> None:
        self._reload_asked.clear()
        self._say(f"{RELOAD_SIGNAL.name} received: reloading")
        reload = Reload(self, self.plan.start_timeout_s, self.output.directory)
        self._reload_failed = True
        try:
            self._reload_failed = not await reload.run(self._replan)
        finally:
            self._reloads += 1
            self._last_reload = "\n".join(reload.done)
            self.output.lines(SUPERVISOR, reload.done)
            self._publish()

    async def _first_of(self, awaited: asyncio.Future[Any]) -> None:
        """Wait for a future, a request to stop, or a failure; raise the failure."""
        assert self._failure is not None  # noqa: S101 - made before anything is awaited; tells the type checker
        stop = asyncio.create_task(self._stop.wait())
        try:
            either: list[asyncio.Future[Any]] = [awaited, stop, self._failure]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            awaited.cancel()
        if self._failure.done():
            self._failure.result()

    # --- life of one component -----------------------------------------------------------------

    async def _keep(self, slot: Slot) -> None:
        """Keep a component running until it is stopped or, if it runs once, has succeeded."""
        while not slot.stopping.is_set():
            began = asyncio.get_running_loop().time()
            status = await self._live(slot)
            lived_s = asyncio.get_running_loop().time() - began
            if slot.component.once and status == 0:
                self._say(f"{slot.component.name} is done after {lived_s:.1f} s")
                self._set(slot, Condition.DONE)
                slot.up.set()
                return
            if slot.stopping.is_set():
                self._say(f"{slot.component.name} ended ({slot.last_exit}), as asked")
                break
            slot.died.set()
            slot.short_lives = 1 if lived_s >= self.plan.backoff.reset_after_s else slot.short_lives + 1
            if self._phase is Phase.STARTING and slot.short_lives >= DEATHS_AT_START:
                reason = f"{slot.last_exit}, {DEATHS_AT_START} times"
                self._fail(StartFailed(slot.component.name, reason, self.output.directory))
                return
            wait_s = self.plan.backoff.wait_s(slot.short_lives)
            self._say(f"{slot.component.name} ended ({slot.last_exit}); starting it again in {wait_s:g} s")
            self._set(slot, Condition.WAITING)
            await asyncio.sleep(wait_s)
        self._set(slot, Condition.STOPPED)

    async def _live(self, slot: Slot) -> int:
        """Run a component once; return its exit status, 127 if it could not be run."""
        slot.said_ready.clear()
        self._set(slot, Condition.STARTING)
        began = asyncio.get_running_loop().time()
        try:
            slot.child = child = await self._begin(slot)
        except OSError as error:
            slot.last_exit = f"cannot be run: {error.strerror}"
            return 127
        slot.starts += 1
        self._publish()
        watcher = asyncio.create_task(self._watch(slot, began))
        try:
            status = await child.follow(lambda line: self._on_line(slot, line))
        finally:
            watcher.cancel()
            slot.child = None
        slot.last_exit = describe_exit(status)
        # Leftover processes would be a second copy of it after the restart.
        end_strangers(self._own_pids())
        return status

    async def _begin(self, slot: Slot) -> Child:
        """Fork or start a component.

        Raises:
            OSError: its command cannot be run.
        """
        component, directory = slot.component, self.plan.directory
        if self._forks is not None and component.imports:
            slot.forked_by = self._forks.pid
            child = await self._forks.fork(component, directory, slot.sockets)
            slot.forked_by = 0
            if child is not None:
                return child
        return Child.start(component, directory, slot.sockets)

    def _on_line(self, slot: Slot, line: str) -> None:
        self.output.line(slot.component.name, line)
        slot.on_line(line)

    async def _watch(self, slot: Slot, began: float) -> None:
        """Follow the health of a component that was started at `began`."""
        component = slot.component
        if component.once:
            return
        if not component.health_url:
            settled = asyncio.create_task(slot.said_ready.wait())
            await asyncio.wait([settled], timeout=component.settle_s)
            settled.cancel()
            self._set_up(slot, began)
            return
        if component.ready_text:
            # A predecessor may answer the health check.
            await slot.said_ready.wait()
        while not await answers(component.health_url, PROBE_TIMEOUT_S):
            await asyncio.sleep(PROBE_EVERY_S)
        self._set_up(slot, began)
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            healthy = await answers(component.health_url, PROBE_TIMEOUT_S)
            condition = Condition.UP if healthy else Condition.UNHEALTHY
            if slot.stopping.is_set():
                return
            if condition is not slot.condition:
                self._say(f"{component.name} {'answers again' if healthy else 'does not answer its health check'}")
                self._set(slot, condition)

    def _set_up(self, slot: Slot, began: float) -> None:
        self._say(f"{slot.component.name} is up after {asyncio.get_running_loop().time() - began:.1f} s")
        self._set(slot, Condition.UP)
        slot.up.set()

    # --- stop ----------------------------------------------------------------------------------

    def _on_stop_signal(self, number: signal.Signals) -> None:
        now = asyncio.get_running_loop().time()
        if not self._stop.is_set():
            self._stop_asked_at = now
            self._say(f"{number.name} received{self._sender(number)}: stopping; once more kills everything at once")
            self._stop.set()
        elif now - self._stop_asked_at > DEBOUNCE_S and not self._hurry.is_set():
            self._say(f"{number.name} received again{self._sender(number)}: killing everything")
            self._hurry.set()

    def _sender(self, number: signal.Signals) -> str:
        sender = take_stop_note(self.plan.status_file.parent) if number is signal.SIGTERM else SENDERS.get(number, "")
        return f" from {sender}" if sender else ""

    async def _stop_everything(self) -> None:
        self._enter(Phase.STOPPING)
        await self._end_fork_server()
        everything = self._all_slots()
        for slot in everything:
            slot.stopping.set()
        for rank in sorted({slot.component.stop_rank for slot in everything}):
            await asyncio.gather(*(self.end(slot) for slot in everything if slot.component.stop_rank == rank))
        # Each round, this process adopts the children of the killed processes.
        while end_strangers(set()):
            await asyncio.sleep(0.01)
        for slot in self.slots:
            for each in slot.sockets:
                each.close()
        self._enter(Phase.STOPPED)
        self._say("stopped")

    async def end(self, slot: Slot) -> None:
        """Stop a component without restarting it."""
        slot.stopping.set()
        if slot.keeper is None:
            self._set(slot, Condition.STOPPED)
            return
        if slot.child is None:
            # It is waiting for a restart, so there is nothing to end.
            slot.keeper.cancel()
            await asyncio.wait([slot.keeper])
            if slot.condition is not Condition.DONE:
                self._set(slot, Condition.STOPPED)
            return
        child, component = slot.child, slot.component
        child.terminate()
        if not await self._ends(slot.keeper, component.kill_after_s):
            if not self._hurry.is_set():
                self._say(f"{component.name} did not end within {component.kill_after_s:g} s: killing it")
            child.kill()
            await asyncio.wait([slot.keeper])

    async def _ends(self, keeper: asyncio.Task[None], limit_s: float) -> bool:
        """Wait for the end of a component; return False when the time is up or everything must be killed."""
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([keeper, hurry], timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        return keeper.done()

    # --- bookkeeping ---------------------------------------------------------------------------

    def _own_pids(self) -> set[int]:
        forks = {self._forks.pid} if self._forks is not None else set()
        return forks | {slot.child.pid for slot in self._all_slots() if slot.child is not None}

    def _all_slots(self) -> list[Slot]:
        return list(chain(self.slots, self.beside))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            if self._untold:
                self._publish()
            self._end_stopped()
            killed = end_strangers(self._own_pids())
            if killed:
                self._say(f"ended {len(killed)} process(es) that a killed one left behind")

    def _end_stopped(self) -> None:
        """Kill components that were stopped by a signal and not continued in time; they are then restarted."""
        overdue = self._standstills.overdue(self._own_pids(), asyncio.get_running_loop().time())
        for slot in self._all_slots():
            if slot.child is not None and slot.child.pid in overdue:
                limit_s = self.plan.standstill_s
                self._say(f"{slot.component.name} has been stopped by a signal for {limit_s:g} s: killing it")
                slot.child.kill()
        if self._forks is not None and self._forks.pid in overdue:
            self._forks.kill()

    def _on_keeper_end(self, keeper: asyncio.Task[None]) -> None:
        # An error in the supervisor itself must not leave a component unwatched.
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    def _say(self, text: str) -> None:
        self.output.line(SUPERVISOR, text)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._publish()

    def _set(self, slot: Slot, condition: Condition) -> None:
        slot.condition, slot.since = condition, datetime.now(UTC)
        self._publish()

    def _publish(self) -> None:
        components = tuple(
            ComponentStatus(
                name=slot.component.name,
                condition=slot.condition,
                pid=slot.child.pid if slot.child else None,
                since=slot.since.isoformat(timespec="seconds"),
                restarts=max(0, slot.starts - 1),
                last_exit=slot.last_exit,
                log=str(log_path(self.output.directory, slot.component.name)),
            )
            for slot in self.slots
        )
        started_at = self._started_at.isoformat(timespec="seconds")
        try:
            status = SupervisorStatus(
                self._phase, os.getpid(), started_at, components, self._reloads, self._last_reload, self._reload_failed
            )
            write_status(self.plan.status_file, status)
        except OSError as error:
            # A full disk must not end running components. Retried until it succeeds.
            if not self._untold:
                self._say(f"{self.plan.status_file} cannot be written: {error.strerror}")
            self._untold = True
        else:
            self._untold = False
