"""Kill parts of the product in the middle of an import, for real."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests

from config.loading import load_settings
from tests.fakes.system import Gate, System, until
from tests.fakes.web_server import WebServer

pytestmark = [pytest.mark.real, pytest.mark.faults]

BODY = os.urandom(1 << 20)
NOT_APPLIED = "nothing has changed since the last deploy"
HOUSEKEEPING = "/deployments/name/housekeeping/housekeeping"


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(BODY)
    yield made
    made.open()


def begin(system: System, source: WebServer, gate: Gate, path: str) -> str:
    """Start an import and return its image when half of the data have arrived."""
    image_id = system.create(name=path)
    assert system.ask(image_id, source.on(path, gate.behaviour())).status_code == 202
    assert gate.reached.wait(180), system.logs()
    return image_id


def assert_consistent(system: System, image_id: str) -> None:
    """Check what must be true after every fault."""
    task, image = system.ended(image_id, 300.0), system.image(image_id)
    assert "os_glance_import_task" not in image
    assert image["os_glance_importing_to_stores"] == ""
    if task["status"] == "success":
        assert image["status"] == "active"
        assert image["os_hash_value"] == hashlib.sha512(BODY).hexdigest()
        assert (system.settings.all_stores["local"].dir / image_id).read_bytes() == BODY
    else:
        assert image["status"] == "queued"
        assert image["os_glance_import_message"]
        assert image_id not in system.stored()
    until(lambda: not [name for name in system.staged() if image_id in name], 180.0, "empty staging")


def lines_of_deploy(system: System, text: str = "local") -> int:
    """Return how many lines of the log of `deploy` have a text; the store ``local`` has one in each."""
    return sum(text in line for line in (system.home / "log" / "deploy.log").read_text().splitlines())


@pytest.mark.parametrize("victim", ["flow", "worker", "api", "keeper", "prefect-server"])
def test_an_import_survives_the_death_of_one_process(
    system: System, source: WebServer, gate: Gate, victim: str
) -> None:
    image_id = begin(system, source, gate, f"/kill-{victim}")
    carriers = system.carriers()
    system.kill(victim)
    if victim in {"flow", "worker"}:
        system.expire_leases_of(carriers)
    gate.open()
    assert_consistent(system, image_id)
    assert system.image(image_id)["status"] == "active"


def test_an_import_survives_the_death_of_everything(system: System, source: WebServer, gate: Gate) -> None:
    image_id = begin(system, source, gate, "/kill-all")
    carriers = system.carriers()
    system.kill("supervisor", "flow", "worker", "api", "keeper", "prefect-server")
    system.expire_leases_of(carriers)
    gate.open()
    deploys, spared = lines_of_deploy(system), lines_of_deploy(system, NOT_APPLIED)
    system.up()
    assert_consistent(system, image_id)
    assert system.image(image_id)["status"] == "active"
    assert lines_of_deploy(system, NOT_APPLIED) == spared + 1
    assert lines_of_deploy(system) > deploys  # the stores are prepared nevertheless


def test_an_import_goes_on_after_down_and_up(system: System, source: WebServer, gate: Gate) -> None:
    image_id = begin(system, source, gate, "/down-up")
    # A start puts back a deployment that somebody has deleted.
    system.prefect("DELETE", f"/deployments/{system.prefect('GET', HOUSEKEEPING)['id']}")
    system.down()
    gate.open()
    spared = lines_of_deploy(system, NOT_APPLIED)
    up = system.command("up", "--detach", "--set", "log.backups=4")
    assert up.returncode == 0, up.stdout + up.stderr + system.logs()
    assert load_settings(environ=system.environment).settings.log.backups == 4
    assert_consistent(system, image_id)
    assert system.image(image_id)["status"] == "active"
    assert system.prefect("GET", HOUSEKEEPING)["work_pool_name"] == system.settings.prefect.work_pool
    assert lines_of_deploy(system, NOT_APPLIED) == spared


def send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def test_prefect_may_be_away_for_two_minutes(system: System, source: WebServer, gate: Gate) -> None:
    live = begin(system, source, gate, "/prefect-away")
    flow = system.flow_pids()
    servers = {system.pids()["prefect-server"]}
    os.kill(*servers, signal.SIGSTOP)
    try:
        waiting = system.create(name="asked while Prefect is away")
        assert system.ask(waiting, source.serve("/asked-meanwhile", BODY)).status_code == 202
        # What is tested is that nothing happens in this time. A server that stands still is killed and started anew.
        for _ in range(60):
            threading.Event().wait(2)
            servers |= {pid for name, pid in system.pids().items() if name == "prefect-server"}
            send(servers, signal.SIGSTOP)
        assert set(flow) <= set(system.flow_pids())
        assert system.task(live)["status"] == "processing"
        assert system.task(waiting)["status"] == "pending"
        assert "Prefect" in system.task(waiting)["message"]
    finally:
        send(servers, signal.SIGCONT)
    gate.open()
    for image_id in (live, waiting):
        assert_consistent(system, image_id)
        assert system.image(image_id)["status"] == "active"


def test_a_cancel_in_prefect_ends_the_import_with_that_reason(system: System, source: WebServer, gate: Gate) -> None:
    image_id = begin(system, source, gate, "/cancel")
    system.set_state(system.flow_run(image_id)["id"], "CANCELLING", "Cancelling")
    task = system.ended(image_id)
    assert (task["status"], system.image(image_id)["status"]) == ("failure", "queued")
    assert "cancelled" in task["message"]
    assert image_id not in system.stored()
    until(lambda: not system.flow_pids(), 180.0, "end of the flow process")


def test_an_image_deleted_while_it_is_imported_leaves_nothing(system: System, source: WebServer, gate: Gate) -> None:
    image_id = begin(system, source, gate, "/delete")
    assert system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    gate.open()
    until(lambda: not [name for name in system.staged() if image_id in name], 180.0, "empty staging")
    assert image_id not in system.stored()
    assert system.api("GET", f"/v2/images/{image_id}").status_code == 404
    until(lambda: not system.flow_pids(), 180.0, "end of the flow process")


def test_a_retry_of_a_running_run_changes_nothing(system: System, source: WebServer, gate: Gate) -> None:
    image_id = begin(system, source, gate, "/retry-running")
    task_id = system.task(image_id)["id"]
    run_id = system.flow_run(image_id)["id"]
    system.set_state(run_id, "SCHEDULED", "AwaitingRetry")
    # The worker that has the run is offered it again; it starts no second process beside the first.
    offered = f'event="run was offered again; it continues here" flow_run_id={run_id}'
    until(lambda: offered in system.logs(), 180.0, "the second offer")
    assert system.task(image_id)["status"] == "processing"
    gate.open()
    assert_consistent(system, image_id)
    assert (system.task(image_id)["id"], system.image(image_id)["status"]) == (task_id, "active")


def test_the_api_keeps_answering_without_prefect(system: System) -> None:
    server = system.pids()["prefect-server"]
    os.kill(server, signal.SIGSTOP)
    try:
        assert system.api("GET", "/v2/images").status_code == 200
    except requests.RequestException as error:  # pragma: no cover - the failure that is tested for
        pytest.fail(str(error))
    finally:
        os.kill(server, signal.SIGCONT)
