"""Two hosts that deploy at the same moment, with different settings of one store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from config.settings.stores import KINDS
from tests.fakes.postgres import PostgresServer, postgres_binaries
from tests.fakes.prefect_server import PrefectServer

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        postgres_binaries() is None,
        reason="PostgreSQL's server programs are not installed (apt-get install postgresql)",
    ),
]

ROUNDS = 2


class Cloud:
    """A catalogue and a Prefect server that hosts share, and the settings of their one store.

    Args:
        home: empty directory.
    """

    def __init__(self, home: Path, postgres: PostgresServer, server: PrefectServer) -> None:
        self._home, self._server = home, server
        apart = server.apart(home)
        self.store: str = apart["default_store"]
        self._options = {
            "database.url": postgres.new_database(),
            "database.secret_key": Fernet.generate_key().decode(),
            **{f"prefect.{name}": value for name, value in apart["prefect"].items()},
            "prefect.auth_string": server.auth_string,
            "default_store": self.store,
            f"stores.{self.store}.dir": str(home / "images"),
        }

    def deploy(self, host: str, weight: int) -> subprocess.Popen[str]:
        """Begin to deploy, with settings that differ in two fields of the store."""
        edited = {"weight": weight, "description": f"{host} says {weight}"}
        own = {f"stores.{self.store}.{name}": value for name, value in edited.items()}
        options = {"host_name": host, **self._options, **own}
        file = self._home / f"{host}.toml"
        file.write_text("".join(f"{option} = {json.dumps(value)}\n" for option, value in options.items()))
        command = [sys.executable, "-m", "transship.cli", "--config", str(file), "--home", str(self._home / host)]
        return subprocess.Popen([*command, "deploy"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def document(self) -> dict[str, Any]:
        """Return the fields of the store's block."""
        where = f"/block_types/slug/{KINDS['file'].slug}/block_documents/name/{self.store}"
        found: dict[str, Any] = self._server.ask("GET", where)["data"]
        return found


def test_a_block_that_two_hosts_write_ends_with_one_of_the_two(tmp_path: Path, prefect_server: PrefectServer) -> None:
    with PostgresServer() as postgres:
        cloud = Cloud(tmp_path, postgres, prefect_server)
        for turn in range(ROUNDS):
            both = [(host, 2 * turn + place) for place, host in enumerate(("one", "two"))]
            deploying = [cloud.deploy(host, weight) for host, weight in both]
            said = [process.communicate(timeout=540)[0] for process in deploying]
            assert [process.returncode for process in deploying] == [0, 0], said
            found = cloud.document()
            wanted = [(weight, f"{host} says {weight}") for host, weight in both]
            assert (found["weight"], found["description"]) in wanted
