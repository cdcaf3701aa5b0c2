"""The keeper's requests to Prefect's server.

Source: Prefect 3.9, REST API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from transship.domain.errors import PrefectRefused
from transship.domain.task import ENDED_TYPES, TYPE_OF_STATE, RunState
from transship.keeper.waits import Pool, Queue
from transship.prefect_rest.client import PrefectRest


@dataclass(frozen=True, slots=True)
class WantedRun:
    """A flow run to create.

    Attributes:
        flow: the flow, whose deployment has the same name.
        name: display name.
        key: idempotency key; only the first request with a key creates a run.
        queue: work queue of the deployment's pool.
    """

    flow: str
    name: str
    parameters: Mapping[str, Any]
    key: str
    queue: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowRunState:
    """State of a flow run.

    Attributes:
        type, name: as Prefect names them, e.g. ``SCHEDULED`` and ``Late``.
        message: may be empty.
        age_s: seconds since it entered this state.
    """

    id: str
    type: str
    name: str
    message: str
    age_s: float

    @property
    def final(self) -> bool:
        """Whether Prefect considers the run ended."""
        return self.type in ENDED_TYPES


class PrefectApi(PrefectRest):
    """A client for one Prefect server; see `PrefectRest`."""

    def __init__(self, url: str, auth_string: str, *, tries_when_busy: int = 0) -> None:
        super().__init__(url, auth_string, tries_when_busy=tries_when_busy)
        self._deployments: dict[str, str] = {}
        self.known_pool: Pool | None = None
        """The work pool as Prefect last described it; None before that."""

    def schedule(self, wanted: WantedRun) -> str:
        """Create a flow run that waits in its queue for a worker; return its id.

        Raises:
            PrefectAway, PrefectRefused: as far as is known, no run was created.
        """
        body = {
            "name": wanted.name,
            "parameters": dict(wanted.parameters),
            "idempotency_key": wanted.key,
            "tags": list(wanted.tags),
            "work_queue_name": wanted.queue,
        }
        answer = self.call("POST", f"/deployments/{self._deployment(wanted.flow)}/create_flow_run", body)
        return str(answer["id"])

    def set_state(self, flow_run_id: str, name: RunState, message: str) -> None:
        """Force a flow run into a state.

        Raises:
            PrefectAway, PrefectRefused: its state is unchanged; 404 when there is no such run.
        """
        self._enter(flow_run_id, name, message, force=True)

    def ask_state(self, flow_run_id: str, name: RunState, message: str) -> None:
        """Propose a state for a flow run; a run that has ended meanwhile keeps its final state.

        Raises:
            PrefectAway, PrefectRefused: its state is unchanged; 404 when there is no such run.
        """
        self._enter(flow_run_id, name, message, force=False)

    def _enter(self, flow_run_id: str, name: RunState, message: str, *, force: bool) -> None:
        body = {"state": {"type": TYPE_OF_STATE[name], "name": name, "message": message}, "force": force}
        self.call("POST", f"/flow_runs/{flow_run_id}/set_state", body)

    def states(self, flow_run_ids: Iterable[str]) -> dict[str, FlowRunState]:
        """Return the states of those flow runs that exist, by id.

        Raises:
            PrefectAway, PrefectRefused: nothing is known.
        """
        wanted = list(flow_run_ids)
        found: dict[str, FlowRunState] = {}
        for start in range(0, len(wanted), 100):
            body = {"flow_runs": {"id": {"any_": wanted[start : start + 100]}}, "limit": 100}
            for run in self.call("POST", "/flow_runs/filter", body):
                state = run["state"] or {"type": "PENDING", "name": "Pending", "message": ""}
                found[run["id"]] = FlowRunState(
                    run["id"], state["type"], state["name"], state.get("message") or "", _age_s(state)
                )
        return found

    def waiting_tags(self, tags: Iterable[str]) -> frozenset[str]:
        """Return the tags that are on some flow run that no worker has taken yet.

        Raises:
            PrefectAway, PrefectRefused: nothing is known.
        """
        return frozenset(tag for tag in tags if self.call("POST", "/flow_runs/filter", _waiting(tag)))

    def pool(self, name: str) -> Pool | None:
        """Return a work pool with its queues; None if no pool has that name.

        Raises:
            PrefectAway, PrefectRefused: nothing is known.
        """
        try:
            found = self.call("GET", f"/work_pools/{name}", None)
            queues = self.call("POST", f"/work_pools/{name}/queues/filter", {"limit": 200})
        except PrefectRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            return None
        known = {each["name"]: Queue(bool(each["is_paused"]), each["concurrency_limit"]) for each in queues}
        self.known_pool = Pool(name, bool(found["is_paused"]), found["concurrency_limit"], known)
        return self.known_pool

    def store_blocks(self) -> list[Mapping[str, Any]]:
        """Return all block documents with the capability ``image-store``, secrets included.

        Raises:
            PrefectAway, PrefectRefused: nothing is known.
        """
        body = {
            "block_schemas": {"block_capabilities": {"all_": ["image-store"]}},
            "include_secrets": True,
            "limit": 200,
        }
        documents: list[Mapping[str, Any]] = self.call("POST", "/block_documents/filter", body)
        return documents

    def send_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Send events; Prefect ignores an event with a known id.

        Raises:
            PrefectAway, PrefectRefused: as far as is known, none was accepted.
        """
        self.call("POST", "/events", list(events))

    def _deployment(self, flow: str) -> str:
        if flow not in self._deployments:
            self._deployments[flow] = str(self.call("GET", f"/deployments/name/{flow}/{flow}", None)["id"])
        return self._deployments[flow]

    def forget_deployments(self) -> None:
        """Clear the cache of deployments, which may have been recreated."""
        self._deployments.clear()


def _waiting(tag: str) -> dict[str, Any]:
    return {
        "flow_runs": {"tags": {"all_": [tag]}, "state": {"type": {"any_": ["SCHEDULED"]}}},
        "limit": 1,
    }


def _age_s(state: Mapping[str, Any]) -> float:
    """Return the seconds since a state's timestamp."""
    stamp = state.get("timestamp")
    if not stamp:
        return 0.0
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds())
