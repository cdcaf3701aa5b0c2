"""What the command asks of Prefect's server: is it there, are we let in, what does it hold.

Plain HTTP: importing Prefect costs 1.8 s and 90 MB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import requests

from config.secrets import prefect_auth_string
from config.settings import Settings
from transship.domain.errors import ServiceRefused, ServiceUnreachable
from transship.domain.task import TYPE_OF_STATE, RunState

SERVICE: Final = "Prefect"
STORE_CAPABILITY: Final = "image-store"


class PrefectHttp:
    """One Prefect server.

    Args:
        url: API URL without a trailing slash.
        auth_string: ``user:password``; empty for a server without.

    All methods raise:
        ServiceUnreachable: nobody answers there.
        ServiceRefused: the answer is an error.
    """

    def __init__(self, url: str, auth_string: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        if auth_string:
            user, _, password = auth_string.partition(":")
            self._session.auth = (user, password)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the server of the settings.

        Raises:
            ConfigurationRefused: its log-in cannot be read.
        """
        return cls(settings.prefect_api_url, prefect_auth_string(settings))

    def version(self) -> str:
        """Return the server's version; proves that we are let in."""
        return str(self._call("GET", "/admin/version"))

    def pool_type(self, pool: str) -> str | None:
        """Return the type of a work pool, None if there is no such pool."""
        found = self._call("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [pool]}}})
        return str(found[0]["type"]) if found else None

    def online_workers(self, pool: str) -> list[str]:
        """Return the names of the workers of a pool whose heartbeat is fresh; empty if there is no such pool."""
        if self.pool_type(pool) is None:
            return []
        found = self._call("POST", f"/work_pools/{pool}/workers/filter", {})
        return sorted(str(worker["name"]) for worker in found if worker["status"] == "ONLINE")

    def entrypoints(self) -> set[str]:
        """Return the entrypoints of all deployments."""
        return {str(deployment["entrypoint"]) for deployment in self._call("POST", "/deployments/filter", {})}

    def store_documents(self) -> list[str]:
        """Return the names of the block documents that describe stores."""
        asked = {"block_schemas": {"block_capabilities": {"all_": [STORE_CAPABILITY]}}}
        return sorted(str(document["name"]) for document in self._call("POST", "/block_documents/filter", asked))

    def retry(self, run_id: str) -> None:
        """Schedule a flow run again, as the Retry of Prefect's UI does."""
        name = RunState.AWAITING_RETRY
        state = {"type": TYPE_OF_STATE[name], "name": name, "message": "transship rerun"}
        self._call("POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def run_state(self, run_id: str) -> tuple[str, str]:
        """Return the name of a flow run's state and what it says; both may be empty."""
        state = self._call("GET", f"/flow_runs/{run_id}").get("state") or {}
        return str(state.get("name") or ""), str(state.get("message") or "")

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        try:
            answer = self._session.request(method, self.url + path, json=body, timeout=(2, 15))
        except requests.ConnectionError as error:
            raise ServiceUnreachable(SERVICE, self.url, "nothing listens there") from error
        except requests.RequestException as error:
            raise ServiceUnreachable(SERVICE, self.url, type(error).__name__) from error
        if not answer.ok:
            raise ServiceRefused(SERVICE, answer.status_code, answer.text[:300] or answer.reason)
        return answer.json()
