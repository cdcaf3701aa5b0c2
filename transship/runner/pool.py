"""The executors as the dispatcher sees them: made by a template, given one run at a time, replaced when worn."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import structlog

from transship.domain.errors import WarmEngineUnavailable
from transship.processes import describe_exit, signal_group, start_time
from transship.runner.messages import (
    LINE_BYTES,
    MESSAGE_BYTES,
    Done,
    Ended,
    Fork,
    Forked,
    ForkFailed,
    Job,
    Outcome,
    Ready,
    told_by_template,
)
from transship.runner.recycling import Wear, WearLimits, worn_out
from transship.runner.template import LAST_CHANCE_S

CANCEL_SIGNAL: Final = signal.SIGUSR1
TEMPLATE_START_S: Final = 120.0
"""Longest wait for a template's imports, on a machine with other things to do."""

ORPHAN_CHANCE_S: Final = 15.0
"""Time that executors have to give their imports up when their template was killed."""

TEMPLATE_END_S: Final = LAST_CHANCE_S + 5.0
"""Longest wait for a template that was told to end; then it is killed."""

WELCOME_END_S: Final = 5.0
"""Time that an executor which closed its channel before its first run has to end; then it is killed."""

LEAST_FAILED_STARTS: Final = 10
"""So many starts of executors that fail in a row are a fault of their template, not of the moment."""

REFORK_S: Final = 1.0
"""Wait before an executor that died without having carried a run is replaced, so that a fault cannot spin."""

log = structlog.get_logger("transship.runner")


class Condition(StrEnum):
    """What an executor is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    LEAVING = "leaving"
    """It is not given another run."""


@dataclass(slots=True, eq=False)
class Executor:
    """One executor.

    Attributes:
        number: counts executors of this dispatcher.
        pid: 0 until the template has forked it.
        runs: runs it has carried.
        run_id: flow run that it carries now, empty without.
        dry: that run is a probe.
        signalled: it was told to stop its run, so that it is not given another one.
        status: how it ended, as of `subprocess`; None while it lives.
    """

    number: int
    channel: socket.socket
    generation: Generation
    pid: int = 0
    condition: Condition = Condition.STARTING
    runs: int = 0
    first_rss_bytes: int = 0
    run_id: str = ""
    dry: bool = False
    signalled: bool = False
    since: float = 0.0
    status: int | None = None
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.pid and self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(slots=True, eq=False)
class Generation:
    """A template and its executors.

    Attributes:
        retired: it forks no more; its executors end after their run.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    ready: asyncio.Future[Ready]
    retired: bool = False
    gone: bool = False
    executors: set[Executor] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What became of a run that an executor was given.

    Attributes:
        outcome: how its executor ended it; None when the executor died.
        state_type: the run's last state as far as the executor knew.
        message: what went wrong, for people; empty if nothing did.
        pid: the executor.
    """

    outcome: Outcome | None
    state_type: str
    message: str
    pid: int


class Pool:
    """Keeps a number of executors ready.

    Args:
        size: how many.
        limits: when they are replaced.
        entrypoints: module paths of the flows that the template imports.
        environment: of the template and all executors.
        on_change: called after every change that `executors` shows.
        template: module that is the template.

    Attributes:
        on_template_lost: called when the template has ended, or cannot make executors any more.
        on_executor_end: called when an executor has ended.
    """

    def __init__(
        self,
        size: int,
        limits: WearLimits,
        entrypoints: Sequence[str],
        environment: Mapping[str, str],
        on_change: Callable[[], None] = lambda: None,
        template: str = "transship.runner.template",
    ) -> None:
        self.size, self.limits = size, limits
        self._template = template
        self._failed_starts = 0
        self._entrypoints, self._environment, self._on_change = entrypoints, environment, on_change
        self._generations: list[Generation] = []
        self._idle: list[Executor] = []
        self._waiting: list[asyncio.Future[Executor]] = []
        self._numbers = 0
        self._closing = False
        self._templates: set[int] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self.on_template_lost: Callable[[], None] = lambda: None
        self.on_executor_end: Callable[[], None] = lambda: None
        self.unavailable = ""

    # --- what others see ---

    @property
    def executors(self) -> list[Executor]:
        """All executors, oldest first."""
        found = [executor for generation in self._generations for executor in generation.executors]
        return sorted(found, key=lambda executor: executor.number)

    @property
    def idle_count(self) -> int:
        """How many could take a run at once."""
        return len(self._idle)

    @property
    def template_pid(self) -> int:
        """The template that forks now; 0 without."""
        return self._current.process.pid if self._current is not None else 0

    @property
    def pids(self) -> set[int]:
        """All processes of the pool."""
        return self._templates | {executor.pid for executor in self.executors}

    @property
    def _current(self) -> Generation | None:
        alive = [one for one in self._generations if not one.retired and not one.gone and one.ready.done()]
        return alive[-1] if alive else None

    # --- life ---

    async def start(self) -> Ready:
        """Start a template and its executors; a former template makes no more, and its executors end after their run.

        Raises:
            WarmEngineUnavailable: it did not come up; the former one goes on.
        """
        try:
            generation = self._start_template()
        except OSError as error:
            raise WarmEngineUnavailable(f"the template cannot be started: {error}") from error
        try:
            async with asyncio.timeout(TEMPLATE_START_S):
                ready = await generation.ready
        except TimeoutError:
            self._drop(generation)
            raise WarmEngineUnavailable(f"the template was not ready within {TEMPLATE_START_S:.0f} s") from None
        except WarmEngineUnavailable:
            self._drop(generation)
            raise
        if ready.problems:
            self._drop(generation)
            raise WarmEngineUnavailable("; ".join(ready.problems))
        for former in list(self._generations):
            if former is not generation:
                self._retire(former)
        self.unavailable = ""
        self._fill()
        return ready

    async def close(self, interrupt: bool = True) -> None:
        """End all executors and templates.

        Args:
            interrupt: give running imports up; else wait for their end.
        """
        self._closing = True
        self.refuse("the runner is stopping")
        generations = list(self._generations)
        for generation in generations:
            self._retire(generation)
            if interrupt:
                for executor in generation.executors:
                    executor.signal(signal.SIGTERM)
        for generation in generations:
            for executor in list(generation.executors):
                await executor.ended.wait()
            self._drop(generation)
        # The templates themselves.
        await asyncio.gather(*self._tasks)

    def kill_all(self) -> None:
        """Kill every executor with its group; what they carried is lost."""
        for executor in self.executors:
            if executor.pid:
                signal_group(executor.pid, signal.SIGKILL)

    def abandon(self, reason: str) -> None:
        """Keep no template and no executor but those that carry a run; give nobody one until the next `start`."""
        self.refuse(reason)
        for generation in list(self._generations):
            unproven = [one for one in generation.executors if one.dry or one.condition is Condition.STARTING]
            self._retire(generation)
            for executor in unproven:
                self._give_up(executor)

    def _give_up(self, executor: Executor) -> None:
        """Kill an executor, and do not wait for its template to say so: that may be what does not work."""
        if executor.pid:
            # One that hangs early has no group of its own yet.
            executor.signal(signal.SIGKILL)
            signal_group(executor.pid, signal.SIGKILL)
        self._on_executor_end(executor, -signal.SIGKILL)

    def resize(self, size: int, limits: WearLimits) -> None:
        """Keep another number of executors from now on."""
        self.size, self.limits = size, limits
        while len(self._idle) and len(self._usable()) > size:
            self._leave(self._idle.pop())
        self._fill()

    # --- runs ---

    def take_idle(self) -> Executor | None:
        """Return an executor that is idle and not given to others until `give_back` or `carry`; None without one."""
        while self._idle:
            executor = self._idle.pop()
            if executor.status is None and executor.condition is Condition.IDLE:
                executor.condition = Condition.BUSY
                return executor
        return None

    async def take(self) -> Executor:
        """Wait for an executor, as `take_idle`; first come, first served.

        Raises:
            WarmEngineUnavailable: there will be none for now.
        """
        if self._closing:
            raise WarmEngineUnavailable("the runner is stopping")
        if self.unavailable:
            raise WarmEngineUnavailable(self.unavailable)
        executor = self.take_idle()
        if executor is not None:
            return executor
        waiting: asyncio.Future[Executor] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self.give_back(waiting.result())
            raise

    def refuse(self, reason: str) -> None:
        """Give nobody an executor until the next `start`; who waits for one is told why."""
        self.unavailable = reason
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(WarmEngineUnavailable(reason))
        self._waiting.clear()

    def give_back(self, executor: Executor) -> None:
        """Return an executor that was taken and given no run."""
        self._is_free(executor)

    async def carry(self, executor: Executor, job: Job) -> RunEnd:
        """Give a taken executor a run, and wait for its end."""
        executor.run_id, executor.since = str(job.run["id"]), asyncio.get_running_loop().time()
        executor.dry = job.dry
        self._on_change()
        done = await self._ask(executor, job)
        if done is None:
            await executor.ended.wait()
            return RunEnd(None, "", _how_it_ended(executor.status or 0), executor.pid)
        executor.runs += 1
        executor.run_id = ""
        outcome = Outcome(done.outcome)
        wear = Wear(executor.runs, executor.first_rss_bytes, done.rss_bytes, outcome, done.state_type)
        # A signal that met the end of its run must not hit the next one.
        reason = worn_out(wear, self.limits) or ("it was told to stop its run" if executor.signalled else "")
        if reason:
            log.info("executor is replaced", pid=executor.pid, reason=reason)
            self._leave(executor)
        else:
            self._is_free(executor)
        return RunEnd(outcome, done.state_type, done.message, executor.pid)

    def cancel(self, run_id: str) -> bool:
        """Tell the executor of a run to stop it; False if none carries it."""
        return self._signal_run(run_id, CANCEL_SIGNAL)

    def interrupt(self, run_id: str) -> bool:
        """Tell the executor of a run to give it up, to be resumed later; False if none carries it."""
        return self._signal_run(run_id, signal.SIGTERM)

    def kill(self, run_id: str) -> bool:
        """Kill the executor of a run with all that it started; False if none carries it."""
        executor = self._executor_of(run_id)
        if executor is None or not executor.pid:
            return False
        executor.signalled = True
        signal_group(executor.pid, signal.SIGKILL)
        return True

    def _signal_run(self, run_id: str, number: signal.Signals) -> bool:
        executor = self._executor_of(run_id)
        if executor is None:
            return False
        executor.signalled = True
        executor.signal(number)
        return True

    def _executor_of(self, run_id: str) -> Executor | None:
        return next((executor for executor in self.executors if executor.run_id == run_id), None)

    async def _ask(self, executor: Executor, job: Job) -> Done | None:
        """Send a job and return the answer; None when the executor died."""
        if executor.reader is None or executor.writer is None:
            return None
        try:
            executor.writer.write(job.encode() + b"\n")
            await executor.writer.drain()
            line = await executor.reader.readline()
        except (ConnectionError, ValueError):
            return None
        return Done.decode(line) if line.endswith(b"\n") else None

    # --- executors ---

    def _usable(self) -> list[Executor]:
        return [
            executor
            for generation in self._generations
            if not generation.retired and not generation.gone
            for executor in generation.executors
            if executor.condition is not Condition.LEAVING
        ]

    def _fill(self) -> None:
        """Ask for as many executors as are missing."""
        generation = self._current
        if generation is None or self._closing:
            return
        for _ in range(self.size - len(self._usable())):
            self._fork(generation)

    def _fork(self, generation: Generation) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            log.warning("no socket for an executor", reason=error.strerror)
            self._start_failed()
            return
        self._numbers += 1
        executor = Executor(self._numbers, ours, generation, since=asyncio.get_running_loop().time())
        generation.executors.add(executor)
        with theirs:
            try:
                socket.send_fds(generation.control, [Fork(executor.number).encode()], [theirs.fileno()])
            except OSError:
                # The template is gone; what is left is done when its end is noticed.
                generation.executors.discard(executor)
                ours.close()
                return
        self._spawn(self._welcome(executor))

    async def _welcome(self, executor: Executor) -> None:
        """Wait until a new executor is ready for its first run."""
        executor.channel.setblocking(False)
        executor.reader, executor.writer = await asyncio.open_connection(sock=executor.channel, limit=LINE_BYTES)
        try:
            line = await executor.reader.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            await self._see_failed_start_off(executor)
            # Its end may have been told before there was anything to close.
            executor.writer.close()
            return
        self._failed_starts = 0
        ready = Done.decode(line)
        executor.pid, executor.first_rss_bytes = ready.pid, ready.rss_bytes
        if executor.generation.retired:
            self._leave(executor)
        else:
            self._is_free(executor)

    async def _see_failed_start_off(self, executor: Executor) -> None:
        """Wait until the template has told the end of an executor that closed its channel; else put one to it."""
        try:
            async with asyncio.timeout(WELCOME_END_S):
                await executor.ended.wait()
        except TimeoutError:
            self._give_up(executor)

    def _start_failed(self) -> None:
        """Try again in a while; when that does not help either, the template is taken for lost."""
        self._failed_starts += 1
        if self._failed_starts >= LEAST_FAILED_STARTS:
            self._failed_starts = 0
            self.on_template_lost()
        asyncio.get_running_loop().call_later(REFORK_S, self._fill)

    def _is_free(self, executor: Executor) -> None:
        """Give an executor to who waits longest, or keep it."""
        if executor.generation.retired or executor.status is not None or len(self._usable()) > self.size:
            self._leave(executor)
            return
        while self._waiting:
            waiting = self._waiting.pop(0)
            if not waiting.done():
                executor.condition = Condition.BUSY
                waiting.set_result(executor)
                return
        executor.condition, executor.since = Condition.IDLE, asyncio.get_running_loop().time()
        self._idle.append(executor)
        self._on_change()

    def _leave(self, executor: Executor) -> None:
        """Let an executor end by itself; its place is filled at once."""
        executor.condition = Condition.LEAVING
        if executor in self._idle:
            self._idle.remove(executor)
        if executor.writer is not None:
            executor.writer.close()
        self._fill()
        self._on_change()

    def _on_executor_end(self, executor: Executor, status: int) -> None:
        if executor.status is not None:
            return
        executor.status = status
        if executor in self._idle:
            self._idle.remove(executor)
        executor.generation.executors.discard(executor)
        if executor.writer is not None:
            executor.writer.close()
        executor.ended.set()
        if executor.condition is not Condition.LEAVING:
            log.warning("executor ended", pid=executor.pid, how=describe_exit(status), flow_run_id=executor.run_id)
        self.on_executor_end()
        if executor.condition is Condition.STARTING:
            self._start_failed()
        else:
            self._fill()
        if executor.generation.retired and not executor.generation.executors:
            self._drop(executor.generation)
        self._on_change()

    # --- templates ---

    def _start_template(self) -> Generation:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # -P: a directory named like one of our packages in the working directory must not hide it.
            command = (sys.executable, "-P", "-m", self._template, str(theirs.fileno()), *self._entrypoints)
            try:
                process = subprocess.Popen(
                    command,
                    env=dict(self._environment),
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        generation = Generation(process, ours, loop.create_future())
        self._generations.append(generation)
        self._templates.add(process.pid)
        loop.add_reader(ours, self._on_template, generation)
        return generation

    def _on_template(self, generation: Generation) -> None:
        try:
            datagram = generation.control.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            datagram = b""
        if not datagram:
            self._on_template_gone(generation)
            return
        match told_by_template(datagram):
            case Ready() as ready:
                generation.ready.set_result(ready)
            case Forked(number, pid):
                self._on_forked(generation, number, pid)
            case ForkFailed(number, reason):
                self._on_fork_failed(generation, number, reason)
            case Ended(pid, status):
                for executor in list(generation.executors):
                    if executor.pid == pid:
                        self._on_executor_end(executor, status)

    def _on_forked(self, generation: Generation, number: int, pid: int) -> None:
        for executor in generation.executors:
            if executor.number == number:
                executor.pid = pid
        self._on_change()

    def _on_fork_failed(self, generation: Generation, number: int, reason: str) -> None:
        """There is no process of an executor; its place is filled in a while, and the others go on."""
        log.warning("template cannot fork", reason=reason)
        for executor in list(generation.executors):
            if executor.number == number:
                self._on_executor_end(executor, 0)

    def _on_template_gone(self, generation: Generation) -> None:
        """The template has ended by itself or was killed; its executors got SIGTERM from the kernel."""
        asyncio.get_running_loop().remove_reader(generation.control)
        expected = generation.retired
        generation.gone = generation.retired = True
        if not generation.ready.done():
            status = describe_exit(generation.process.wait())
            generation.ready.set_exception(
                WarmEngineUnavailable(f"the template ended while it was starting ({status})")
            )
            return
        for executor in list(generation.executors):
            if executor in self._idle:
                self._idle.remove(executor)
            self._spawn(self._see_orphan_off(executor))
        if not generation.executors:
            self._drop(generation)
        if not expected and not self._closing:
            log.error("template ended", how=describe_exit(generation.process.wait()))
            self.on_template_lost()

    async def _see_orphan_off(self, executor: Executor) -> None:
        """Wait for the end of an executor whose template is gone, which made it our own child."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ORPHAN_CHANCE_S
        status = -signal.SIGKILL
        while executor.pid and start_time(executor.pid) is not None:
            if loop.time() > end:
                signal_group(executor.pid, signal.SIGKILL)
            await asyncio.sleep(0.05)
        if executor.pid:
            with suppress(ChildProcessError):
                _, raw = os.waitpid(executor.pid, os.WNOHANG)
                status = os.waitstatus_to_exitcode(raw)
            signal_group(executor.pid, signal.SIGKILL)
        self._on_executor_end(executor, status)

    def _retire(self, generation: Generation) -> None:
        """Let a template end when its last run has."""
        generation.retired = True
        for executor in list(generation.executors):
            if executor.condition in (Condition.IDLE, Condition.STARTING):
                self._leave(executor)
        if not generation.executors:
            self._drop(generation)

    def _drop(self, generation: Generation) -> None:
        """End a template that is not needed; it ends what it still has."""
        if generation not in self._generations:
            return
        self._generations.remove(generation)
        generation.retired = True
        if not generation.gone:
            asyncio.get_running_loop().remove_reader(generation.control)
        generation.control.close()
        self._spawn(self._reap(generation))

    async def _reap(self, generation: Generation) -> None:
        try:
            await asyncio.to_thread(generation.process.wait, TEMPLATE_END_S)
        except subprocess.TimeoutExpired:
            generation.process.kill()
            await asyncio.to_thread(generation.process.wait)
        self._templates.discard(generation.process.pid)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _how_it_ended(status: int) -> str:
    how = describe_exit(status)
    return f"was {how}" if status < 0 else f"ended with {how}"
