"""Runs that are Pending although no process is about to begin them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import anyio
import pytest
from prefect.client.orchestration import PrefectClient, get_client

from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner
from transship.runner.orphans import GracePeriods, give_back_orphans

pytestmark = pytest.mark.real

AT_ONCE = GracePeriods(0.0, 0.0)
LONG = GracePeriods(3600.0, 3600.0)


@pytest.fixture
def idle(prefect_server: PrefectServer, tmp_path: Path) -> Runner:
    """A work pool with flows, and nobody who carries them."""
    made = Runner(prefect_server, tmp_path)
    made.make_pool()
    return made


@asynccontextmanager
async def client_of(server: PrefectServer) -> AsyncIterator[PrefectClient]:
    with server.as_client():
        async with get_client() as client:
            yield client


def given_back(idle: Runner, ours: set[UUID], grace: GracePeriods = AT_ONCE) -> list[str]:
    async def ask() -> list[UUID]:
        async with client_of(idle.server) as client:
            return await give_back_orphans(client, idle.pool, ("default",), ours, "here", grace)

    return [str(run_id) for run_id in anyio.run(ask)]


def test_a_run_that_nobody_holds_is_scheduled_again(idle: Runner) -> None:
    run = idle.born_pending("quick", "lost")
    assert given_back(idle, set()) == [run["id"]]
    assert idle.run(run["id"])["state"]["type"] == "SCHEDULED"


def test_a_run_that_we_hold_stays(idle: Runner) -> None:
    run = idle.born_pending("quick", "held")
    assert given_back(idle, {UUID(run["id"])}) == []
    assert idle.run(run["id"])["state"]["type"] == "PENDING"


def test_a_run_that_was_just_born_stays(idle: Runner) -> None:
    idle.born_pending("quick", "young")
    assert given_back(idle, set(), LONG) == []


def test_a_run_of_another_queue_stays(idle: Runner) -> None:
    run = idle.born_pending("quick", "another's", queue="host-another")
    assert given_back(idle, set()) == []
    assert idle.run(run["id"])["state"]["type"] == "PENDING"


def test_where_others_take_runs_too_they_are_given_more_time(idle: Runner) -> None:
    idle.server.ask("POST", f"/work_pools/{idle.pool}/workers/heartbeat", {"name": "there"})
    run = idle.born_pending("quick", "shared")
    assert given_back(idle, set(), GracePeriods(0.0, 3600.0)) == []
    assert given_back(idle, set()) == [run["id"]]
