from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from deployments.apply import apply
from tests.fakes.images import NOW, asked, begun, queued_image, read_image, settings_in
from tests.fakes.ports import free_port
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.system import until
from transship.catalog.engine import Catalog
from transship.catalog.hosts import note_host
from transship.catalog.inventories import write_inventory
from transship.catalog.journal import mark_deleting, open_location, open_staged
from transship.catalog.keepers import stay_active, step_down
from transship.catalog.leases import free_lease
from transship.catalog.outbox import OutboxKind, due
from transship.catalog.schema import INVENTORIES, LEASES, LOCATIONS, OUTBOX
from transship.catalog.tasks import get_task, keep_secret, purge_secrets, read_secrets
from transship.catalog.types import in_seconds
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus
from transship.host.directories import MARK
from transship.keeper.dispatch import REFUSAL_RETRY_S, send_outbox
from transship.keeper.housekeeping import ask_for_sweep, sweep_for_inventories, sweep_what_is_due
from transship.keeper.keeper import Keeper
from transship.keeper.mirror import mirror_stores, settings_of_block
from transship.keeper.prefect_api import PrefectApi


def keeper_of(catalog: Catalog, home: Path, url: str, auth_string: str = "", owner: str = "one") -> Keeper:
    return Keeper(settings_in(home), catalog, PrefectApi(url, auth_string), owner)


def age_outbox(catalog: Catalog, age_s: float) -> None:
    with catalog.write() as connection:
        connection.execute(update(OUTBOX).values(created_at=in_seconds(-age_s), due_at=in_seconds(-1.0)))


def test_a_request_is_kept_while_prefect_is_away(catalog: Catalog, tmp_path: Path) -> None:
    image = queued_image(catalog)
    task = asked(catalog, image)
    keeper = keeper_of(catalog, tmp_path, f"http://127.0.0.1:{free_port()}/api")
    age_outbox(catalog, 2 * REFUSAL_RETRY_S)
    assert send_outbox(keeper) == 0
    with catalog.read() as connection:
        assert get_task(connection, task.id).status is TaskStatus.PENDING
        assert due(connection, 10) == []
    age_outbox(catalog, 1.0)
    with catalog.read() as connection:
        assert [row.attempts for row in due(connection, 10)] == [1]


@pytest.mark.real
def test_a_wrong_password_gets_its_time_to_be_mended_and_then_ends_the_task(
    catalog: Catalog, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    image = queued_image(catalog)
    task = asked(catalog, image)
    keeper = keeper_of(catalog, tmp_path, prefect_server.url, "admin:wrong")
    assert send_outbox(keeper) == 0
    with catalog.read() as connection:
        assert get_task(connection, task.id).status is TaskStatus.PENDING
    age_outbox(catalog, REFUSAL_RETRY_S + 1)
    assert send_outbox(keeper) == 0
    with catalog.read() as connection:
        ended = get_task(connection, task.id)
    assert ended.status is TaskStatus.FAILURE
    assert "transship deploy" in ended.message
    assert read_image(catalog, image.id).status is ImageStatus.QUEUED


def test_of_two_keepers_one_is_active(catalog: Catalog, tmp_path: Path) -> None:
    one, two = (keeper_of(catalog, tmp_path, "http://127.0.0.1:1/api", owner=owner) for owner in ("one", "two"))
    assert stay_active(catalog, one.owner, 3600.0)
    assert not stay_active(catalog, two.owner, 3600.0)
    assert stay_active(catalog, one.owner, 3600.0)
    step_down(catalog, one.owner)
    assert stay_active(catalog, two.owner, 3600.0)


FILE = {"slug": "image-store-file"}


def test_store_settings_of_a_block_are_checked(tmp_path: Path) -> None:
    good = {"name": "fast", "block_type": FILE, "data": {"directory": str(tmp_path), "weight": 3, "file_mode": "0644"}}
    assert '"weight": 3' in str(settings_of_block(good))
    assert settings_of_block({"name": "fast", "block_type": FILE, "data": {}}) is None
    wrong = {"name": "fast", "block_type": FILE, "data": {"directory": str(tmp_path), "file_mode": "rw"}}
    assert settings_of_block(wrong) is None
    assert settings_of_block({**good, "block_type": {"slug": "image-store-tape"}}) is None


class EditedBlocks:
    """A Prefect whose one store block says what its user wrote there last."""

    def __init__(self, store_id: str) -> None:
        self._store_id = store_id
        self.directory = Path()

    def store_blocks(self) -> list[dict[str, Any]]:
        return [{"name": self._store_id, "block_type": FILE, "data": {"directory": str(self.directory)}}]


def test_a_directory_that_an_edit_names_is_prepared_once(catalog: Catalog, tmp_path: Path) -> None:
    blocks = EditedBlocks("local")
    # All that a mirror asks of Prefect.
    keeper = Keeper(settings_in(tmp_path), catalog, cast(PrefectApi, blocks), "one")
    first, second = tmp_path / "first", tmp_path / "second"
    for blocks.directory in (first, second):
        assert (mirror_stores(keeper), mirror_stores(keeper)) == (1, 0)
        assert (blocks.directory / MARK).read_text() == f"store local of catalogue {catalog.id()}"
    shutil.rmtree(first)
    blocks.directory = first
    with capture_logs() as logs:
        assert mirror_stores(keeper) == 1
    assert not first.exists()
    assert [(log["event"], log["store"]) for log in logs] == [("store not prepared", "local")]
    assert f"Mount {first}" in logs[0]["reason"]


def test_secrets_of_running_tasks_are_not_purged(catalog: Catalog) -> None:
    task = asked(catalog, queued_image(catalog))
    with catalog.write() as connection:
        keep_secret(connection, catalog, task.id, "remote", "http://h/x")
        purge_secrets(connection, NOW)
        assert read_secrets(connection, catalog, task.id)["remote"] == "http://h/x"


def test_a_sweep_that_is_asked_for_often_is_told_once(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, f"http://127.0.0.1:{free_port()}/api")
    for _ in range(2):
        ask_for_sweep(keeper)
    assert [row.kind for row in all_rows(catalog)] == [OutboxKind.SWEEP]


def test_a_sweep_is_asked_for_when_an_inventory_is_due_and_not_before(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, f"http://127.0.0.1:{free_port()}/api")
    with catalog.write() as connection:
        note_host(connection, "live", 4)
        note_host(connection, "gone", 4, heard_s_ago=3600.0)
        for store in keeper.settings.all_stores:
            write_inventory(connection, f"store:{store}", [])
        write_inventory(connection, "staging:live", [])
    sweep_for_inventories(keeper)
    assert all_rows(catalog) == []
    late = in_seconds(-keeper.settings.housekeeping.inventory_interval_s)
    with catalog.write() as connection:
        connection.execute(update(INVENTORIES).where(INVENTORIES.c.place == "staging:live").values(taken_at=late))
    sweep_for_inventories(keeper)
    assert [row.kind for row in all_rows(catalog)] == [OutboxKind.SWEEP]


def test_a_copy_is_swept_as_soon_as_it_may_be(catalog: Catalog, tmp_path: Path) -> None:
    keeper = keeper_of(catalog, tmp_path, f"http://127.0.0.1:{free_port()}/api")
    going = begun(catalog, queued_image(catalog))
    open_location(catalog, going.lease, "local", "file:///x", NOW)
    mark_deleting(catalog, going.lease, "local", NOW)

    def look(waited_s: float, lease: str) -> bool:
        with catalog.write() as connection:
            connection.execute(update(LOCATIONS).values(updated_at=in_seconds(-waited_s)))
            connection.execute(update(LEASES).values(state=lease))
        return sweep_what_is_due(keeper)

    ttl_s = keeper.settings.lease.ttl_s
    assert [look(2 * ttl_s, "held"), look(ttl_s / 2, "free")] == [False, False]
    assert OutboxKind.SWEEP not in {row.kind for row in all_rows(catalog)}
    assert look(2 * ttl_s, "free")
    assert OutboxKind.SWEEP in {row.kind for row in all_rows(catalog)}


def all_rows(catalog: Catalog) -> list[Any]:
    with catalog.read() as connection:
        return list(connection.execute(select(OUTBOX)))


@pytest.mark.real
def test_each_host_that_is_live_or_has_scrap_gets_one_run_in_its_own_queue(
    catalog: Catalog, tmp_path: Path, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    unique = uuid4().hex[:8]
    mine, scrap, live, gone = (f"{name}-{unique}" for name in ("mine", "scrap", "live", "gone"))
    settings = settings_in(tmp_path, host_name=mine, **prefect_server.apart(tmp_path))
    with prefect_server.as_client():
        apply(settings)
    begun_there = begun(catalog, queued_image(catalog))
    open_staged(catalog, begun_there.lease, f"{begun_there.image.id}.1.source", scrap, "source", "", NOW)
    with catalog.write() as connection:
        free_lease(connection, begun_there.image.id)
        note_host(connection, live, 4)
        note_host(connection, gone, 4, heard_s_ago=3600.0)
    keeper = Keeper(settings, catalog, PrefectApi(prefect_server.url, prefect_server.auth_string), "one")

    def queues_of_runs() -> list[str]:
        ask_for_sweep(keeper)

        def all_told() -> bool:
            send_outbox(keeper)
            return not all_rows(catalog)

        until(all_told, 180.0, "the sweep to be told")
        tags = [f"sweep:{host}" for host in (mine, scrap, live, gone)]
        runs = prefect_server.ask("POST", "/flow_runs/filter", {"flow_runs": {"tags": {"any_": tags}}})
        return sorted(run["work_queue_name"] for run in runs)

    queues = [f"host-{host}" for host in (live, mine, scrap)]
    assert queues_of_runs() == queues
    runs = prefect_server.ask("POST", "/flow_runs/filter", {"flow_runs": {"tags": {"any_": [f"sweep:{live}"]}}})
    assert [run["name"] for run in runs] == [f"housekeeping on {live}"]
    # What no worker has taken yet waits, and no second one is added, however much later.
    monkeypatch.setattr("transship.keeper.housekeeping.utc_now", lambda: NOW)
    assert queues_of_runs() == queues
