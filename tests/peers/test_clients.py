"""Real, unmodified clients against the API with a real Keystone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.asked_imports import AskedImports
from tests.fakes.client_commands import ADMIN, ALICE, GLANCE, OPENSTACK, SDK, Row
from tests.fakes.openstack_peers import ADMIN_PASSWORD, OpenStack
from tests.fakes.terminal import run_at_terminal
from tests.fakes.web_server import WebServer
from tests.peers.conftest import serve_in_region

pytestmark = [
    pytest.mark.real,
    # openstacksdk warns about its own future whenever it connects, and leaves files open.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DATA = b"an image" * 1000


class Terminal:
    """A terminal at which commands are run against the Images API.

    Attributes:
        region: of the API.
        values: what the words in capitals stand for.
    """

    def __init__(self, cloud: OpenStack, imports: AskedImports, server: WebServer, home: Path) -> None:
        self.imports, self.home = imports, home
        directories = {name: {"dir": str(home / name)} for name in ("local", "second")}
        self.region = serve_in_region(
            cloud,
            imports,
            stores=json.dumps({**directories, "web": {"type": "http"}}),
            default_store="local",
            api__show_multiple_locations="true",
            imports__enabled_methods="glance-direct,web-download,glance-download,copy-image",
        )
        cloud.endpoint("identity", self.region, cloud.auth_url)
        alice = {**cloud.openrc, "OS_REGION_NAME": self.region}
        admin = {"OS_USERNAME": "admin", "OS_PASSWORD": ADMIN_PASSWORD, "OS_PROJECT_NAME": "admin"}
        self._environments = {ALICE: alice, ADMIN: {**alice, **admin}}
        remote = cloud.connect(region="RegionTwo").image.create_image(
            "remote", data=DATA, disk_format="raw", container_format="bare", wait=True, allow_duplicates=True
        )
        for path in (home / "file", home / "local" / "placed"):
            path.write_bytes(DATA)
        self.output = home / "output"
        self.values = {
            "FILE": str(home / "file"),
            "OUTPUT": str(self.output),
            "URL": server.serve("/disk.raw", DATA),
            "LOCATION": f"file://{home}/local/placed",
            "REMOTE": remote.id,
            "PROJECT": cloud.connect(ADMIN).current_project_id,
        }

    def run(self, row: Row) -> str:
        """Run a command, and the import that it begins; return what is wrong, if anything."""
        program, *words = [self.values.get(word, word) for word in row.command.split()]
        command = [str(Path(sys.executable).with_name(program)), *words]
        done = run_at_terminal(command, self._environments[row.user], self.home)
        printed = done.stdout + done.stderr
        if (done.returncode == 0) is not row.works or row.shows not in printed:
            return f"{row.command}: exit code {done.returncode}\n{printed}"
        if re.match(r"glance image-create|openstack image create", row.command) and row.works:
            self.values["IMAGE"] = re.findall(r"^\| id +\| (\S+)", printed, re.MULTILINE)[-1]
        return self.carry() if row.imports else ""

    def carry(self) -> str:
        """Run the import of the newest image; return what is wrong, if anything."""
        self.values["TASK"] = self.imports.task(self.values["IMAGE"]).id
        state = self.imports.carry(self.values["IMAGE"])
        return "" if state.is_completed() else str(state.message)


@pytest.fixture
def terminal(cloud: OpenStack, imports: AskedImports, server: WebServer, tmp_path: Path) -> Terminal:
    return Terminal(cloud, imports, server, tmp_path)


@pytest.mark.parametrize("rows", [GLANCE, OPENSTACK], ids=["glance", "openstack"])
def test_every_command_works_as_documented(terminal: Terminal, rows: Sequence[Row]) -> None:
    wrong = [problem for row in rows if (problem := terminal.run(row))]
    assert not wrong, "\n".join(wrong)
    assert terminal.output.read_bytes() == DATA


def test_every_call_of_openstacksdk_works_as_documented(terminal: Terminal, cloud: OpenStack) -> None:
    images = cloud.connect(region=terminal.region).image
    for call, make in SDK.items():
        image: Any = images.get_image(terminal.values["IMAGE"]) if "IMAGE" in terminal.values else None
        result = make(images, image, terminal.values)
        if "create_image" in call:
            terminal.values["IMAGE"] = result.id
        if "import" in call and "info" not in call:
            assert terminal.carry() == "", call
        if "download_image" in call:
            assert (image.status, result) == ("active", DATA)
