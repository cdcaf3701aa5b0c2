"""Imports of all methods on a running system, the processes to kill, and the invariants that must hold."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import requests
from sqlalchemy import select

from tests.fakes.remote_glance import RemoteGlance
from tests.fakes.system import FINAL, System, until
from tests.fakes.web_server import Behaviour, Talk, WebServer, whole
from transship.catalog.engine import Catalog
from transship.catalog.schema import LEASES, LOCATIONS, SECRETS, STAGED, TASKS
from transship.host.processes import start_time
from transship.host.runner_status import read_runner_status, runner_status_path

METHODS: Final = ("web-download", "glance-direct", "glance-download", "copy-image")
KINDS: Final = ("flow", "worker", "template", "api", "keeper", "prefect-server")
"""Kinds of process: who carries an import, who forks and watches those, the service, the keeper, Prefect."""

TARGETS: Final = ("local", "second")
"""Stores that imports write; copies write the second one alone."""

REGION: Final = "elsewhere"
OCTETS: Final = {"Content-Type": "application/octet-stream", "Accept": "application/json"}


@dataclass(frozen=True)
class Voyage:
    """A requested import."""

    image_id: str
    method: str
    body: bytes


class Fleet:
    """A system with two stores, a web server, another Glance, and imports of every method.

    Args:
        home: empty directory.
        options: further settings by dotted name.
        environment: further variables of all its processes.
    """

    def __init__(
        self, home: Path, options: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.source = WebServer()
        self.remote = RemoteGlance(self.source)
        stores = {store: {"dir": str(home / "stores" / store)} for store in TARGETS}
        chosen = {
            "stores": stores,
            "default_store": TARGETS[0],
            "imports.enabled_methods": list(METHODS),
            "remotes": {REGION: {"url": self.remote.url}},
            "uri.allowed_hosts": ["127.0.0.1"],
            "uri.allowed_ports": [80, 443, self.source.port],
            "lease.crash_retries": 50,
            **(options or {}),
        }
        self.system = System(home, chosen)
        self.system.environment.update(environment or {})
        self.voyages: list[Voyage] = []

    def __enter__(self) -> Self:
        self.source.__enter__()
        self.system.__enter__()
        return self

    def __exit__(self, *told: Any) -> None:
        try:
            self.system.__exit__(*told)
        finally:
            self.source.__exit__(*told)

    # --- imports ---

    def prepare(self, method: str, body: bytes, behaviour: Behaviour | None = None) -> tuple[str, dict[str, Any]]:
        """Make an image that an import may be asked for; return its id and the request's body.

        Args:
            behaviour: what serves the data of a download; an honest server if there is none.

        Raises:
            requests.RequestException: the service did not do it; the image is left as it is.
        """
        image_id = self.system.create(name=method)
        named: dict[str, Any] = {"name": method}
        stores = list(TARGETS)
        served = behaviour or whole(body)
        match method:
            case "web-download":
                named["uri"] = self.source.on(f"/{image_id}.img", served)
            case "glance-download":
                named |= {"glance_image_id": self.remote.image(body, served), "glance_region": REGION}
            case "glance-direct":
                self._send(image_id, "stage", body)
            case _:
                self._send(image_id, "file", body)
                stores = [TARGETS[1]]
        return image_id, {"method": named, "stores": stores}

    def _send(self, image_id: str, where: str, body: bytes) -> None:
        self.system.api("PUT", f"/v2/images/{image_id}/{where}", data=body, headers=OCTETS).raise_for_status()

    def ask(self, method: str, body: bytes, behaviour: Behaviour | None = None) -> Voyage | None:
        """Request an import, retrying while the service is unavailable; None if the image could not be prepared."""
        try:
            image_id, request = self.prepare(method, body, behaviour)
        except (requests.RequestException, AssertionError):
            return None
        return self.ask_prepared(image_id, request, method, body)

    def ask_prepared(self, image_id: str, request: Mapping[str, Any], method: str, body: bytes) -> Voyage:
        """Request the import of an image from `prepare`, retrying while the service is unavailable."""
        voyage = Voyage(image_id, method, body)

        def asked() -> bool:
            with suppress(requests.RequestException):
                answer = self.system.api("POST", f"/v2/images/{image_id}/import", json=request)
                # A request whose answer was lost may have been taken: the next one then is refused.
                return answer.status_code == 202 or bool(self._tasks(image_id))
            return False

        until(asked, 540.0, f"{method} is asked for\n{self.system.logs()}")
        self.voyages.append(voyage)
        return voyage

    def under_way(self) -> list[str]:
        """Return the images whose import was asked for and has not ended, as the catalogue has it."""
        with self._catalog() as catalog, catalog.read() as connection:
            return list(connection.execute(select(LEASES.c.image_id).where(LEASES.c.state != "free")).scalars())

    def _tasks(self, image_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.system.api("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
        return found

    # --- processes ---

    def pids(self, kind: str) -> list[int]:
        """Return the living processes of a kind."""
        if kind == "flow":
            return self.system.carriers()
        if kind == "template":
            status = read_runner_status(runner_status_path(self.system.settings))
            return [status.template_pid] if status is not None and status.template_pid else []
        with suppress(OSError, ValueError):
            return [pid for name, pid in self.system.pids().items() if name == kind]
        return []

    def living(self, kind: str) -> list[int]:
        """Return those of `pids` that exist and are running, because a status file may be outdated."""
        if kind not in ("flow", "template") and kind not in self.system.ready():
            return []
        return [pid for pid in self.pids(kind) if start_time(pid) is not None]

    def kill(self, kind: str, chosen: int | None = None) -> int:
        """SIGKILL all processes of a kind, or one of them; return how many were killed."""
        killed = 0
        for pid in [chosen] if chosen else self.pids(kind):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    def await_return(self, kind: str, before: list[int]) -> None:
        """Wait until the supervisor has restarted a process of a kind, and it answers."""
        until(
            lambda: kind in self.system.ready() and not set(self.pids(kind)) & set(before),
            540.0,
            f"the return of {kind}",
        )

    # --- what must be true ---

    def settle(self, timeout_s: float = 540.0) -> None:
        """Wait until every requested import has ended, and no work is left."""
        for voyage in self.voyages:
            self.system.ended(voyage.image_id, timeout_s)
        until(lambda: not self.faults(), 300.0, Lazy(lambda: f"{self.faults()}\n{self.system.logs()}"))  # type: ignore[arg-type]  # text when it is needed

    def faults(self) -> list[str]:
        """Return violated invariants of an idle system; empty if there are none."""
        with self._catalog() as catalog, catalog.read() as connection:
            leases = connection.execute(select(LEASES.c.image_id).where(LEASES.c.state != "free")).scalars().all()
            locations = connection.execute(select(LOCATIONS)).all()
            staged = connection.execute(select(STAGED)).all()
            tasks = {row.id: row for row in connection.execute(select(TASKS))}
            secrets = connection.execute(select(SECRETS.c.task_id)).scalars().all()
        found = [f"image {image_id} is locked" for image_id in leases]
        found += [f"task {row.id} is {row.status}" for row in tasks.values() if row.status not in FINAL]
        found += [f"{row.url} is {row.state}" for row in locations if row.state != "active"]
        found += [f"task {id_} keeps a secret" for id_ in secrets if tasks[id_].status == "success"]
        for store in TARGETS:
            named = {row.image_id for row in locations if row.store == store}
            lying = set(self.system.stored(store))
            found += [f"{store}: {name} is nobody's" for name in lying - named]
            found += [f"{store}: {name} is lost" for name in named - lying]
        rows = {row.name for row in staged}
        found += [
            f"staging: {name} is nobody's" for name in self.system.staged() if name.partition(".part")[0] not in rows
        ]
        # What waits for a client's next request, or for a rerun, is wanted.
        found += [f"staging: {row.name} was left" for row in staged if row.image_id in self._active()]
        for voyage in self.voyages:
            found += self._faults_of(voyage)
        return found

    def _active(self) -> set[str]:
        return {voyage.image_id for voyage in self.voyages if self._shown(voyage).get("status") == "active"}

    def _shown(self, voyage: Voyage) -> dict[str, Any]:
        with suppress(requests.RequestException, ValueError):
            return self.system.image(voyage.image_id)
        return {}

    def _faults_of(self, voyage: Voyage) -> Iterator[str]:
        image, said = self._shown(voyage), f"{voyage.method} {voyage.image_id}"
        if not image:
            yield f"{said} is not shown"
            return
        if image.get("os_glance_importing_to_stores") or "os_glance_import_task" in image:
            yield f"{said} looks like an import under way"
        if image["status"] == "active":
            if image["os_hash_value"] != hashlib.sha512(voyage.body).hexdigest():
                yield f"{said} is another image"
            for store in image["stores"].split(","):
                path = self.system.settings.all_stores[store].dir / voyage.image_id
                if not path.exists() or path.read_bytes() != voyage.body:
                    yield f"{said} is not what {store} holds"
        elif not image.get("os_glance_import_message"):
            yield f"{said} is {image['status']} without a reason"
        elif "internal error" in image["os_glance_import_message"]:
            yield f"{said} met a defect:\n{self._traces(voyage)}"

    def _traces(self, voyage: Voyage) -> str:
        """Return the errors in the logs of an image's run."""
        run_id = self.system.task(voyage.image_id)["flow_run_id"]
        asked = {"logs": {"flow_run_id": {"any_": [run_id]}, "level": {"ge_": logging.ERROR}}, "limit": 20}
        return "\n".join(line["message"] for line in self.system.prefect("POST", "/logs/filter", asked))

    @contextmanager
    def _catalog(self) -> Iterator[Catalog]:
        with closing(Catalog.open(self.system.settings)) as catalog:
            yield catalog

    def outcomes(self) -> dict[str, int]:
        """Return how many imports ended in which status, by method."""
        counted: dict[str, int] = {}
        for voyage in self.voyages:
            image = self._shown(voyage)
            whole_ = image["status"] == "active" and set(TARGETS) <= set(image.get("stores", "").split(","))
            key = f"{voyage.method} {'active' if whole_ else 'failed: ' + str(image.get('os_glance_import_message'))}"
            counted[key] = counted.get(key, 0) + 1
        return dict(sorted(counted.items()))


class Lazy:
    """Text that is created when it is shown."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return str(self._made())


def slowly(body: bytes, took_s: float) -> Behaviour:
    """A correct but slow server."""

    def behave(talk: Talk) -> None:
        first = int(talk.request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0] or 0)
        rest = body[first:]
        headers = {"Content-Length": str(len(rest)), "ETag": '"v1"'}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        talk.head(206 if first else 200, headers)
        pieces = 10
        size = len(rest) // pieces + 1
        for at in range(0, len(rest), size):
            talk.send(rest[at : at + size])
            talk.pause(took_s / pieces)

    return behave
