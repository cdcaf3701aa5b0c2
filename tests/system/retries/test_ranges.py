"""Retry through Prefect's API, of a large download that was killed at half: it fetches next to nothing again."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.fakes.fleet import Fleet
from tests.fakes.range_server import StopsAtHalf
from tests.fakes.system import until
from tests.system.retries.conftest import CONNECTIONS, RANGE_BYTES

pytestmark = [pytest.mark.real, pytest.mark.faults]


def test_a_retry_in_prefect_carries_a_killed_import_of_a_gigabyte_on(fleet: Fleet) -> None:
    system = fleet.system
    body = os.urandom(1 << 20) * 1024
    file = StopsAtHalf(body)
    image_id = system.create()
    assert system.ask(image_id, fleet.source.on("/gigabyte", file)).status_code == 202
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
    assert file.sent_bytes - len(body) <= CONNECTIONS * RANGE_BYTES
    assert not [name for name in system.staged() if image_id in name]
