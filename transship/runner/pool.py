"""The dispatcher's pool of executors: forked by a template, used for one run at a time, replaced when worn out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from transship.domain.errors import WarmEngineUnavailable
from transship.host.processes import describe_exit
from transship.runner.generation import Condition, Executor, Generation
from transship.runner.idle_executors import IdleExecutors
from transship.runner.messages import CANCEL_SIGNAL, Job, Outcome, Ready
from transship.runner.recycling import Wear, WearLimits, worn_out
from transship.runner.template import ForkedTemplate

TEMPLATE_START_S: Final = 120.0
"""Longest wait for a template's imports, on a busy machine."""

WELCOME_END_S: Final = 5.0
"""Time for an executor that closed its channel before its first run to end before it is killed."""

LEAST_FAILED_STARTS: Final = 10
"""After this many consecutive failed starts of executors, their template counts as faulty."""

REST_S: Final = 20.0
"""An executor that has carried runs and is idle for so long is not needed now."""

REFORK_S: Final = 1.0
"""Delay before an executor that died without a run is replaced, so a fault does not cause a busy loop."""

log = structlog.get_logger("transship.runner")


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run in an executor ended.

    Attributes:
        outcome: how its executor ended it; None if the executor died.
        state_type: of the run's last state known to the executor.
        message: what went wrong, for display; empty if nothing did.
        pid: of the executor.
    """

    outcome: Outcome | None
    state_type: str
    message: str
    pid: int


class Pool:
    """Keeps a number of executors ready.

    Args:
        size: how many.
        limits: at which they are replaced.
        entrypoints: module paths of the flows that the template imports.
        environment: of the template and all executors.
        on_change: called after every change to `executors`.
        template: module that runs as the template in a fresh interpreter.
        first: a running template for the first `start`.

    Attributes:
        on_template_lost: called when the template has ended, or can no longer fork executors.
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
        first: ForkedTemplate | None = None,
    ) -> None:
        self.size, self.limits = size, limits
        self._first = first
        self._template = template
        self._failed_starts = 0
        self._entrypoints, self._environment, self._on_change = entrypoints, environment, on_change
        self._generations: list[Generation] = []
        self._idle = IdleExecutors(self.give_back)
        self._numbers = 0
        self._closing = False
        self._templates: set[int] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self.on_template_lost: Callable[[], None] = lambda: None
        self.on_executor_end: Callable[[], None] = lambda: None

    # --- what others see ---

    @property
    def executors(self) -> list[Executor]:
        """All executors, oldest first."""
        found = [executor for generation in self._generations for executor in generation.executors]
        return sorted(found, key=lambda executor: executor.number)

    @property
    def idle_count(self) -> int:
        """Number of executors that could take a run at once."""
        return len(self._idle)

    @property
    def template_pid(self) -> int:
        """The current template's pid; 0 without a template."""
        return self._current.process.pid if self._current is not None else 0

    @property
    def pids(self) -> set[int]:
        """All processes of the pool."""
        return self._templates | {executor.pid for executor in self.executors}

    @property
    def _current(self) -> Generation | None:
        return next((one for one in reversed(self._generations) if one.can_fork), None)

    # --- life ---

    async def start(self) -> Ready:
        """Start a template and its executors; retire the former template, whose executors end after their run.

        Raises:
            WarmEngineUnavailable: the template did not start; the former one stays in use.
        """
        first, self._first = self._first, None
        try:
            generation = (
                Generation.of(self, first.process, first.control)
                if first is not None
                else Generation.start(self, self._template, self._entrypoints, self._environment)
            )
        except OSError as error:
            raise WarmEngineUnavailable(f"the template cannot be started: {error}") from error
        self._generations.append(generation)
        self._templates.add(generation.process.pid)
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
        self._idle.serve()
        self._fill()
        return ready

    async def close(self, interrupt: bool = True) -> None:
        """End all executors and templates.

        Args:
            interrupt: interrupt running imports; else wait for their end.
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
        """Kill every executor with its group; their runs are lost."""
        for executor in self.executors:
            executor.kill()

    def abandon(self, reason: str) -> None:
        """End the template and all executors without a run; refuse callers until the next `start`."""
        self.refuse(reason)
        for generation in list(self._generations):
            unproven = [one for one in generation.executors if one.dry or one.condition is Condition.STARTING]
            self._retire(generation)
            for executor in unproven:
                self._give_up(executor)

    def _give_up(self, executor: Executor) -> None:
        """Kill an executor without waiting for the template's message, because the template may hang."""
        # An executor that hangs early has no group of its own yet.
        executor.signal(signal.SIGKILL)
        executor.kill()
        self.executor_ended(executor, -signal.SIGKILL)

    def resize(self, size: int, limits: WearLimits) -> None:
        """Change the number of executors and their limits."""
        self.size, self.limits = size, limits
        while len(self._usable()) > size and (executor := self.take_idle()) is not None:
            self._leave(executor)
        self._fill()

    # --- runs ---

    def take_idle(self) -> Executor | None:
        """Take an idle executor until `give_back` or `carry`; None if there is none."""
        return self._idle.take_now()

    async def take(self) -> Executor:
        """Wait for an idle executor and take it; first come, first served.

        Raises:
            WarmEngineUnavailable: none will become available for now.
        """
        if self._closing:
            raise WarmEngineUnavailable("the runner is stopping")
        return await self._idle.take()

    def refuse(self, reason: str) -> None:
        """Refuse callers until the next `start`; waiting callers get the reason."""
        self._idle.refuse(reason)

    def renew_rested(self, rest_s: float = REST_S) -> None:
        """Replace an executor that imports do not need now: a new fork holds a third of its memory.

        One at a time, so that no import waits; the one that was used last stays for imports that come one by one.
        """
        executor = self._idle.rested(asyncio.get_running_loop().time() - rest_s)
        if executor is not None:
            log.info("executor is replaced", pid=executor.pid, reason=f"it has been idle for {rest_s:g} s")
            self._leave(executor)

    def give_back(self, executor: Executor) -> None:
        """Return an executor that was taken but not used."""
        self._is_free(executor)

    async def carry(self, executor: Executor, job: Job) -> RunEnd:
        """Carry out a run in a taken executor, and wait for its end."""
        executor.run_id, executor.since = str(job.run["id"]), asyncio.get_running_loop().time()
        executor.dry = job.dry
        self._on_change()
        done = await executor.ask(job)
        if done is None:
            await executor.ended.wait()
            return RunEnd(None, "", _how_it_ended(executor.status or 0), executor.pid)
        executor.runs += 1
        executor.run_id = ""
        outcome = Outcome(done.outcome)
        wear = Wear(executor.runs, executor.first_rss_bytes, done.rss_bytes, outcome, done.state_type)
        # A late signal for this run must not hit the next one.
        reason = worn_out(wear, self.limits) or ("it was told to stop its run" if executor.signalled else "")
        if reason:
            log.info("replacing an executor", pid=executor.pid, reason=reason)
            self._leave(executor)
        else:
            self._is_free(executor)
        return RunEnd(outcome, done.state_type, done.message, executor.pid)

    def cancel(self, run_id: str) -> bool:
        """Tell the executor of a run to stop it; return False if there is none."""
        return self._signal_run(run_id, CANCEL_SIGNAL)

    def interrupt(self, run_id: str) -> bool:
        """Tell the executor of a run to interrupt it, to be resumed later; return False if there is none."""
        return self._signal_run(run_id, signal.SIGTERM)

    def kill(self, run_id: str) -> bool:
        """Kill the executor of a run and all its children; return False if there is none."""
        executor = self._executor_of(run_id)
        if executor is None or not executor.pid:
            return False
        executor.signalled = True
        executor.kill()
        return True

    def give_up(self, pid: int) -> bool:
        """Kill a hung executor and all its children; return False if it is not in this pool.

        It is replaced and its run ended at once, because its template may hang too.
        """
        executor = next((one for one in self.executors if one.pid == pid), None)
        if executor is None:
            return False
        self._give_up(executor)
        return True

    def pid_of(self, run_id: str) -> int:
        """Return the pid of a run's executor; 0 if there is none."""
        executor = self._executor_of(run_id)
        return executor.pid if executor is not None else 0

    def _signal_run(self, run_id: str, number: signal.Signals) -> bool:
        executor = self._executor_of(run_id)
        if executor is None:
            return False
        executor.signalled = True
        executor.signal(number)
        return True

    def _executor_of(self, run_id: str) -> Executor | None:
        return next((executor for executor in self.executors if executor.run_id == run_id), None)

    # --- executors ---

    def _usable(self) -> list[Executor]:
        return [
            executor
            for generation in self._generations
            if not generation.retired
            for executor in generation.executors
            if executor.condition is not Condition.LEAVING
        ]

    def _fill(self) -> None:
        """Fork the missing executors."""
        generation = self._current
        if generation is None or self._closing:
            return
        for _ in range(self.size - len(self._usable())):
            self._fork(generation)

    def _fork(self, generation: Generation) -> None:
        self._numbers += 1
        try:
            executor = generation.fork(self._numbers)
        except OSError as error:
            log.warning("no socket for an executor", reason=error.strerror)
            self._start_failed()
            return
        if executor is not None:
            self._spawn(self._wait_ready(executor))

    async def _wait_ready(self, executor: Executor) -> None:
        """Wait until a new executor is ready for its first run."""
        ready = await executor.wait_ready()
        if ready is None:
            await self._end_failed_start(executor)
            # Its end may have been reported before there was anything to close.
            executor.close()
            return
        self._failed_starts = 0
        executor.pid, executor.first_rss_bytes = ready.pid, ready.rss_bytes
        if executor.generation.retired:
            self._leave(executor)
        else:
            self._is_free(executor)

    async def _end_failed_start(self, executor: Executor) -> None:
        """Wait for the template to report the end of an executor that closed its channel; kill it after a while."""
        try:
            async with asyncio.timeout(WELCOME_END_S):
                await executor.ended.wait()
        except TimeoutError:
            self._give_up(executor)

    def _start_failed(self) -> None:
        """Retry after a while; after repeated failures the template counts as lost."""
        self._failed_starts += 1
        if self._failed_starts >= LEAST_FAILED_STARTS:
            self._failed_starts = 0
            self.on_template_lost()
        asyncio.get_running_loop().call_later(REFORK_S, self._fill)

    def _is_free(self, executor: Executor) -> None:
        """Assign an executor to the first waiting caller, or keep it."""
        if executor.generation.retired or executor.status is not None or len(self._usable()) > self.size:
            self._leave(executor)
            return
        if not self._idle.hand_over(executor):
            self._idle.keep(executor)
            self._on_change()

    def _leave(self, executor: Executor) -> None:
        """Make an executor end, and replace it at once."""
        executor.condition = Condition.LEAVING
        self._idle.remove(executor)
        executor.close()
        self._fill()
        self._on_change()

    # --- notifications from generations ---

    def changed(self) -> None:
        """An executor's attributes have changed."""
        self._on_change()

    def executor_ended(self, executor: Executor, status: int) -> None:
        """Replace an executor that has ended, or could not be forked; does nothing when called again."""
        if executor.status is not None:
            return
        executor.status = status
        self._idle.remove(executor)
        executor.generation.executors.discard(executor)
        executor.close()
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

    def template_ended(self, generation: Generation, expected: bool) -> None:
        """Wait for the executors of a template that has ended; the kernel sent them SIGTERM."""
        for executor in list(generation.executors):
            self._idle.remove(executor)
            self._spawn(self._end_orphan(executor))
        if not generation.executors:
            self._drop(generation)
        if not expected and not self._closing:
            log.error("template ended", how=describe_exit(generation.process.wait()))
            self.on_template_lost()

    async def _end_orphan(self, executor: Executor) -> None:
        self.executor_ended(executor, await executor.end_as_orphan())

    # --- the end of generations ---

    def _retire(self, generation: Generation) -> None:
        """End a template after its last run."""
        generation.retired = True
        for executor in list(generation.executors):
            if executor.condition in (Condition.IDLE, Condition.STARTING):
                self._leave(executor)
        if not generation.executors:
            self._drop(generation)

    def _drop(self, generation: Generation) -> None:
        """End an unneeded template; it ends its remaining executors first."""
        if generation not in self._generations:
            return
        self._generations.remove(generation)
        generation.disconnect()
        self._spawn(self._reap(generation))

    async def _reap(self, generation: Generation) -> None:
        await generation.reap()
        self._templates.discard(generation.process.pid)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _how_it_ended(status: int) -> str:
    how = describe_exit(status)
    return f"was {how}" if status < 0 else f"ended with {how}"
