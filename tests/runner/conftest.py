from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner


@pytest.fixture(scope="module")
def runner(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner with two executors, shared by the tests of a module."""
    with Runner(prefect_server, tmp_path_factory.mktemp("runner"), {"runner.cancel_grace_s": 2.0}) as started:
        yield started
