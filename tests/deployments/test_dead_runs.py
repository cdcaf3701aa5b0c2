"""The automation for dead runs on a real Prefect server: it ends runs whose process went silent, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from config.settings import Settings
from deployments.apply import apply
from deployments.automations import HEARTBEAT, NAME
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import until
from transship.domain.task import (
    BEFORE_RUNNING,
    LEFT_ALONE,
    STATUS_OF_TYPE,
    TYPE_OF_STATE,
    RunState,
)

ROOT = Path(__file__).parents[2]
LEAST_SILENCE_S = 10.0
"""The shortest window that Prefect allows."""


@pytest.fixture
def server(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    with prefect_server.as_client():
        yield prefect_server


@pytest.fixture
def automation(server: PrefectServer, tmp_path: Path) -> str:
    """The product's automation with a short window; its id."""
    apply(Settings.model_validate({"home": tmp_path, "host_name": "here", **server.apart(tmp_path)}))
    (found,) = server.ask("POST", "/automations/filter", {"automations": {"name": {"any_": [NAME]}}})
    edited = {name: found[name] for name in ("name", "description", "enabled", "trigger", "actions")}
    edited["trigger"] |= {"within": LEAST_SILENCE_S}
    server.ask("PUT", f"/automations/{found['id']}", edited)
    return str(found["id"])


class Run:
    """A run of one of the product's deployments that the test carries itself, as a worker would."""

    def __init__(self, server: PrefectServer) -> None:
        self.server = server
        self.deployment = server.ask("GET", "/deployments/name/web-download/web-download")["id"]
        asked = {"parameters": {"uri": "http://example.org/image", "disk_format": "raw"}, "name": uuid4().hex}
        self.id = str(server.ask("POST", f"/deployments/{self.deployment}/create_flow_run", asked)["id"])
        self.enter(RunState.RUNNING)

    def enter(self, name: RunState) -> None:
        state = {"type": TYPE_OF_STATE[name], "name": name}
        self.server.ask("POST", f"/flow_runs/{self.id}/set_state", {"state": state, "force": True})

    def beat(self) -> None:
        """Send a heartbeat like the dispatcher."""
        role = {"prefect.resource.id": f"prefect.deployment.{self.deployment}", "prefect.resource.role": "deployment"}
        event = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": HEARTBEAT,
            "resource": {"prefect.resource.id": f"prefect.flow-run.{self.id}"},
            "related": [role],
        }
        self.server.ask("POST", "/events", [event])

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.server.ask("GET", f"/flow_runs/{self.id}")["state"]
        return state


def run_ids_acted_on(server: PrefectServer, automation: str) -> set[str]:
    """Return the runs for which the automation has fired."""
    wanted = {
        "event": {"name": ["prefect.automation.triggered"]},
        "any_resource": {"id": [f"prefect.automation.{automation}"]},
    }
    found = server.ask("POST", "/events/filter", {"filter": wanted, "limit": 50})["events"]
    labels = [event["payload"]["triggering_labels"] for event in found]
    return {each["prefect.resource.id"].removeprefix("prefect.flow-run.") for each in labels}


@pytest.mark.real
def test_only_runs_that_went_silent_are_shown_as_crashed(server: PrefectServer, automation: str) -> None:
    left = {name: Run(server) for name in LEFT_ALONE}
    for run in left.values():
        run.beat()
    for name, run in left.items():
        run.enter(name)
    retried = Run(server)
    retried.beat()
    # A Retry within the window, whose process has not given a sign of life yet.
    for name in (RunState.IMPORTED, RunState.AWAITING_RETRY, RunState.RUNNING):
        retried.enter(name)
    # Its window is the last to end.
    silent = Run(server)
    silent.beat()

    until(lambda: silent.state["type"] == "CRASHED", lambda: f"{silent.state}")
    until(lambda: silent.id in run_ids_acted_on(server, automation), lambda: "the event of the automation")

    assert {name: run.state["name"] for name, run in left.items()} == {name: name for name in left}
    assert retried.state["type"] == "RUNNING"
    assert run_ids_acted_on(server, automation) == {silent.id}


def test_every_name_of_a_state_has_a_type_and_is_quiet_or_is_watched() -> None:
    assert TYPE_OF_STATE.keys() == set(RunState)
    assert set(TYPE_OF_STATE.values()) == STATUS_OF_TYPE.keys()
    watched = {RunState.RUNNING, RunState.RETRYING, RunState.CANCELLING}
    assert set(RunState) == LEFT_ALONE | BEFORE_RUNNING | watched
    assert not LEFT_ALONE & (BEFORE_RUNNING | watched)


def test_flows_take_the_names_of_their_states_from_the_table() -> None:
    """The automation and the keeper would not know a literal name."""
    literal = []
    for path in sorted((ROOT / "flows").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Completed", "Failed", "Crashed"):
                literal += [
                    path.name for word in node.keywords if word.arg == "name" and "RunState" not in ast.dump(word)
                ]
    assert not literal
