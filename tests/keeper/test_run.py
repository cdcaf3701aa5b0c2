"""The keeper's loop: when it looks, and what makes it look now."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.fakes.images import asked, queued_image, settings_in
from tests.fakes.system import free_port
from transship.catalog.engine import Catalog
from transship.catalog.outbox import OutboxKind
from transship.catalog.schema import OUTBOX
from transship.keeper.__main__ import TICK_S, run
from transship.keeper.courier import Couriers
from transship.keeper.prefect_api import PrefectApi
from transship.keeper.service import Keeper


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
