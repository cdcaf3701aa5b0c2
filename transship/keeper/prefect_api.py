"""Prefect's REST API, as far as the keeper needs it. Plain HTTP: importing Prefect costs 1.8 s and 90 MB.

Source: Prefect 3.9, REST API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from transship.domain.errors import TransshipError


class PrefectAway(TransshipError):
    """Prefect's server cannot be reached or cannot serve now; trying again later helps."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"Prefect cannot serve now: {self.reason}"


class PrefectRefused(TransshipError):
    """Prefect's server refused a request; the same request will be refused again.

    Args:
        status: HTTP status, 400 to 499.
        reason: the server's own words, shortened.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason

    def __str__(self) -> str:
        return f"Prefect answered HTTP {self.status}: {self.reason}"


@dataclass(frozen=True, slots=True)
class FlowRunState:
    """State of a flow run.

    Attributes:
        type, name: as Prefect names them, e.g. ``SCHEDULED`` and ``Late``.
        message: may be empty.
        age_s: seconds since it came into this state.
    """

    id: str
    type: str
    name: str
    message: str
    age_s: float

    @property
    def final(self) -> bool:
        """Whether Prefect considers the run ended."""
        return self.type in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class PrefectApi:
    """A client of one Prefect server.

    Args:
        url: API URL without a trailing slash.
        auth_string: ``user:password``; empty for a server without.
    """

    def __init__(self, url: str, auth_string: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http", HTTPAdapter(pool_maxsize=4))
        if auth_string:
            user, _, password = auth_string.partition(":")
            self._session.auth = (user, password)
        self._deployments: dict[str, str] = {}

    def create_flow_run(
        self, deployment: str, name: str, parameters: Mapping[str, Any], *, key: str, tags: Iterable[str], queue: str
    ) -> str:
        """Create a flow run and return its id; under one key only the first call creates one.

        Args:
            deployment: ``<flow>/<deployment>``.
            name: for people.
            key: idempotency key.
            queue: work queue of the deployment's pool.

        Raises:
            PrefectAway, PrefectRefused: no run was created, as far as one can know.
        """
        body = {
            "name": name,
            "parameters": dict(parameters),
            "idempotency_key": key,
            "tags": list(tags),
            "work_queue_name": queue,
        }
        created = self._call("POST", f"/deployments/{self._deployment_id(deployment)}/create_flow_run", body)
        return str(created["id"])

    def set_state(self, flow_run_id: str, type_: str, name: str, message: str) -> None:
        """Force a flow run into a state.

        Raises:
            PrefectAway, PrefectRefused: it is as it was; 404 when there is no such run.
        """
        body = {"state": {"type": type_, "name": name, "message": message}, "force": True}
        self._call("POST", f"/flow_runs/{flow_run_id}/set_state", body)

    def states(self, flow_run_ids: Iterable[str]) -> dict[str, FlowRunState]:
        """Return the states of those flow runs that exist, by id.

        Raises:
            PrefectAway, PrefectRefused: nothing is known.
        """
        wanted = list(flow_run_ids)
        found: dict[str, FlowRunState] = {}
        for start in range(0, len(wanted), 100):
            body = {"flow_runs": {"id": {"any_": wanted[start : start + 100]}}, "limit": 100}
            for run in self._call("POST", "/flow_runs/filter", body):
                state = run["state"] or {"type": "PENDING", "name": "Pending", "message": ""}
                found[run["id"]] = FlowRunState(
                    run["id"], state["type"], state["name"], state.get("message") or "", _age_s(state)
                )
        return found

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
        documents: list[Mapping[str, Any]] = self._call("POST", "/block_documents/filter", body)
        return documents

    def _deployment_id(self, deployment: str) -> str:
        if deployment not in self._deployments:
            found = self._call("GET", f"/deployments/name/{deployment}", None)
            self._deployments[deployment] = str(found["id"])
        return self._deployments[deployment]

    def forget_deployments(self) -> None:
        """Look deployments up again: they may have been made anew."""
        self._deployments.clear()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            answer = self._session.request(method, self._url + path, json=body, timeout=(2, 15))
        except requests.RequestException as error:
            raise PrefectAway(type(error).__name__) from error
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code in (
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.TOO_MANY_REQUESTS,
        ):
            raise PrefectAway(f"HTTP {answer.status_code}")
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise PrefectRefused(answer.status_code, answer.text[:500])
        return answer.json() if answer.content else None


def _age_s(state: Mapping[str, Any]) -> float:
    """Return the seconds since a state's time stamp."""
    stamp = state.get("timestamp")
    if not stamp:
        return 0.0
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds())
