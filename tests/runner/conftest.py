from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner


@pytest.fixture(scope="module")
def runner(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner with two executors, shared by the tests of a module."""
    home, options = tmp_path_factory.mktemp("runner"), {"runner.cancel_grace_s": 15.0}
    with Runner(prefect_server, home, options) as started:
        yield started
