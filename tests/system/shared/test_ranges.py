"""Large downloads through the whole product: killed at half, they fetch next to nothing again."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.fakes.range_server import StopsAtHalf
from tests.fakes.system import System
from tests.fakes.web_server import WebServer, raw
from tests.system.shared.conftest import CONNECTIONS, RANGE_BYTES

pytestmark = pytest.mark.real

BODY = os.urandom(1 << 20) * 160


@pytest.mark.faults
@pytest.mark.parametrize("victims", [["flow"], ["supervisor", "flow", "worker", "api", "keeper", "prefect-server"]])
def test_a_killed_import_fetches_at_most_one_range_per_connection_again(
    system: System, source: WebServer, victims: list[str]
) -> None:
    file = StopsAtHalf(BODY)
    image_id = system.create()
    assert system.ask(image_id, source.on(f"/{len(victims)}", file)).status_code == 202
    assert file.half.wait(180), system.logs()
    system.kill(*victims)
    file.go_on.set()
    if "supervisor" in victims:
        system.up()
    assert system.ended(image_id, 300.0)["status"] == "success"
    assert system.image(image_id)["os_hash_value"] == hashlib.sha512(BODY).hexdigest()
    assert file.sent_bytes - len(BODY) <= CONNECTIONS * RANGE_BYTES
    assert not [name for name in system.staged() if image_id in name]


@pytest.mark.faults
def test_a_killed_import_whose_source_was_replaced_meanwhile_has_the_new_bytes(
    system: System, source: WebServer
) -> None:
    newer = os.urandom(1 << 20) * 150
    file = StopsAtHalf(BODY)
    image_id = system.create()
    assert system.ask(image_id, source.on("/replaced", file)).status_code == 202
    assert file.half.wait(180), system.logs()
    assert [name for name in system.staged() if image_id in name]
    system.kill("flow")
    asked_before = len(source.requests("/replaced"))
    file.replace(newer, '"v2"')
    file.go_on.set()
    assert system.ended(image_id, 300.0)["status"] == "success"
    image = system.image(image_id)
    assert (image["size"], image["os_hash_value"]) == (len(newer), hashlib.sha512(newer).hexdigest())
    # It meant to go on with what it had, and was told of the other version.
    resumed = source.requests("/replaced")[asked_before]
    assert (resumed.headers["if-range"], "range" in resumed.headers) == ('"v1"', True)
    assert not [name for name in system.staged() if image_id in name]


def test_a_body_without_a_marked_end_is_told_in_the_tasks_message(system: System, source: WebServer) -> None:
    image = system.import_from(source.on("/x", raw(b"HTTP/1.0 200 OK\r\n\r\n" + BODY[:100_000])))
    assert image["status"] == "active"
    message = system.task(str(image["id"]))["message"]
    assert message.endswith("the source announced no size, so that a cut could not be told from its end")
