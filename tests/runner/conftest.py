from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner


@pytest.fixture(scope="module")
def runner(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner with two executors, shared by the tests of a module."""
    home, options = tmp_path_factory.mktemp("runner"), {"runner.cancel_grace_s": 15.0}
    with Runner(prefect_server, home, options, "tests.fakes.unhurried_runner") as started:
        yield started


@pytest.fixture(autouse=True)
def patient_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper's side of a push waits for a runner that has much to do."""
    monkeypatch.setattr("transship.keeper.push.PATIENCE_S", 120.0)
