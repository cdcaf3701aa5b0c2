"""Which engine is used, and what happens to unusable executors. Without Prefect's server."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.trial_template import HANGS
from transship.host.processes import running_children, start_time
from transship.runner.engine import Engine
from transship.runner.generation import Executor
from transship.runner.messages import Job
from transship.runner.pool import Pool, RunEnd
from transship.runner.recycling import WearLimits

TEMPLATE = "tests.fakes.trial_template"


@dataclass
class Carrier:
    pool: Pool | None = None


@dataclass
class Trial:
    """A pool and the engine over it."""

    pool: Pool
    engine: Engine
    carrier: Carrier

    async def begin(self, run_id: str, entrypoint: str = HANGS) -> tuple[Executor, asyncio.Task[RunEnd]]:
        executor = await self.pool.take()
        run = asyncio.create_task(self.pool.carry(executor, Job({"id": run_id}, entrypoint)))
        await asyncio.sleep(0)
        return executor, run


def tried(what: str, test: Callable[[Trial], Awaitable[None]], size: int = 1, dry_run_s: float = 120.0) -> None:
    """Run a test with a pool whose template does as told; nothing may be left of it."""
    before = set(running_children(os.getpid()))

    async def run() -> None:
        pool = Pool(size, WearLimits(50, 1 << 40), [what], os.environ, template=TEMPLATE)
        carrier = Carrier()
        try:
            async with asyncio.timeout(300):
                await test(Trial(pool, Engine(pool, carrier, dry_run_s=dry_run_s), carrier))
        finally:
            pool.kill_all()
            await pool.close()

    asyncio.run(run())
    assert set(running_children(os.getpid())) <= before


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    return start_time(pid) is None


@pytest.mark.parametrize("what", ["exits", "hangs", "deaf", "closes"])
def test_executors_of_no_use_put_the_cold_engine_in_force_and_are_not_kept(what: str) -> None:
    async def test(trial: Trial) -> None:
        trial.carrier.pool = trial.pool
        await trial.engine.warm_up()
        assert trial.carrier.pool is None
        assert trial.engine.reason == "a dry run did not end within 2 s"
        await until(lambda: not trial.pool.executors and not trial.pool.pids)

    tried(what, test, dry_run_s=2.0)


def test_a_template_that_cannot_be_started_puts_the_cold_engine_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(trial: Trial) -> None:
        monkeypatch.setattr("sys.executable", "/no/such/interpreter")
        await trial.engine.warm_up()
        assert "the template cannot be started" in trial.engine.reason
        assert trial.carrier.pool is None

    tried("well", test)


def test_a_template_that_cannot_be_started_anew_leaves_the_former_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(trial: Trial) -> None:
        await trial.engine.warm_up()
        former = trial.pool.template_pid
        monkeypatch.setattr("sys.executable", "/no/such/interpreter")
        await trial.engine.warm_up()
        assert (trial.pool.template_pid, trial.carrier.pool) == (former, trial.pool)
        await trial.pool.take()

    tried("well", test)


def test_executors_that_rest_are_replaced_but_for_the_one_used_last() -> None:
    async def test(trial: Trial) -> None:
        await trial.pool.start()
        await until(lambda: trial.pool.idle_count == 3)
        runs = [await trial.begin(f"run {number}", "well") for number in range(2)]
        used = [executor.pid for executor, _ in runs]
        await asyncio.gather(*(run for _, run in runs))
        assert trial.pool.idle_count == 3
        fresh = ({one.pid for one in trial.pool.executors} - set(used)).pop()

        trial.pool.renew_rested(rest_s=60.0)
        assert trial.pool.idle_count == 3
        trial.pool.renew_rested(rest_s=-1.0)
        await until(lambda: trial.pool.idle_count == 3 and len(trial.pool.executors) == 3)
        trial.pool.renew_rested(rest_s=-1.0)

        kept = {one.pid for one in trial.pool.executors}
        assert fresh in kept
        assert len(kept & set(used)) == 1
        executor, run = await trial.begin("the next run", "well")
        assert executor.pid in used
        await run

    tried("well", test, size=3)


def test_a_warm_run_goes_on_when_the_cold_engine_is_put_in_force_and_nothing_else_stays() -> None:
    async def test(trial: Trial) -> None:
        await trial.engine.warm_up()
        template = trial.pool.template_pid
        executor, run = await trial.begin("one")
        await until(lambda: trial.pool.idle_count)
        trial.engine.cool_down("as asked")
        await until(lambda: trial.pool.executors == [executor])
        assert not gone(template)
        assert trial.pool.cancel("one")
        assert (await run).message == "was killed by SIGUSR1"
        await until(lambda: gone(template))

    tried("well", test, size=2)


def test_warm_ups_at_the_same_time_leave_one_template() -> None:
    async def test(trial: Trial) -> None:
        await asyncio.gather(trial.engine.warm_up(), trial.engine.warm_up())
        await until(lambda: trial.pool.idle_count == 2)
        assert trial.carrier.pool is trial.pool
        await until(lambda: len(trial.pool.pids) == 3)

    tried("well", test, size=2)


def test_a_fork_that_fails_ends_no_run_and_is_tried_again(tmp_path: Path) -> None:
    full = tmp_path / "full"

    async def test(trial: Trial) -> None:
        await trial.engine.warm_up()
        template = trial.pool.template_pid
        await until(lambda: trial.pool.idle_count == 2)
        one, run = await trial.begin("one")
        _, other = await trial.begin("two")
        full.touch()
        assert trial.pool.kill("two")
        await other
        await until(lambda: trial.pool.executors == [one])
        full.unlink()
        await until(lambda: trial.pool.idle_count == 1)
        assert trial.pool.template_pid == template
        assert not run.done()

    tried(f"forkless:{full}", test, size=2)


def test_a_template_that_starts_no_executor_any_more_is_taken_for_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    monkeypatch.setattr("transship.runner.pool.REFORK_S", 0.01)

    async def test(trial: Trial) -> None:
        lost = asyncio.Event()
        trial.pool.on_template_lost = lost.set
        await trial.engine.warm_up()
        _, run = await trial.begin("one")
        full.touch()
        assert trial.pool.kill("one")
        await run
        await lost.wait()

    tried(f"forkless:{full}", test)


def test_an_executor_that_was_told_to_stop_a_run_gets_no_other() -> None:
    async def test(trial: Trial) -> None:
        await trial.engine.warm_up()
        await until(lambda: trial.pool.idle_count)
        executor, run = await trial.begin("one", "quick")
        # The run has ended there, and the loop has not heard of it yet.
        assert select.select([executor.channel], [], [], 120)[0]
        assert trial.pool.cancel("one")
        await run
        assert (await trial.pool.take()) is not executor

    tried("well", test)
