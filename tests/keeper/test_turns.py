"""Projects take turns, and none exceeds its limit of running imports."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import insert, select

from tests.fakes.images import NOW, queued_image, settings_in, web_order
from tests.keeper.test_hosts import staged
from transship.catalog.endings import end_unheld
from transship.catalog.engine import Catalog
from transship.catalog.hosts import note_host
from transship.catalog.imports import Caller, Order, ask_import, begin_import
from transship.catalog.outbox import OutboxKind, done, post
from transship.catalog.schema import OUTBOX, TASKS
from transship.catalog.tasks import get_task
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi
from transship.keeper.turns import explain_waits, rows_in_turn
from transship.keeper.waits import Pool


class AnsweringPrefect(PrefectApi):
    """Prefect as far as it tells of its work pool."""

    def pool(self, name: str) -> Pool:
        return self.known_pool or Pool(name)


@pytest.fixture(autouse=True)
def explained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transship.keeper.turns.UNEXPLAINED_S", -1.0)


def keeper_of(catalog: Catalog, home: Path, **limits: int) -> Keeper:
    return Keeper(settings_in(home, imports=limits), catalog, AnsweringPrefect("http://127.0.0.1:1/api", ""), "one")


def keeper_with_keystone(catalog: Catalog, home: Path, **limits: int) -> Keeper:
    """Return a keeper of a site where projects can be told apart."""
    login = {"auth_url": "http://127.0.0.1:1/v3", "username": "u", "password": "p", "project_name": "service"}
    settings = settings_in(home, imports=limits, api={"auth": "keystone"}, auth=login)
    return Keeper(settings, catalog, AnsweringPrefect("http://127.0.0.1:1/api", ""), "one")


def workers(catalog: Catalog, **slots: int) -> None:
    """Have live hosts, each with so many worker slots."""
    with catalog.write() as connection:
        for host, number in slots.items():
            note_host(connection, host, number)


def ask(catalog: Catalog, project: str) -> str:
    return ask_import(catalog, queued_image(catalog).id, web_order(), Caller(project_id=project), NOW).id


def ask_direct(catalog: Catalog, project: str, host: str) -> str:
    """Ask for the import of data that lie on a host."""
    request = ImportRequest(ImportMethod.GLANCE_DIRECT, stores=("local",))
    order = Order(request, ("local",))
    return ask_import(catalog, staged(catalog, host), order, Caller(project_id=project), NOW).id


def turns(keeper: Keeper) -> list[str]:
    return [str(row.task_id) for row in rows_in_turn(keeper)]


def hand_over(keeper: Keeper) -> list[str]:
    """Give the turns, as if Prefect had taken them."""
    given = rows_in_turn(keeper)
    with keeper.catalog.write() as connection:
        for row in given:
            done(connection, row)
    return [str(row.task_id) for row in given]


def message(catalog: Catalog, task_id: str) -> str:
    """Return what a task says."""
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
    explain_waits(keeper)
    assert "waits for its turn" in message(catalog, tasks[2])
    begin_import(catalog, tasks[0], str(uuid4()), "worker", ttl_s=3600.0, now=NOW)
    assert message(catalog, tasks[0]) == ""
    assert hand_over(keeper) == tasks[2:3]


def test_a_project_has_no_more_under_way_than_it_may(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, max_per_project=1)
    first, second, other = ask(catalog, "p"), ask(catalog, "p"), ask(catalog, "q")
    assert hand_over(keeper) == [first, other]
    explain_waits(keeper)
    assert "until its project has fewer than 1 running imports" in message(catalog, second)
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
    monkeypatch.setattr("transship.keeper.turns.UNBEGUN_FORGOTTEN_S", -1.0)
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
    last = ask(catalog, "many")
    single = ask(catalog, "single")
    assert turns(keeper) == ["None", first, single]
    explain_waits(keeper)
    assert "waits for its turn" in message(catalog, last)


@pytest.mark.parametrize(
    ("slots", "pool_limit", "share"),
    [
        ({"one": 4}, None, 3),
        ({"one": 4, "two": 2}, None, 5),
        ({"one": 1}, None, 1),
        ({"one": 2}, None, 1),
        ({}, None, 3),  # no worker was heard yet: as the settings say
        ({"one": 4, "two": 4}, 3, 2),
    ],
)
def test_by_default_one_slot_stays_free_of_each_project(
    catalog: Catalog, tmp_path: Path, slots: dict[str, int], pool_limit: int | None, share: int
) -> None:
    keeper = keeper_with_keystone(catalog, tmp_path)
    keeper.prefect.known_pool = None if pool_limit is None else Pool("imports", limit=pool_limit)
    workers(catalog, **slots)
    many = [ask(catalog, "many") for _ in range(9)]
    assert hand_over(keeper) == many[:share]
    single = ask(catalog, "single")
    assert hand_over(keeper) == [single]
    explain_waits(keeper)
    assert f"fewer than {share} running imports" in message(catalog, many[share])
    assert end_unheld(catalog, many[0], "over", now=NOW, time_to_live_h=1)
    assert [one for one in hand_over(keeper) if one in many] == [many[share]]


def test_the_operator_sets_another_share(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_with_keystone(catalog, tmp_path, max_per_project=8)
    workers(catalog, one=4)
    many = [ask(catalog, "many") for _ in range(9)]
    assert hand_over(keeper) == many[:8]


def test_where_everybody_is_one_project_it_may_have_all_slots(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path)
    workers(catalog, one=2)
    many = [ask(catalog, "") for _ in range(9)]
    assert hand_over(keeper) == many


def test_imports_that_wait_for_a_host_that_is_gone_take_no_share(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_with_keystone(catalog, tmp_path)
    workers(catalog, one=3, lost=3)
    stranded = [ask_direct(catalog, "p", "lost") for _ in range(3)]
    assert hand_over(keeper) == stranded
    more = [ask(catalog, "p") for _ in range(3)]
    assert hand_over(keeper) == more[:2]
    with catalog.write() as connection:
        note_host(connection, "lost", 3, heard_s_ago=3600.0)
    # Two slots are the share now, because the lost host has none; both are taken.
    assert hand_over(keeper) == []
    assert end_unheld(catalog, more[0], "over", now=NOW, time_to_live_h=1)
    assert [one for one in hand_over(keeper) if one in more] == [more[2]]


def test_what_is_no_import_waits_for_no_turn(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, dispatch_ahead=1)
    for _ in range(3):
        ask(catalog, "p")
    with catalog.write() as connection:
        post(connection, OutboxKind.SWEEP, "sweep", None)
    assert [row.kind for row in rows_in_turn(keeper)] == [OutboxKind.SWEEP, OutboxKind.DISPATCH]
