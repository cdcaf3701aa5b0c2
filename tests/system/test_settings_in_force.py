"""An edit of the settings takes effect only after a reload, and then everywhere; a broken edit stops nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.system import System, until
from tests.fakes.web_server import WebServer

pytestmark = pytest.mark.real

BODY = os.urandom(200_000)
COMPONENTS = ("api", "keeper", "worker")
BROKEN = {
    "no TOML": "[imports\n",
    "no such option": "[imports]\nno_such_option = 1\n",
    "no usable value": "[imports]\nmax_parallel_stores = 0\n",
    "no such plugin": '[imports]\nplugins = ["nobody_has"]\n',
}


class Edited:
    """The files of a system's settings."""

    def __init__(self, home: Path, port: int, edited_port: int) -> None:
        self._home, self._port, self._edited_port = home, port, edited_port
        self.toml, self.policy, self.glance = home / "transship.toml", home / "policy.yaml", home / "glance-api.conf"

    def write(self, *stores: str, plugins: tuple[str, ...] = ("inject_image_metadata",), edited: bool = False) -> None:
        """Write usable settings; edited ones allow another port."""
        allowed = [80, self._edited_port if edited else self._port]
        self.toml.write_text(
            f'default_store = "local"\nglance_config = ["{self.glance}"]\n'
            f'[api]\npolicy_file = "{self.policy}"\n'
            f"[imports]\nplugins = {json.dumps(plugins)}\n"
            '[inject]\nproperties = { marked = "yes" }\nignore_user_roles = []\n'
            f'[uri]\nallowed_hosts = ["127.0.0.1"]\nallowed_ports = {allowed}\n'
            + "".join(f'[stores.{name}]\ndir = "{self._home / name}"\n' for name in ("local", *stores))
        )
        self.policy.write_text("copy_image: role:admin\n")
        self.glance.write_text("[oslo_messaging_rabbit]\nrabbit_retry_interval = 1\n")

    def break_all(self) -> None:
        """Make every file unusable."""
        self.toml.write_text(BROKEN["no TOML"])
        self.policy.write_text("- no mapping\n")
        self.glance.write_text("no section\n")


@pytest.fixture(scope="module")
def edited_source() -> Iterator[WebServer]:
    """The web server that only the edited settings allow."""
    with WebServer() as server:
        yield server


@pytest.fixture(scope="module")
def files(source: WebServer, edited_source: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Edited:
    return Edited(tmp_path_factory.mktemp("settings"), source.port, edited_source.port)


@pytest.fixture(scope="module")
def system(files: Edited) -> Iterator[System]:
    files.write()
    with System(files.toml.parent) as system:
        yield system
        # It can be stopped also now.
        files.break_all()


@pytest.fixture
def uri(source: WebServer) -> str:
    return source.serve("/disk.img", BODY)


def imported(system: System, uri: str) -> dict[str, Any]:
    """Import by the site's own rules for URIs; return the image."""
    image_id = system.create()
    asked = system.api("POST", f"/v2/images/{image_id}/import", json={"method": {"name": "web-download", "uri": uri}})
    assert asked.status_code == 202, asked.text
    ended = system.ended(image_id)
    assert ended["status"] == "success", ended
    assert str(system.home) not in json.dumps(ended)
    return system.image(image_id)


def restart(system: System, *components: str) -> None:
    """Kill components, and wait until the supervisor has others up."""
    before = system.pids()
    system.kill(*components)
    until(
        lambda: set(components) <= system.ready() and all(system.pids()[name] != before[name] for name in components),
        540.0,
        f"others in the place of {components}\n{system.logs()}",
    )


def stores_of(system: System) -> list[str]:
    return [store["id"] for store in system.api("GET", "/v2/info/stores").json()["stores"]]


def test_what_cannot_be_used_changes_nothing_for_what_runs(system: System, files: Edited, uri: str) -> None:
    files.write()
    before = system.pids()
    for text in BROKEN.values():
        files.toml.write_text(text)
        refused = system.command("reload")
        assert refused.returncode == 1
        assert "nothing was reloaded: " in refused.stdout
        assert str(files.toml) in refused.stdout
    assert system.pids() == before
    files.break_all()
    assert imported(system, uri)["marked"] == "yes"
    for command in ("status", "doctor"):
        shown = system.command(command)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert str(files.toml) in shown.stdout
        assert "cannot be used" in shown.stdout
    shown = system.command("config", "show")
    assert shown.returncode == 0
    assert "inject_image_metadata" in shown.stdout
    assert str(files.toml) in shown.stderr
    assert system.command("images").returncode == 0
    assert system.command("deploy").returncode == 0


def test_what_died_comes_back_with_what_it_had(system: System, files: Edited, uri: str) -> None:
    files.break_all()
    restart(system, *COMPONENTS)
    assert imported(system, uri)["marked"] == "yes"
    files.write("second", plugins=(), edited=True)
    restart(system, *COMPONENTS)
    assert imported(system, uri)["marked"] == "yes"
    assert stores_of(system) == ["local"]


def test_an_edit_is_in_force_nowhere_before_a_reload_and_everywhere_after(
    system: System, files: Edited, edited_source: WebServer, uri: str
) -> None:
    files.write()
    assert "changed since" not in system.command("status").stdout
    files.write("second", plugins=(), edited=True)
    assert stores_of(system) == ["local"]
    assert imported(system, uri)["marked"] == "yes"
    told = {command: system.command(command) for command in ("status", "doctor")}
    for shown in told.values():
        assert shown.returncode == 0, shown.stdout
        for option in ("imports.plugins", "uri.allowed_ports", "stores.second.dir"):
            assert option in shown.stdout
        assert "'transship reload' applies" in shown.stdout

    done = system.command("reload")
    assert done.returncode == 0, done.stdout + done.stderr + system.logs()
    assert stores_of(system) == ["local", "second"]
    refused = system.api(
        "POST", f"/v2/images/{system.create()}/import", json={"method": {"name": "web-download", "uri": uri}}
    )
    assert refused.status_code == 400
    allowed_now = edited_source.serve("/disk.img", BODY)
    assert "marked" not in imported(system, allowed_now)
    status = system.command("status")
    assert "changed since" not in status.stdout
    files.break_all()
    restart(system, *COMPONENTS)
    assert stores_of(system) == ["local", "second"]
    assert "marked" not in imported(system, allowed_now)


def test_a_store_with_images_that_is_no_longer_configured_is_named(
    system: System, files: Edited, edited_source: WebServer
) -> None:
    files.write("second", plugins=(), edited=True)
    assert system.command("reload").returncode == 0
    image_id = system.create()
    asked = system.ask(image_id, edited_source.serve("/disk.img", BODY), stores=["second"])
    assert asked.status_code == 202, asked.text
    assert system.ended(image_id)["status"] == "success", system.logs()

    files.write(plugins=(), edited=True)
    done = system.command("reload")
    assert done.returncode == 0, done.stdout + done.stderr
    assert system.api("GET", f"/v2/images/{image_id}/file").status_code == 503
    for command, code in {"status": 1, "doctor": 1, "deploy": 0}.items():
        shown = system.command(command)
        assert "store second is not configured, but holds copies of 1 image; downloads of 1 fail" in (
            shown.stdout + shown.stderr
        )
        assert shown.returncode == code
