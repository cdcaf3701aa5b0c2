"""Limits of stores on a real Prefect server."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from config.settings import Settings, store_limit_name
from deployments.apply import apply
from deployments.change import Action
from tests.fakes.prefect_server import PrefectServer

pytestmark = pytest.mark.real


def test_a_limit_is_made_once_and_then_belongs_to_the_operator(prefect_server: PrefectServer, tmp_path: Path) -> None:
    store = f"store-{uuid4().hex[:8]}"
    limit = f"/v2/concurrency_limits/{store_limit_name(store)}"
    settings = Settings.model_validate(
        {
            "home": tmp_path,
            "prefect": {"work_pool": f"pool-{store}"},
            "stores": {store: {"dir": tmp_path / "images"}},
            "default_store": store,
            "imports": {"store_slots": {store: 3}},
        }
    )

    def applied(*, overwrite: bool = False) -> tuple[Action, int]:
        with prefect_server.as_client():
            changes = apply(settings, overwrite=overwrite)
        action = next(change.action for change in changes if change.kind == "limit")
        return action, int(prefect_server.ask("GET", limit)["limit"])

    assert applied() == (Action.CREATED, 3)
    assert applied() == (Action.UNCHANGED, 3)
    prefect_server.ask("PATCH", limit, {"limit": 1})
    assert applied() == (Action.KEPT, 1)
    assert applied(overwrite=True) == (Action.UPDATED, 3)


def test_a_limit_for_a_store_that_is_not_configured_is_refused() -> None:
    with pytest.raises(ValueError, match="store_slots names tape, not among the stores; the stores are local"):
        Settings.model_validate({"imports": {"store_slots": {"tape": 1}}})
