"""Several keepers on one catalogue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from deployments.apply import apply
from tests.fakes.images import asked, queued_image, settings_in
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.system import until
from tests.fakes.together import at_once
from transship.catalog.engine import Catalog
from transship.catalog.keepers import stay_active
from transship.catalog.schema import KEEPERS, OUTBOX
from transship.catalog.tasks import get_task
from transship.catalog.types import in_seconds
from transship.keeper.dispatch import send_outbox
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi

KEEPERS_AT_ONCE = 6


def test_of_many_keepers_that_start_at_once_one_is_active(catalog: Catalog, tmp_path: Path) -> None:
    prefect = PrefectApi("http://127.0.0.1:1/api", "")
    keepers = [Keeper(settings_in(tmp_path), catalog, prefect, str(n)) for n in range(KEEPERS_AT_ONCE)]

    def actives() -> int:
        return at_once(*[lambda keeper=keeper: stay_active(catalog, keeper.owner, 3600.0) for keeper in keepers]).count(
            True
        )

    assert actives() == 1
    assert actives() == 1
    with catalog.write() as connection:
        connection.execute(update(KEEPERS).values(owner="one that died", expires_at=in_seconds(-1.0)))
    assert actives() == 1


@pytest.mark.real
def test_many_keepers_that_tell_at_once_start_one_run_for_each_import(
    catalog: Catalog, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, **prefect_server.apart(tmp_path))
    with prefect_server.as_client():
        apply(settings)
    tasks = [asked(catalog, queued_image(catalog)) for _ in range(5)]
    keepers = [
        Keeper(settings, catalog, PrefectApi(prefect_server.url, prefect_server.auth_string), str(n))
        for n in range(KEEPERS_AT_ONCE)
    ]

    def all_told() -> bool:
        at_once(*[lambda keeper=keeper: send_outbox(keeper) for keeper in keepers])
        with catalog.read() as connection:
            return connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one() == 0

    # A keeper that Prefect turned away, because another one made the same run, tries again a little later.
    until(all_told, 180.0, "an empty outbox")
    with catalog.read() as connection:
        runs = {str(get_task(connection, task.id).flow_run_id) for task in tasks}
    found = prefect_server.ask(
        "POST",
        "/flow_runs/filter",
        {
            "work_pools": {"name": {"any_": [settings.prefect.work_pool]}},
            # Prefect plans runs of housekeeping in the same pool by itself.
            "flows": {"name": {"any_": ["web-download"]}},
        },
    )
    assert Counter(run["id"] for run in found) == Counter(runs)
    assert len(runs) == len(tasks)
