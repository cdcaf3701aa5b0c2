"""The keeper's loop: when it looks, and what makes it look now."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import delete

from tests.fakes.images import NOW, asked, begun, queued_image, settings_in
from tests.fakes.ports import free_port
from transship.catalog.engine import Catalog
from transship.catalog.journal import open_staged
from transship.catalog.leases import free_lease
from transship.catalog.outbox import OutboxKind
from transship.catalog.schema import OUTBOX, STAGED
from transship.keeper.__main__ import SWEEP_DUE_S, SWEEP_S, TICK_S, Duty, run, sweep_due
from transship.keeper.courier import Couriers
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi


def attempts(catalog: Catalog) -> list[int]:
    with catalog.read() as connection:
        return [row.attempts for row in connection.execute(OUTBOX.select()) if row.kind != OutboxKind.SWEEP]


def test_the_doorbell_makes_the_keeper_tell_at_once(catalog: Catalog, tmp_path: Path) -> None:
    keeper = Keeper(settings_in(tmp_path), catalog, PrefectApi(f"http://127.0.0.1:{free_port()}/api", ""), "a keeper")
    stopped = threading.Event()
    seen: list[tuple[float, list[int]]] = []

    def wait(timeout_s: float) -> bool:
        """Ask for an import after the first look, ring in the second wait, and stop in the third."""
        seen.append((timeout_s, attempts(catalog)))
        if len(seen) == 2:
            asked(catalog, queued_image(catalog))
        if len(seen) == 3:
            stopped.set()
        return len(seen) == 2

    run(keeper, Couriers(catalog, [], 1), stopped, wait)
    assert seen == [(0.0, []), (TICK_S, []), (TICK_S, [1])]


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
