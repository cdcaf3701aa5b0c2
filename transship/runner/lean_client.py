"""A client of Prefect's API that answers the engine's requests from what the dispatcher already knows.

A run then needs two calls, Running and its end, instead of ten. Source: Prefect 3.9, flow_engine.py.
"""

from __future__ import annotations

import time
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy, ServerDefaultResultStorage, State
from prefect.client.schemas.responses import SetStateStatus, StateAcceptDetails
from prefect.settings import get_current_settings

STORAGE_FRESH_S: Final = 60.0
"""How long the server's default result storage is cached."""

T = TypeVar("T")


class LeanClient(SyncPrefectClient):
    """Prefect's own client with shortcuts for its process's current run.

    Args:
        url: of the API.
        auth_string: ``user:password``; None: no login.
    """

    def __init__(self, url: str, auth_string: str | None) -> None:
        super().__init__(url, auth_string=auth_string)
        self._held: FlowRun | None = None
        self._dry = False
        self._known = False
        self._storage: ServerDefaultResultStorage | None = None
        self._storage_read_at = 0.0

    def hold(self, flow_run: FlowRun, *, dry: bool) -> None:
        """Use shortcuts for this run.

        Args:
            flow_run: its current record on the server.
            dry: send nothing to the server.
        """
        self._held, self._dry, self._known = flow_run, dry, False

    def let_go(self) -> None:
        """Use no shortcuts any more."""
        self._held, self._dry = None, False

    def read_flow_run(self, flow_run_id: UUID) -> FlowRun:
        """Return a flow run; the engine's read right after Running needs no call.

        Later reads check whether the run was changed from outside, so they ask the server.
        """
        if self._held is not None and self._held.id == flow_run_id and (self._known or self._dry):
            self._known = False
            return self._held.model_copy()
        return super().read_flow_run(flow_run_id)

    def update_flow_run(
        self,
        flow_run_id: UUID,
        flow_version: str | None = None,
        parameters: dict[str, Any] | None = None,
        name: str | None = None,
        tags: Any = None,
        empirical_policy: FlowRunPolicy | None = None,
        infrastructure_pid: str | None = None,
        job_variables: dict[str, Any] | None = None,
    ) -> httpx.Response:
        """Update a flow run; version and policy are set by the deployment already and need no call."""
        others = (parameters, name, tags, infrastructure_pid, job_variables)
        if self._holds(flow_run_id) and all(value is None for value in others):
            return httpx.Response(httpx.codes.NO_CONTENT)
        return super().update_flow_run(
            flow_run_id,
            flow_version=flow_version,
            parameters=parameters,
            name=name,
            tags=tags,
            empirical_policy=empirical_policy,
            infrastructure_pid=infrastructure_pid,
            job_variables=job_variables,
        )

    def set_flow_run_name(self, flow_run_id: UUID, name: str) -> httpx.Response:
        """Rename a flow run; no call if it has that name already."""
        if self._held is not None and self._held.id == flow_run_id and (self._dry or self._held.name == name):
            return httpx.Response(httpx.codes.NO_CONTENT)
        return super().set_flow_run_name(flow_run_id, name)

    def set_flow_run_state(
        self, flow_run_id: UUID | str, state: State[T], force: bool = False
    ) -> OrchestrationResult[T]:
        """Propose a state, and remember the result."""
        held = self._held
        if held is None or str(held.id) != str(flow_run_id):
            return super().set_flow_run_state(flow_run_id, state, force=force)
        if self._dry:
            result = OrchestrationResult[T](
                state=state, status=SetStateStatus.ACCEPT, details=StateAcceptDetails(type="accept_details")
            )
        else:
            result = super().set_flow_run_state(flow_run_id, state, force=force)
        if result.status is SetStateStatus.ACCEPT and result.state is not None:
            held.state = result.state
            held.state_type, held.state_name = result.state.type, result.state.name
            if result.state.is_running():
                held.run_count += 1
                self._known = True
        return result

    def read_server_default_result_storage(self) -> ServerDefaultResultStorage:
        """Return the server's default result storage; read twice per run, so cached for a while."""
        if self._dry:
            return ServerDefaultResultStorage()
        now = time.monotonic()
        if self._storage is None or now - self._storage_read_at > STORAGE_FRESH_S:
            self._storage = super().read_server_default_result_storage()
            self._storage_read_at = now
        return self._storage

    def _holds(self, flow_run_id: UUID) -> bool:
        return self._held is not None and self._held.id == flow_run_id


def lean_client() -> LeanClient:
    """Return a client for the server in Prefect's settings.

    Raises:
        ValueError: no server is configured.
    """
    api = get_current_settings().api
    if api.url is None:
        raise ValueError("PREFECT_API_URL is not set")
    return LeanClient(api.url, api.auth_string.get_secret_value() if api.auth_string else None)
