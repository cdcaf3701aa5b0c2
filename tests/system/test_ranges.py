"""Large downloads through the whole product: killed at half, they fetch next to nothing again."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.range_server import RangedFile
from tests.fakes.system import System, until
from tests.fakes.web_server import Talk, WebServer, raw

pytestmark = pytest.mark.real

RANGE = 16 << 20  # more than the sockets hold
CONNECTIONS = 4
BODY = os.urandom(1 << 20) * 160


class StopsAtHalf(RangedFile):
    """A file that nobody gets more than half of until `go_on` is set; what stood still until then is cut off."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.half, self.go_on = threading.Event(), threading.Event()
        self.on_piece = self._stop_at_half

    def _stop_at_half(self, _talk: Talk, sent: int) -> None:
        if sent >= len(self.body) // 2:
            self.half.set()
        if self.half.is_set() and not self.go_on.is_set():
            self.go_on.wait(300)
            raise ConnectionAbortedError("the client is gone")


@pytest.fixture(scope="module")
def ranged(source: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    options = {
        "uri.allowed_hosts": ["127.0.0.1"],
        "uri.allowed_ports": [source.port],
        "download.range_bytes": RANGE,
        "download.connections": CONNECTIONS,
    }
    with System(tmp_path_factory.mktemp("ranged"), options) as running:
        yield running


@pytest.mark.faults
@pytest.mark.parametrize("victims", [["flow"], ["supervisor", "flow", "worker", "api", "keeper", "prefect-server"]])
def test_a_killed_import_fetches_at_most_one_range_per_connection_again(
    ranged: System, source: WebServer, victims: list[str]
) -> None:
    file = StopsAtHalf(BODY)
    image_id = ranged.create()
    assert ranged.ask(image_id, source.on(f"/{len(victims)}", file)).status_code == 202
    assert file.half.wait(180), ranged.logs()
    ranged.kill(*victims)
    file.go_on.set()
    if "supervisor" in victims:
        ranged.up()
    assert ranged.ended(image_id, 300.0)["status"] == "success"
    assert ranged.image(image_id)["os_hash_value"] == hashlib.sha512(BODY).hexdigest()
    assert file.sent_bytes - len(BODY) <= CONNECTIONS * RANGE
    assert not [name for name in ranged.staged() if image_id in name]


@pytest.mark.faults
def test_a_killed_import_whose_source_was_replaced_meanwhile_has_the_new_bytes(
    ranged: System, source: WebServer
) -> None:
    newer = os.urandom(1 << 20) * 150
    file = StopsAtHalf(BODY)
    image_id = ranged.create()
    assert ranged.ask(image_id, source.on("/replaced", file)).status_code == 202
    assert file.half.wait(180), ranged.logs()
    assert [name for name in ranged.staged() if image_id in name]
    ranged.kill("flow")
    asked_before = len(source.requests("/replaced"))
    file.replace(newer, '"v2"')
    file.go_on.set()
    assert ranged.ended(image_id, 300.0)["status"] == "success"
    image = ranged.image(image_id)
    assert (image["size"], image["os_hash_value"]) == (len(newer), hashlib.sha512(newer).hexdigest())
    # It meant to go on with what it had, and was told of the other version.
    resumed = source.requests("/replaced")[asked_before]
    assert (resumed.headers["if-range"], "range" in resumed.headers) == ('"v1"', True)
    assert not [name for name in ranged.staged() if image_id in name]


@pytest.mark.faults
def test_a_retry_in_prefect_carries_a_killed_import_of_a_gigabyte_on(source: WebServer, tmp_path: Path) -> None:
    body = os.urandom(1 << 20) * 1024
    file = StopsAtHalf(body)
    options = {
        "uri.allowed_hosts": ["127.0.0.1"],
        "uri.allowed_ports": [source.port],
        "download.range_bytes": RANGE,
        "download.connections": CONNECTIONS,
        "lease.crash_retries": 0,
    }
    with System(tmp_path, options) as system:
        image_id = system.create()
        assert system.ask(image_id, source.on("/gigabyte", file)).status_code == 202
        assert file.half.wait(180), system.logs()
        system.kill("flow")
        file.go_on.set()
        ended = system.ended(image_id)
        assert (ended["status"], system.image(image_id)["status"]) == ("failure", "queued")
        until(lambda: system.flow_run(image_id)["state"]["type"] in ("CRASHED", "FAILED"), 180.0, "the run's own end")
        system.set_state(ended["flow_run_id"], "SCHEDULED", "AwaitingRetry")
        until(lambda: system.task(image_id)["id"] != ended["id"], 180.0, "the task of the Retry")
        assert system.ended(image_id, 300.0)["status"] == "success"
        assert system.image(image_id)["os_hash_value"] == hashlib.sha512(body).hexdigest()
        assert file.sent_bytes - len(body) <= CONNECTIONS * RANGE
        assert system.staged() == []


def test_a_body_without_a_marked_end_is_told_in_the_tasks_message(ranged: System, source: WebServer) -> None:
    image = ranged.import_from(source.on("/x", raw(b"HTTP/1.0 200 OK\r\n\r\n" + BODY[:100_000])))
    assert image["status"] == "active"
    message = ranged.task(str(image["id"]))["message"]
    assert message.endswith("the source announced no size, so that a cut could not be told from its end")
