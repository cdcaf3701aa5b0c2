"""The real runner in a separate process, on the tests' Prefect server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from config.loading import load_settings
from config.settings import Settings
from deployments.pool import base_job_template
from tests.fakes.databases import DATABASES
from tests.fakes.ending import end
from tests.fakes.images import prepare_stores
from tests.fakes.prefect_server import PrefectServer
from transship.catalog.engine import Catalog
from transship.host.processes import descendants, start_time
from transship.host.runner_status import RunnerStatus, read_runner_status, runner_status_path

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def until(condition: Callable[[], Any], what: Callable[[], str] = str, timeout_s: float = 180.0) -> Any:
    """Return the condition's first true value; fail with a message if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s\n{what()}")
        threading.Event().wait(0.05)
    return value


class Runner:
    """`python -m transship.runner` on a work pool of its own. Use as a context manager.

    Args:
        server: a running Prefect server.
        home: directory of this runner and of what its flows write.
        options: settings by dotted name.
        module: what is started.
    """

    def __init__(
        self,
        server: PrefectServer,
        home: Path,
        options: Mapping[str, object] | None = None,
        module: str = "transship.runner",
    ) -> None:
        self.server, self.home, self.pool = server, home, f"pool-{uuid4().hex[:8]}"
        self.log = home / "runner.log"
        self._module = module
        self.process: subprocess.Popen[bytes] | None = None
        chosen: dict[str, object] = {
            "home": str(home),
            "host_name": "here",
            "prefect.work_pool": self.pool,
            "prefect.api_url": server.url,
            "prefect.worker_limit": 2,
            "supervisor.drain_s": 0.0,
            **DATABASES.options(home),
            **(options or {}),
        }
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith("TRANSSHIP_")}
        self.environment.update(server.environment)
        self.set(**{name.replace(".", "__"): value for name, value in chosen.items()})
        (home / "run").mkdir(exist_ok=True)
        self._deployments: dict[str, str] = {}

    def set(self, **options: object) -> None:
        """Set options of the next start."""
        for name, value in options.items():
            self.environment[f"TRANSSHIP_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)

    @property
    def settings(self) -> Settings:
        """The settings of the next start."""
        return load_settings(environ=self.environment).settings

    def make_pool(self) -> None:
        """Make the work pool and prepare the stores, as `transship deploy` would."""
        body = {"name": self.pool, "type": "process", "base_job_template": base_job_template()}
        self.server.ask("POST", "/work_pools/", body)
        with closing(Catalog.open(self.settings)) as catalog:
            prepare_stores(self.settings, catalog)

    def __enter__(self) -> Self:
        self.make_pool()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the runner and wait until it serves."""
        if self.process is not None:
            self.process.wait()  # it was killed
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-P", "-m", self._module],
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: self.serves or self.process_ended, self.said, 540.0)
        assert self.serves, self.said()

    def stop(self) -> list[int]:
        """Stop the runner; return the processes that it left, after killing them."""
        process, self.process = self.process, None
        if process is None:
            return []
        below = descendants(process.pid)
        end(process, 180.0)
        left = [pid for pid in below if start_time(pid) is not None]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left

    @property
    def serves(self) -> bool:
        """Whether the runner takes runs and has an executor ready, or reports that it has none."""
        status = self.status
        if status is None or status.phase != "serving":
            return False
        return status.engine == "cold" or any(one.condition != "starting" for one in status.executors)

    @property
    def process_ended(self) -> bool:
        """Whether the runner has ended by itself."""
        return self.process is None or self.process.poll() is not None

    @property
    def status(self) -> RunnerStatus | None:
        """The runner's status."""
        return read_runner_status(runner_status_path(self.settings))

    @property
    def pid(self) -> int:
        """The dispatcher."""
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        """Return the end of the runner's log."""
        return f"{self.status}\n{self.log.read_text(errors='replace')[-6000:]}"

    # --- runs ---

    def ask(self, flow: str, name: str, queue: str = "default", **more: Any) -> str:
        """Ask for a run of a flow of `tests.fakes.trial_flows`, or of another entrypoint; return its id."""
        parameters = {"directory": str(self.home), "name": name, **more.pop("parameters", {})}
        deployment = self._deployment(flow, more.pop("entrypoint", ""))
        body = {"parameters": parameters, "work_queue_name": queue, "name": name, **more}
        return str(self.server.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])

    def born_pending(self, flow: str, name: str, queue: str = "default") -> dict[str, Any]:
        """Create a run that is Pending as if a worker had claimed it; return Prefect's response."""
        body = {
            "parameters": {"directory": str(self.home), "name": name},
            "work_queue_name": queue,
            "state": {"type": "PENDING"},
        }
        made: dict[str, Any] = self.server.ask("POST", f"/deployments/{self._deployment(flow)}/create_flow_run", body)
        return made

    def import_by_hand(self, uri: str, disk_format: str, flow: str = "", **more: object) -> str:
        """Ask for a run of the product's web-download, as an operator does in the UI; return its id.

        Args:
            flow: one of `tests.fakes.trial_flows` that imports in an odd way; empty: the product's.
        """
        deployment = self._deployment(flow) if flow else self._deployment("", "flows.web_download.web_download")
        stores = [self.settings.default_store]
        body = {"parameters": {"uri": uri, "disk_format": disk_format, "stores": stores, **more}}
        return str(self.server.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])

    def _deployment(self, flow: str, entrypoint: str = "") -> str:
        if flow not in self._deployments:
            flow_id = self.server.ask("POST", "/flows/", {"name": f"trial-{flow or 'import'}"})["id"]
            body = {
                "name": self.pool,
                "flow_id": flow_id,
                "entrypoint": entrypoint or f"tests.fakes.trial_flows.{flow}",
                "work_pool_name": self.pool,
                "work_queue_name": "default",
            }
            self._deployments[flow] = str(self.server.ask("POST", "/deployments/", body)["id"])
        return self._deployments[flow]

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run as Prefect shows it."""
        shown: dict[str, Any] = self.server.ask("GET", f"/flow_runs/{run_id}")
        return shown

    def set_state(self, run_id: str, type_: str, name: str) -> None:
        """Set a run's state, as the UI's buttons do."""
        self.server.ask(
            "POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": type_, "name": name}, "force": True}
        )

    def ended(self, run_id: str, timeout_s: float = 180.0) -> dict[str, Any]:
        """Wait for a run's end; return its last state."""

        def final() -> dict[str, Any] | None:
            state: dict[str, Any] = self.run(run_id)["state"]
            return state if state["type"] in FINAL else None

        state: dict[str, Any] = until(final, lambda: f"{self.run(run_id)['state']}\n{self.said()}", timeout_s)
        return state

    def noted(self, name: str) -> list[int]:
        """Wait for a flow's note; return the numbers in it: its process and its child."""
        path = self.home / name
        until(path.exists, self.said)
        return [int(word) for word in path.read_text().split()]

    def let_go(self, name: str) -> None:
        """Let a held flow end."""
        (self.home / f"{name}.go").touch()
