"""Processes that hang: the decision about them, and what happens to them and their runs. Without Prefect's server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import AwaitingRetry, Running, Scheduled
from prefect.workers.process import ProcessWorker, ProcessWorkerResult

from config.settings import Settings
from tests.fakes.images import NOW, asked, queued_image, settings_in
from tests.fakes.trial_template import HANGS
from transship.catalog.carriers import Standing
from transship.catalog.endings import resume_or_end
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, begin_import
from transship.catalog.leases import expire_lease, process_name
from transship.catalog.tasks import set_flow_run
from transship.host.processes import Standstills, is_stopped, start_time
from transship.runner.carried import Held
from transship.runner.cold import RUN_VARIABLE
from transship.runner.dispatcher import Dispatcher
from transship.runner.generation import Executor
from transship.runner.hung import ENDED_S, LOST_S, HangCheck
from transship.runner.pool import Pool
from transship.runner.recycling import WearLimits
from transship.runner.worker import WarmWorker

# --- decisions -------------------------------------------------------------------------------------


def lost(hang_check: HangCheck, *seen: tuple[Standing, float]) -> list[bool]:
    return [hang_check.is_lost(standing, now) for standing, now in seen]


def test_a_process_that_lost_its_import_is_given_a_moment_and_then_given_up() -> None:
    moments = [(Standing.HELD, 0.0), (Standing.ELSEWHERE, 10.0), (Standing.ELSEWHERE, 10.0 + LOST_S)]
    assert lost(HangCheck(), *moments) == [False, False, True]


def test_a_process_that_begins_may_take_as_long_as_it_needs() -> None:
    assert lost(HangCheck(), (Standing.ELSEWHERE, 0.0), (Standing.ELSEWHERE, 1e6)) == [False, False]


def test_a_process_that_never_began_is_given_up_when_its_run_was_offered_again() -> None:
    hang_check = HangCheck(offered_again=True)
    assert lost(hang_check, (Standing.ELSEWHERE, 0.0), (Standing.ELSEWHERE, LOST_S)) == [False, True]


def test_a_retry_of_a_run_that_lives_changes_nothing() -> None:
    hang_check = HangCheck(offered_again=True)
    assert lost(hang_check, (Standing.ELSEWHERE, 0.0), (Standing.HELD, 1.0), (Standing.HELD, 1e6)) == [False] * 3
    assert hang_check.without_since is None


def test_a_process_whose_import_ended_has_longer_to_tell_prefect_so() -> None:
    moments = [(Standing.HELD, 0.0), (Standing.ENDED, 1.0), (Standing.ENDED, 1.0 + LOST_S)]
    assert lost(HangCheck(), *moments, (Standing.ENDED, 1.0 + ENDED_S)) == [False, False, False, True]


@pytest.mark.parametrize("offered_again", [True, False])
def test_a_run_whose_import_had_ended_before_it_began_is_left_alone(offered_again: bool) -> None:
    assert lost(HangCheck(offered_again=offered_again), (Standing.ENDED, 0.0), (Standing.ENDED, 1e6)) == [False, False]


@pytest.mark.parametrize("offered_again", [True, False])
def test_a_run_without_an_import_is_left_alone(offered_again: bool) -> None:
    assert (
        lost(HangCheck(offered_again=offered_again), (Standing.NO_IMPORT, 0.0), (Standing.NO_IMPORT, 1e6))
        == [False] * 2
    )


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def until_sync(condition: Callable[[], Any]) -> None:
    asyncio.run(until(condition))


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


def test_only_a_process_that_is_stopped_at_every_look_stands_still_for_too_long(sleeper: int) -> None:
    looks = Standstills(60.0)
    assert looks.overdue([sleeper], 0.0) == set()
    os.kill(sleeper, signal.SIGSTOP)
    until_sync(lambda: is_stopped(sleeper))
    assert looks.overdue([sleeper], 10.0) == set()
    assert looks.overdue([sleeper], 69.0) == set()
    os.kill(sleeper, signal.SIGCONT)
    until_sync(lambda: not is_stopped(sleeper))
    assert looks.overdue([sleeper], 71.0) == set()
    os.kill(sleeper, signal.SIGSTOP)
    until_sync(lambda: is_stopped(sleeper))
    assert looks.overdue([sleeper], 100.0) == set()
    assert looks.overdue([sleeper], 160.0) == {sleeper}
    assert not is_stopped(2**22 + 1)


# --- what becomes of them ----------------------------------------------------------------------------


class NotingServer:
    """A client of a server that knows one run.

    Attributes:
        given: names of the states that it was given.
    """

    def __init__(self, state: State[Any], run_count: int) -> None:
        self.state, self.run_count = state, run_count
        self.given: list[str] = []

    async def read_flow_run(self, flow_run_id: UUID) -> FlowRun:
        state_type, count = self.state.type, self.run_count
        return FlowRun(id=flow_run_id, flow_id=uuid4(), state=self.state, state_type=state_type, run_count=count)

    async def read_flow_runs(self, flow_run_filter: FlowRunFilter) -> list[FlowRun]:
        assert flow_run_filter.id is not None
        return [await self.read_flow_run(flow_run_id) for flow_run_id in flow_run_filter.id.any_ or []]

    async def set_flow_run_state(self, flow_run_id: UUID, state: State[Any], force: bool = False) -> None:
        self.given.append(state.name or "")


@dataclass
class Trial:
    """A dispatcher whose executors hang in their runs, and its catalogue."""

    dispatcher: Dispatcher
    catalog: Catalog
    server: NotingServer
    crashed: list[str] = field(default_factory=list)

    @property
    def pool(self) -> Pool:
        return self.dispatcher.pool

    @property
    def worker(self) -> WarmWorker:
        return self.dispatcher.worker

    async def carry(self) -> tuple[FlowRun, Executor, asyncio.Task[None]]:
        """Run a flow that hangs in an executor."""
        flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), state=Scheduled())
        executor = await self.pool.take()
        self.worker.limiter.acquire_on_behalf_of_nowait(flow_run.id)

        async def claimed() -> None:
            self.worker.runs.held[flow_run.id] = Held(flow_run, self.pool)
            try:
                await self.worker._carry(self.pool, executor, flow_run, HANGS)
            finally:
                self.worker._let_go(flow_run.id)

        carrying = asyncio.create_task(claimed())
        await until(lambda: executor.run_id)
        return flow_run, executor, carrying

    def begin(self, flow_run: FlowRun, pid: int) -> Begun:
        """Let a process begin the import of a run."""
        owner = f"{process_name('here', pid)} nonce"
        task = asked(self.catalog, queued_image(self.catalog))
        return begin_import(self.catalog, task.id, str(flow_run.id), owner, ttl_s=3600.0, now=NOW)

    def resume(self, begun: Begun) -> None:
        """Act as the keeper after a lost lease."""
        expire_lease(self.catalog, begun.lease)
        assert resume_or_end(self.catalog, begun.image.id, "lost", crash_retries=9, now=NOW, time_to_live_h=1)

    async def look(self) -> None:
        await self.dispatcher._end_what_hangs()


def tried(settings: Settings, catalog: Catalog, test: Callable[[Trial], Awaitable[None]]) -> None:
    """Run a test with a dispatcher of one executor; all of it is ended then."""

    async def run() -> None:
        dispatcher = Dispatcher(settings, ("default",), (), lambda _: None)
        dispatcher.pool = pool = Pool(1, WearLimits(50, 1 << 40), ["well"], os.environ, template=TEMPLATE)
        worker = dispatcher.worker
        worker.pool, worker._limiter = pool, anyio.CapacityLimiter(1)
        server = NotingServer(Running(), 1)
        worker._client = server  # type: ignore[assignment]  # as far as it is asked
        trial = Trial(dispatcher, catalog, server)

        async def crashed(flow_run: FlowRun, message: str) -> None:
            trial.crashed.append(message)

        worker._propose_crashed_state = crashed  # type: ignore[method-assign,assignment]  # needs a server
        try:
            async with asyncio.timeout(300):
                await pool.start()
                await test(trial)
        finally:
            pool.kill_all()
            await pool.close()
            if dispatcher._catalog is not None:
                dispatcher._catalog.close()

    asyncio.run(run())


TEMPLATE = "tests.fakes.trial_template"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, host_name="here", lease={"ttl_s": 3.0, "renew_s": 1.0})


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process gets a grace period."""
    monkeypatch.setattr("transship.runner.hung.LOST_S", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "its lease thread hangs"])
def test_a_process_that_lost_its_import_is_killed_and_its_slot_is_free_without_a_word_to_prefect(
    catalog: Catalog, settings: Settings, stopped: bool
) -> None:
    async def test(trial: Trial) -> None:
        flow_run, executor, carrying = await trial.carry()
        begun = trial.begin(flow_run, executor.pid)
        await trial.look()
        assert executor.status is None
        if stopped:
            os.kill(executor.pid, signal.SIGSTOP)
        trial.resume(begun)
        trial.worker.runs.held[flow_run.id].hang_check.offered_again = True
        trial.worker.wake.clear()
        await trial.look()
        await carrying
        await until(lambda: start_time(executor.pid) is None)
        assert (trial.worker.carried, trial.worker.runs.held) == (0, {})
        # It is looked for at once: it waits in its queue.
        assert trial.worker.wake.is_set()
        assert (trial.crashed, trial.server.given) == ([], [])
        await until(lambda: trial.pool.idle_count == 1)

    tried(settings, catalog, test)


@pytest.mark.usefixtures("at_once")
def test_a_process_that_lost_its_import_is_killed_although_its_template_is_stopped(
    catalog: Catalog, settings: Settings
) -> None:
    async def test(trial: Trial) -> None:
        flow_run, executor, carrying = await trial.carry()
        begun = trial.begin(flow_run, executor.pid)
        await trial.look()
        template = trial.pool.template_pid
        os.kill(template, signal.SIGSTOP)
        trial.resume(begun)
        await trial.look()
        await carrying
        assert trial.worker.carried == 0
        os.kill(template, signal.SIGCONT)

    tried(settings, catalog, test)


@pytest.mark.usefixtures("at_once")
def test_a_process_that_hangs_before_it_begins_is_killed_when_its_run_is_scheduled_again_though_no_slot_is_free(
    catalog: Catalog, settings: Settings
) -> None:
    async def test(trial: Trial) -> None:
        flow_run, executor, carrying = await trial.carry()
        task = asked(trial.catalog, queued_image(trial.catalog))
        with trial.catalog.write() as connection:
            set_flow_run(connection, task.id, str(flow_run.id))
        # As it was when it was taken: it is shown a moment late.
        assert flow_run.state is not None
        trial.server.state = flow_run.state
        for _ in range(3):
            await trial.worker.look_for_stopped()
            await trial.look()
        assert executor.status is None
        trial.server.state = AwaitingRetry()
        assert await trial.worker.get_and_submit_flow_runs() == []
        await trial.worker.look_for_stopped()
        await trial.look()
        await carrying
        assert (executor.status, trial.worker.carried) == (-signal.SIGKILL, 0)

    tried(settings, catalog, test)


def standing_still(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever is stopped count as stopped for too long."""
    monkeypatch.setattr(trial.dispatcher._standstills, "limit_s", 0.0)


@pytest.mark.parametrize("busy", [True, False])
def test_a_stopped_executor_is_killed_and_replaced_whatever_it_does(
    catalog: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    async def test(trial: Trial) -> None:
        carrying = None
        if busy:
            _, executor, carrying = await trial.carry()
        else:
            executor = await trial.pool.take()
            trial.pool.give_back(executor)
        os.kill(executor.pid, signal.SIGSTOP)
        await until(lambda: is_stopped(executor.pid))
        await trial.look()
        assert executor.status is None
        standing_still(trial, monkeypatch)
        await trial.look()
        await until(lambda: start_time(executor.pid) is None)
        await until(lambda: trial.pool.idle_count == 1)
        if carrying is not None:
            await carrying
            # No import was lost: the run itself is shown as what it is.
            assert trial.crashed == ["its process was killed by SIGKILL"]

    tried(settings, catalog, test)


def test_a_run_whose_tool_is_stopped_is_given_up(
    catalog: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(trial: Trial) -> None:
        _, executor, carrying = await trial.carry()
        standing_still(trial, monkeypatch)
        with subprocess.Popen(["sleep", "600"]) as tool:
            monkeypatch.setattr(
                "transship.runner.dispatcher.descendants", lambda pid: [tool.pid] * (pid == executor.pid)
            )
            await trial.look()
            assert executor.status is None
            tool.send_signal(signal.SIGSTOP)
            await until(lambda: is_stopped(tool.pid))
            await trial.look()
            await carrying
            tool.kill()
        assert executor.status == -signal.SIGKILL

    tried(settings, catalog, test)


def test_a_stopped_template_is_taken_for_lost(
    catalog: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(trial: Trial) -> None:
        missed = asyncio.Event()
        trial.pool.on_template_lost = missed.set
        template = trial.pool.template_pid
        os.kill(template, signal.SIGSTOP)
        await until(lambda: is_stopped(template))
        standing_still(trial, monkeypatch)
        await trial.look()
        await missed.wait()

    tried(settings, catalog, test)


def test_the_end_of_a_process_is_not_told_of_a_run_that_was_begun_again_elsewhere(
    catalog: Catalog, settings: Settings
) -> None:
    """As after a host was frozen and thawed: the run is Running, for the second time."""

    async def test(trial: Trial) -> None:
        trial.server.run_count = 2
        _, executor, carrying = await trial.carry()
        executor.kill()
        await carrying
        assert (trial.crashed, trial.server.given) == ([], [])

    tried(settings, catalog, test)


@pytest.mark.usefixtures("at_once")
def test_a_fresh_interpreter_that_lost_its_import_is_killed_without_a_word_to_prefect(
    catalog: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    async def run(_worker: ProcessWorker, flow_run: FlowRun, *_: object) -> ProcessWorkerResult:
        process = await asyncio.create_subprocess_exec(
            "sleep", "600", env={RUN_VARIABLE: str(flow_run.id), "PATH": os.environ["PATH"]}, start_new_session=True
        )
        started.append(process.pid)
        # With a status other than 0 the worker calls the run crashed.
        return ProcessWorkerResult(status_code=await process.wait(), identifier=str(process.pid))

    monkeypatch.setattr(ProcessWorker, "run", run)

    async def test(trial: Trial) -> None:
        flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), state=Scheduled())
        carrying = asyncio.create_task(trial.worker.run(flow_run, None))
        await until(trial.worker.runs.processes)
        begun = trial.begin(flow_run, started[0])
        await trial.look()
        os.kill(started[0], signal.SIGSTOP)
        trial.resume(begun)
        await trial.look()
        assert (await carrying).status_code == 0
        await until(lambda: start_time(started[0]) is None)
        assert trial.worker.runs.cold == {}

    tried(settings, catalog, test)
