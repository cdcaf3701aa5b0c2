"""The keeper's loop: when it checks for work, and what wakes it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import delete

from tests.fakes.images import NOW, asked, begun, queued_image, settings_in
from tests.fakes.ports import free_port
from tests.fakes.statements import Statements
from transship.catalog.agenda import Agenda, agenda
from transship.catalog.bell import Ring
from transship.catalog.endings import fail_import
from transship.catalog.engine import Catalog
from transship.catalog.imports import begin_import
from transship.catalog.journal import open_staged
from transship.catalog.leases import free_lease
from transship.catalog.outbox import OutboxKind, due, postpone
from transship.catalog.schema import OUTBOX, STAGED
from transship.catalog.uploads import begin_upload
from transship.domain.image import ImageStatus
from transship.keeper.__main__ import SWEEP_DUE_S, SWEEP_S, Duties, Duty, run, sweep_due
from transship.keeper.courier import Couriers
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi


def attempts(catalog: Catalog) -> list[int]:
    with catalog.read() as connection:
        return [row.attempts for row in connection.execute(OUTBOX.select()) if row.kind != OutboxKind.SWEEP]


def test_the_doorbell_makes_the_keeper_tell_at_once(catalog: Catalog, tmp_path: Path) -> None:
    keeper = Keeper(settings_in(tmp_path), catalog, PrefectApi(f"http://127.0.0.1:{free_port()}/api", ""), "a keeper")
    stopped = threading.Event()
    pauses: list[float] = []

    def wait(timeout_s: float) -> frozenset[Ring]:
        """Ask for an import and ring as soon as there is nothing else to do, and stop when it was tried."""
        pauses.append(timeout_s)
        if attempts(catalog) == [1]:
            stopped.set()
        elif timeout_s > 1.0 and not attempts(catalog):
            asked(catalog, queued_image(catalog))
            return frozenset({Ring.WORK})
        return frozenset()

    run(keeper, Couriers(catalog, [], 1), stopped, wait)
    rung = next(number for number, pause_s in enumerate(pauses) if pause_s > 1.0)
    assert pauses[0] == 0.0
    assert len(pauses) == rung + 2


def test_without_anything_to_do_the_keeper_sleeps(catalog: Catalog, tmp_path: Path) -> None:
    keeper = Keeper(settings_in(tmp_path), catalog, PrefectApi(f"http://127.0.0.1:{free_port()}/api", ""), "a keeper")
    duties = Duties(keeper, Couriers(catalog, [], 1))
    now = 1000.0
    duties.do(now)
    with catalog.write() as connection:
        connection.execute(delete(OUTBOX))
    duties.do(now)
    # The stores' blocks, of which nothing rings.
    assert duties.next_at == now + 10.0
    with Statements(catalog.engine) as looked:
        duties.do(now + 9.0)
    assert looked.made == []
    duties.wake(frozenset({Ring.NEWS}))
    assert duties.next_at == now + 10.0
    duties.wake(frozenset({Ring.WORK}))
    assert duties.next_at <= now


def test_the_agenda_tells_when_the_keeper_has_to_wake_up(catalog: Catalog, tmp_path: Path) -> None:
    def read() -> Agenda:
        with catalog.read() as connection:
            return agenda(connection)

    image = queued_image(catalog)
    assert (read().outbox_in_s, read().unfinished, read().queued, read().upload_lost_in_s) == (None, False, False, None)
    task = asked(catalog, image)
    assert (read().unfinished, read().queued, read().ended_s_ago, read().leftovers) == (True, True, None, False)
    assert (read().outbox_in_s or 0.0) <= 0.0
    with catalog.write() as connection:
        (row,) = due(connection, 1)
        postpone(connection, row, 30.0, "Prefect is away")
    assert 20.0 < (read().outbox_in_s or 0.0) <= 30.0
    set_out = begin_import(catalog, task.id, "run", "here pid 1 x", ttl_s=60.0, now=NOW)
    assert (read().unfinished, read().queued, read().upload_lost_in_s) == (True, False, None)
    open_staged(catalog, set_out.lease, f"{image.id}.1.source", "here", "source", "", NOW)
    assert read().leftovers
    fail_import(
        catalog, set_out.lease, "no", {}, rerunnable=False, now=datetime.now(UTC), time_to_live_h=1, rerun_ttl_s=0.0
    )
    assert not read().unfinished
    assert 0.0 <= (read().ended_s_ago or -1.0) < 60.0
    begin_upload(
        catalog,
        queued_image(catalog).id,
        ImageStatus.UPLOADING,
        lambda _image: None,
        owner="api",
        host="here",
        ttl_s=60.0,
        now=NOW,
    )
    assert 50.0 < (read().upload_lost_in_s or 0.0) <= 60.0


def test_what_no_sweep_removes_is_asked_for_ever_more_rarely(catalog: Catalog, tmp_path: Path) -> None:
    keeper = Keeper(settings_in(tmp_path), catalog, PrefectApi(f"http://127.0.0.1:{free_port()}/api", ""), "a keeper")
    duty = Duty("sweep what is due", SWEEP_DUE_S, lambda: sweep_due(keeper, duty))
    lost = begun(catalog, queued_image(catalog))
    open_staged(catalog, lost.lease, f"{lost.image.id}.1.source", "a host that is away", "source", "", NOW)
    with catalog.write() as connection:
        free_lease(connection, lost.image.id)
    pauses = []
    for _ in range(7):
        duty.run_if_due(duty.next_at)
        pauses.append(duty.every_s)
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, SWEEP_S, SWEEP_S]
    with catalog.write() as connection:
        connection.execute(delete(STAGED))
    duty.run_if_due(duty.next_at)
    assert duty.every_s == SWEEP_DUE_S
