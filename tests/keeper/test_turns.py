"""Projects take turns, and none has more under way than it may."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import insert, select

from tests.fakes.images import NOW, queued_image, settings_in, web_order
from transship.catalog.endings import end_unheld
from transship.catalog.engine import Catalog
from transship.catalog.imports import Caller, ask_import, begin_import
from transship.catalog.outbox import OutboxKind, done, post
from transship.catalog.schema import OUTBOX, TASKS
from transship.catalog.tasks import get_task
from transship.keeper.prefect_api import PrefectApi
from transship.keeper.service import Keeper


def keeper_of(catalog: Catalog, home: Path, **limits: int) -> Keeper:
    return Keeper(settings_in(home, imports=limits), catalog, PrefectApi("http://127.0.0.1:1/api", ""), "one")


def ask(catalog: Catalog, project: str) -> str:
    return ask_import(catalog, queued_image(catalog).id, web_order(), Caller(project_id=project), NOW).id


def turns(keeper: Keeper) -> list[str]:
    return [str(row.task_id) for row in keeper._rows_in_turn()]


def hand_over(keeper: Keeper) -> list[str]:
    """Give the turns, as if Prefect had taken them."""
    given = keeper._rows_in_turn()
    with keeper.catalog.write() as connection:
        for row in given:
            done(connection, row)
    return [str(row.task_id) for row in given]


def message(catalog: Catalog, task_id: str) -> str:
    with catalog.read() as connection:
        return get_task(connection, task_id).message


def test_a_single_import_does_not_wait_behind_a_project_that_asked_for_many(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, dispatch_ahead=4)
    many = [ask(catalog, "many") for _ in range(10)]
    single = ask(catalog, "single")
    assert turns(keeper) == [many[0], single, many[1], many[2]]


def test_the_rest_waits_with_a_reason_until_a_worker_has_begun_one(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, dispatch_ahead=2)
    tasks = [ask(catalog, "p") for _ in range(4)]
    assert hand_over(keeper) == tasks[:2]
    assert hand_over(keeper) == []
    assert "waits for its turn" in message(catalog, tasks[2])
    begin_import(catalog, tasks[0], str(uuid4()), "worker", ttl_s=3600.0, now=NOW)
    assert message(catalog, tasks[0]) == ""
    assert hand_over(keeper) == tasks[2:3]


def test_a_project_has_no_more_under_way_than_it_may(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, max_per_project=1)
    first, second, other = ask(catalog, "p"), ask(catalog, "p"), ask(catalog, "q")
    assert hand_over(keeper) == [first, other]
    assert "until its project has less than 1 imports under way" in message(catalog, second)
    begin_import(catalog, first, str(uuid4()), "worker", ttl_s=3600.0, now=NOW)
    assert hand_over(keeper) == []
    end_unheld(catalog, other, "over", now=NOW, time_to_live_h=1)
    assert second not in hand_over(keeper)


def test_the_next_one_comes_when_the_one_before_has_ended(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, max_per_project=1)
    first, second = ask(catalog, "p"), ask(catalog, "p")
    hand_over(keeper)
    assert end_unheld(catalog, first, "over", now=NOW, time_to_live_h=1)
    assert hand_over(keeper)[-1] == second


def test_imports_that_nobody_begins_keep_the_others_waiting_for_a_while_only(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(catalog, tmp_path, dispatch_ahead=1)
    ask(catalog, "p")
    later = ask(catalog, "p")
    hand_over(keeper)
    assert hand_over(keeper) == []
    monkeypatch.setattr("transship.keeper.service.UNBEGUN_FORGOTTEN_S", -1.0)
    assert hand_over(keeper) == [later]


def test_a_project_that_asked_for_more_than_a_thousand_hides_nobody(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, dispatch_ahead=2)
    first = ask(catalog, "many")
    copies = [str(uuid4()) for _ in range(1100)]
    with catalog.write() as connection:
        (task,) = connection.execute(select(TASKS).where(TASKS.c.id == first)).mappings()
        connection.execute(insert(TASKS), [{**task, "id": copy} for copy in copies])
        (row,) = connection.execute(select(OUTBOX)).mappings()
        rest = {name: value for name, value in row.items() if name != "id"}
        connection.execute(insert(OUTBOX), [{**rest, "key": f"{copy}/1", "task_id": copy} for copy in copies])
        post(connection, OutboxKind.SWEEP, "sweep", None)
    single = ask(catalog, "single")
    assert turns(keeper) == ["None", first, single]
    assert "waits for its turn" in message(catalog, copies[-1])
    assert message(catalog, single) == ""


def test_what_is_no_import_waits_for_no_turn(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, dispatch_ahead=1)
    for _ in range(3):
        ask(catalog, "p")
    with catalog.write() as connection:
        post(connection, OutboxKind.SWEEP, "sweep", None)
    assert [row.kind for row in keeper._rows_in_turn()] == [OutboxKind.SWEEP, OutboxKind.DISPATCH]
