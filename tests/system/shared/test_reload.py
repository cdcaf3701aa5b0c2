"""A reload of the whole product under load: nothing is refused, cut off or lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
import requests

from tests.fakes.system import Gate, System, assert_holds, until
from tests.fakes.web_server import WebServer
from transship.host.directories import MARK

pytestmark = pytest.mark.real

BODY = os.urandom(3 << 20)


class Asking:
    """A client that sends requests continuously. Use as a context manager."""

    def __init__(self, system: System) -> None:
        self._system, self._enough = system, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answered, self.failed = 0, list[str]()

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._enough.wait(0.02):
            try:
                answer = requests.get(f"{self._system.settings.api_url}/v2/images", timeout=240)
                self.answered += 1
                if not answer.ok:
                    self.failed.append(f"{answer.status_code} {answer.text}")
            except requests.RequestException as fault:
                self.failed.append(repr(fault))


def test_a_new_store_is_taken_up_while_everything_goes_on(system: System, source: WebServer) -> None:
    gate = Gate(BODY)
    held = system.create(name="held")
    assert system.ask(held, source.on("/held.img", gate.behaviour())).status_code == 202
    assert gate.reached.wait(180)
    uploaded, half_sent, go_on = system.create(name="uploaded"), threading.Event(), threading.Event()
    answers: list[int] = []

    def slowly() -> Iterator[bytes]:
        yield BODY[: 2 << 20]
        half_sent.set()
        assert go_on.wait(400)
        yield BODY[2 << 20 :]

    def upload() -> None:
        octets = {"Content-Type": "application/octet-stream"}
        url = f"{system.settings.api_url}/v2/images/{uploaded}/stage"
        answers.append(requests.put(url, data=slowly(), headers=octets, timeout=400).status_code)

    client = threading.Thread(target=upload)
    client.start()
    assert half_sent.wait(180)
    before = system.pids()
    # It stays: no other test uses a store of this name.
    (system.home / "transship.toml").write_text(f'[stores.third]\ndir = "{system.home / "third"}"\n')
    with Asking(system) as asking:
        done = system.command("reload", timeout_s=540.0)
    assert done.returncode == 0, done.stdout + done.stderr + system.logs()
    after = system.pids()
    assert not asking.failed
    assert asking.answered
    same = {name for name in before if before[name] == after[name]}
    assert same == {"supervisor", "prefect-server", "worker"}

    # What had begun before goes on where it was.
    go_on.set()
    client.join()
    assert answers == [204]
    gate.open()
    assert system.ended(held)["status"] == "success"
    assert_holds(system, system.image(held), BODY)
    until(lambda: not alive(before["api"]), 180.0, "the end of the former API")

    # What begins now has the new store.
    asked = {"method": {"name": "glance-direct"}, "stores": ["third"]}
    assert system.api("POST", f"/v2/images/{uploaded}/import", json=asked).status_code == 202
    assert system.ended(uploaded)["status"] == "success"
    assert {path.name for path in (system.home / "third").iterdir()} == {uploaded, MARK}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_processes_agree_on_is_refused_and_nothing_is_touched(system: System) -> None:
    before = system.pids()
    config = system.home / "transship.toml"
    text = config.read_text() if config.exists() else ""
    config.write_text(f'{text}[staging]\ndir = "{system.home / "elsewhere"}"\n')
    try:
        done = system.command("reload", timeout_s=540.0)
    finally:
        config.write_text(text)
    assert done.returncode == 1
    assert "nothing was reloaded" in done.stdout
    assert "staging.dir: cannot change while anything runs" in done.stdout
    assert system.pids() == before
