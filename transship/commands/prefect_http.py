"""The command's requests to Prefect's server: whether it answers and grants access, and what it has."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from transship.domain.errors import (
    LoginRefused,
    NothingListens,
    PrefectAway,
    PrefectRefused,
    ServiceRefused,
    ServiceUnreachable,
)
from transship.domain.task import TYPE_OF_STATE, RunState
from transship.prefect_rest.client import NOTHING_LISTENS, PrefectRest

SERVICE: Final = "Prefect"
STORE_CAPABILITY: Final = "image-store"


class PrefectHttp(PrefectRest):
    """One Prefect server; see `PrefectRest`.

    All methods raise:
        ServiceUnreachable: nothing answers there, or not now.
        LoginRefused: the server refuses the log-in.
        ServiceRefused: the response is another error.
    """

    def version(self) -> str:
        """Return the server's version; this needs a valid login."""
        return str(self.call("GET", "/admin/version"))

    def pool_type(self, pool: str) -> str | None:
        """Return the type of a work pool; None if there is no such pool."""
        found = self.call("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [pool]}}})
        return str(found[0]["type"]) if found else None

    def online_workers(self, pool: str) -> list[str]:
        """Return the names of a pool's workers with a recent heartbeat; empty if there is no such pool."""
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
        """Reschedule a flow run, as Retry in Prefect's UI does."""
        name = RunState.AWAITING_RETRY
        state = {"type": TYPE_OF_STATE[name], "name": name, "message": "transship rerun"}
        self.call("POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def run_state(self, run_id: str) -> tuple[str, str]:
        """Return the name and the message of a flow run's state; both may be empty."""
        state = self.call("GET", f"/flow_runs/{run_id}").get("state") or {}
        return str(state.get("name") or ""), str(state.get("message") or "")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request, and return the JSON of the response."""
        try:
            return super().call(method, path, body)
        except PrefectAway as away:
            kind = NothingListens if away.reason == NOTHING_LISTENS else ServiceUnreachable
            raise kind(SERVICE, self.url, away.reason) from away
        except PrefectRefused as refused:
            error = LoginRefused if refused.status == HTTPStatus.UNAUTHORIZED else ServiceRefused
            raise error(SERVICE, refused.status, refused.reason) from refused
