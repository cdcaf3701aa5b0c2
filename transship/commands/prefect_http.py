"""What the command asks of Prefect's server: is it there, are we let in, what does it hold."""

from __future__ import annotations

from typing import Any, Final

from transship.domain.errors import PrefectAway, PrefectRefused, ServiceRefused, ServiceUnreachable
from transship.domain.task import TYPE_OF_STATE, RunState
from transship.prefect_rest.client import PrefectRest

SERVICE: Final = "Prefect"
STORE_CAPABILITY: Final = "image-store"


class PrefectHttp(PrefectRest):
    """One Prefect server; see `PrefectRest`.

    All methods raise:
        ServiceUnreachable: nobody answers there, or not now.
        ServiceRefused: the answer is an error.
    """

    def version(self) -> str:
        """Return the server's version; proves that we are let in."""
        return str(self.call("GET", "/admin/version"))

    def pool_type(self, pool: str) -> str | None:
        """Return the type of a work pool, None if there is no such pool."""
        found = self.call("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [pool]}}})
        return str(found[0]["type"]) if found else None

    def online_workers(self, pool: str) -> list[str]:
        """Return the names of the workers of a pool whose heartbeat is fresh; empty if there is no such pool."""
        if self.pool_type(pool) is None:
            return []
        found = self.call("POST", f"/work_pools/{pool}/workers/filter", {})
        return sorted(str(worker["name"]) for worker in found if worker["status"] == "ONLINE")

    def entrypoints(self) -> set[str]:
        """Return the entrypoints of all deployments."""
        return {str(deployment["entrypoint"]) for deployment in self.call("POST", "/deployments/filter", {})}

    def store_documents(self) -> list[str]:
        """Return the names of the block documents that describe stores."""
        asked = {"block_schemas": {"block_capabilities": {"all_": [STORE_CAPABILITY]}}}
        return sorted(str(document["name"]) for document in self.call("POST", "/block_documents/filter", asked))

    def retry(self, run_id: str) -> None:
        """Schedule a flow run again, as the Retry of Prefect's UI does."""
        name = RunState.AWAITING_RETRY
        state = {"type": TYPE_OF_STATE[name], "name": name, "message": "transship rerun"}
        self.call("POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def run_state(self, run_id: str) -> tuple[str, str]:
        """Return the name of a flow run's state and what it says; both may be empty."""
        state = self.call("GET", f"/flow_runs/{run_id}").get("state") or {}
        return str(state.get("name") or ""), str(state.get("message") or "")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request, and return the JSON of the answer."""
        try:
            return super().call(method, path, body)
        except PrefectAway as away:
            raise ServiceUnreachable(SERVICE, self.url, away.reason) from away
        except PrefectRefused as refused:
            raise ServiceRefused(SERVICE, refused.status, refused.reason) from refused
