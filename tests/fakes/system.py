"""The whole product, started by its own command in a test's directory, on free loopback ports."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from sqlalchemy import select, update

from config.loading import load_settings
from config.secrets import prefect_auth_string
from config.settings import Settings
from tests.fakes.databases import DATABASES
from tests.fakes.ports import free_port
from tests.fakes.prefect_database import copy_prefect_database
from tests.fakes.terminal import run_at_terminal
from tests.fakes.web_server import Behaviour, Talk
from transship.catalog.engine import Catalog
from transship.catalog.schema import LEASES
from transship.catalog.types import in_seconds
from transship.host.runner_status import read_runner_status, runner_status_path
from transship.supervisor.home import prefect_dir

FINAL = ("success", "failure")
STANDING_SOURCES: Mapping[str, object] = {"download.idle_timeout_s": 600.0, "download.min_speed_bytes_per_s": 0}
"""Options with which a source may stand still for as long as a test on a slow machine needs."""
START_TIMEOUT_S = 540.0


def until(condition: Callable[[], Any], timeout_s: float = 180.0, what: str = "") -> Any:
    """Return the condition's first true value; fail when it does not come in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what or condition}")
        threading.Event().wait(0.1)
    return value


class System:
    """`transship up` with a home of its own. Use as a context manager.

    Args:
        home: empty directory.
        options: settings by dotted name, as TOML would hold them.
    """

    def __init__(self, home: Path, options: Mapping[str, object] | None = None) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TRANSSHIP_", "PREFECT_"))},
            "TRANSSHIP_HOME": str(home),
            "DO_NOT_TRACK": "1",
        }
        chosen: dict[str, object] = {
            "api.port": free_port(),
            "prefect.port": free_port(),
            "prefect.poll_interval_s": 2,
            # Short enough to be waited for, and long enough for a process that has to wait for its turn.
            "lease.ttl_s": 15.0,
            "lease.renew_s": 1.0,
            "supervisor.drain_s": 0.0,
            **STANDING_SOURCES,
            # A machine that is busy with other tests starts a system slowly, but it does.
            "supervisor.start_timeout_s": START_TIMEOUT_S,
            **DATABASES.options(home),
            **(options or {}),
        }
        for option, value in chosen.items():
            name = "TRANSSHIP_" + option.upper().replace(".", "__")
            self.environment[name] = value if isinstance(value, str) else json.dumps(value)
        self.settings: Settings = load_settings(environ=self.environment).settings

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def command(self, *arguments: str, timeout_s: float = 540.0) -> subprocess.CompletedProcess[str]:
        """Run the `transship` command."""
        return subprocess.run(
            [sys.executable, "-m", "transship.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def up(self) -> None:
        """Start everything and wait until it is ready."""
        self._give_prefect_its_tables()
        done = self.command("up", "--detach", timeout_s=START_TIMEOUT_S + 60.0)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def _give_prefect_its_tables(self) -> None:
        """Copy a prepared database for Prefect's server instead of creating it for every system."""
        database = prefect_dir(self.settings) / "prefect.db"
        if not database.exists() and not self.settings.prefect.database_url:
            database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            copy_prefect_database(database)

    def down(self) -> None:
        """Stop everything; fails when a process is left."""
        pids = self.pids()
        done = self.command("down")
        assert done.returncode == 0, done.stdout + done.stderr
        assert not [pid for pid in pids.values() if _alive(pid)]

    def logs(self) -> str:
        """Return the end of every log, for a failing test's report."""
        logs = sorted((self.home / "log").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in logs)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the supervisor and of all components that run."""
        status = json.loads((self.home / "run" / "status.json").read_text())
        found = {part["name"]: part["pid"] for part in status["components"] if part["pid"]}
        return {"supervisor": status["pid"], **found}

    def ready(self) -> set[str]:
        """Return the names of the components that are up."""
        with suppress(OSError, ValueError):
            status = json.loads((self.home / "run" / "status.json").read_text())
            return {part["name"] for part in status["components"] if part["condition"] == "up"}
        return set()

    def flow_pids(self) -> list[int]:
        """Return the processes that run flows now: warm executors with a run, and interpreters of the cold engine."""
        status = read_runner_status(runner_status_path(self.settings))
        found = [executor.pid for executor in status.executors if executor.flow_run_id] if status else []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                environment = (entry / "environ").read_bytes()
                if b"prefect.engine" in command and f"TRANSSHIP_HOME={self.home}\0".encode() in environment:
                    found.append(int(entry.name))
        return found

    def carriers(self) -> list[int]:
        """Return the processes that hold a lease now, as the catalogue names them."""
        with closing(Catalog.open(self.settings)) as catalog, catalog.read() as connection:
            owners = connection.execute(select(LEASES.c.owner).where(LEASES.c.state == "held")).scalars().all()
        return [int(pid) for owner in owners for pid in re.findall(r" pid (\d+) ", str(owner))]

    def expire_lease(self, image_id: str) -> None:
        """Expire the lease of a dead holder now instead of after `lease.ttl_s`."""
        with closing(Catalog.open(self.settings)) as catalog, catalog.write() as connection:
            held = connection.execute(
                update(LEASES)
                .where(LEASES.c.image_id == image_id, LEASES.c.state == "held")
                .values(expires_at=in_seconds(-1.0))
            )
            assert held.rowcount == 1, f"nobody holds the lease of {image_id}"

    def expire_leases_of(self, pids: list[int]) -> None:
        """Wait until processes are dead, and let the leases that they still hold end now.

        A new worker gives the leases of its predecessor's processes up, but for those that had begun just before.
        """
        until(lambda: not any(_alive(pid) for pid in pids), 180.0, f"end of {pids}")
        with closing(Catalog.open(self.settings)) as catalog, catalog.write() as connection:
            for pid in pids:
                held = LEASES.c.owner.contains(f" pid {pid} ") & (LEASES.c.state == "held")
                connection.execute(update(LEASES).where(held).values(expires_at=in_seconds(-1.0)))

    def kill(self, *components: str) -> None:
        """SIGKILL components; ``flow`` stands for the processes that carry an import."""
        pids = self.pids()
        doomed = [pid for name in components for pid in (self.carriers() if name == "flow" else [pids[name]])]
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- the Images API ---

    def api(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Call the Images API."""
        return requests.request(method, self.settings.api_url + path, timeout=120, **arguments)

    def create(self, **body: object) -> str:
        """Create an image, by default raw and bare; return its id."""
        created = self.api("POST", "/v2/images", json={"disk_format": "raw", "container_format": "bare", **body})
        assert created.status_code == 201, created.text
        return str(created.json()["id"])

    def ask(self, image_id: str, uri: str, **body: object) -> requests.Response:
        """Request a web-download."""
        return self.api(
            "POST", f"/v2/images/{image_id}/import", json={"method": {"name": "web-download", "uri": uri}, **body}
        )

    def image(self, image_id: str) -> dict[str, Any]:
        """Return an image as the API shows it."""
        shown: dict[str, Any] = self.api("GET", f"/v2/images/{image_id}").json()
        return shown

    def task(self, image_id: str) -> dict[str, Any]:
        """Return the newest task of an image."""
        tasks: list[dict[str, Any]] = self.api("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
        return max(tasks, key=lambda task: str(task["created_at"]))

    def ended(self, image_id: str, timeout_s: float = 300.0) -> dict[str, Any]:
        """Wait for the newest task of an image to end, even if the API fails meanwhile."""

        def final() -> dict[str, Any] | None:
            with suppress(requests.RequestException, ValueError, KeyError):
                task = self.task(image_id)
                return task if task["status"] in FINAL else None
            return None

        ended: dict[str, Any] = until(final, timeout_s, f"end of the import of {image_id}\n{self.logs()}")
        return ended

    def import_from(self, uri: str, **body: object) -> dict[str, Any]:
        """Create an image, import it, wait for the end; return the image."""
        image_id = self.create(**body)
        asked = self.ask(image_id, uri)
        assert asked.status_code == 202, asked.text
        self.ended(image_id)
        return self.image(image_id)

    # --- Prefect's API ---

    def prefect(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call Prefect's API as the operator."""
        user, _, password = prefect_auth_string(self.settings).partition(":")
        answer = requests.request(
            method, self.settings.prefect_api_url + path, json=body, auth=(user, password), timeout=120
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def flow_run(self, image_id: str) -> dict[str, Any]:
        """Return the flow run that carries an image's newest task."""
        run_id = until(lambda: self.task(image_id)["flow_run_id"], 180.0, "dispatch")
        run: dict[str, Any] = self.prefect("GET", f"/flow_runs/{run_id}")
        return run

    def set_state(self, flow_run_id: str, type_: str, name: str) -> None:
        """Set a flow run's state, as the UI's buttons do."""
        self.prefect(
            "POST", f"/flow_runs/{flow_run_id}/set_state", {"state": {"type": type_, "name": name}, "force": True}
        )

    # --- what lies on disk ---

    def staged(self) -> list[str]:
        """Return the names of the files in staging."""
        directory = self.settings.staging_dir
        return sorted(path.name for path in directory.iterdir() if not path.name.startswith(".transship"))

    def stored(self, store: str = "local") -> list[str]:
        """Return the names of the files in a store, without its mark."""
        directory = self.settings.all_stores[store].dir
        found = directory.iterdir() if directory.exists() else ()
        return sorted(path.name for path in found if not path.name.startswith(".transship"))


def openstack_command(system: System, *arguments: str) -> str:
    """Run the `openstack` command as a client of a system; return what it printed."""
    done = run_at_terminal(
        [str(Path(sys.executable).parent / "openstack"), *arguments],
        {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": system.settings.api_url},
        system.home,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def assert_holds(system: System, image: Mapping[str, object], body: bytes) -> None:
    """Check that an image is active in the store ``local`` and has these bytes in the API and in the store."""
    assert image["status"] == "active", image
    assert (image["size"], image["os_hash_value"]) == (len(body), hashlib.sha512(body).hexdigest())
    assert image["checksum"] == hashlib.md5(body).hexdigest()
    assert (system.settings.all_stores["local"].dir / str(image["id"])).read_bytes() == body
    downloaded = system.api("GET", f"/v2/images/{image['id']}/file").content
    assert downloaded == body


class Gate:
    """A source that stops half-way until it is opened, so a test can act in the middle."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.reached = threading.Event()
        self.opened = threading.Event()

    def open(self) -> None:
        """Let the data flow."""
        self.opened.set()

    def behaviour(self) -> Behaviour:
        """Return the server's behaviour: half of the data, then silence until opened."""

        def behave(talk: Talk) -> None:
            half = len(self.body) // 2
            talk.head(200, {"Content-Length": str(len(self.body)), "ETag": '"v1"'})
            talk.send(self.body[:half])
            self.reached.set()
            while not self.opened.wait(0.05):
                talk.pause(0.0)
            talk.send(self.body[half:])

        return behave


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
