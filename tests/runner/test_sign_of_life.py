"""A runner writes its host's row in the catalogue itself, without a keeper or Prefect."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner, until
from transship.catalog.engine import Catalog
from transship.catalog.hosts import Host, hosts, note_host

pytestmark = [pytest.mark.real]


def test_a_runner_is_heard_when_it_serves_and_again_and_again(prefect_server: PrefectServer, tmp_path: Path) -> None:
    options = {"runner.engine": "cold", "prefect.worker_limit": 3}
    with Runner(prefect_server, tmp_path, options) as runner, closing(Catalog.open(runner.settings)) as catalog:

        def here() -> Host:
            with catalog.read() as connection:
                return {host.name: host for host in hosts(connection)}["here"]

        assert (here().alive, here().slots) == (True, 3)
        with catalog.write() as connection:
            note_host(connection, "here", 0, heard_s_ago=3600.0)
        until(lambda: here().alive and here().slots == 3, runner.said)
