from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5, sha512
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.fakes.databases import DATABASES
from tests.fakes.images_api import ApiServer, ImagesApi
from transship.api.app import build_app
from transship.catalog.copies import DataFacts, copy_written
from transship.catalog.endings import fail_import, finish_import
from transship.catalog.images import get_image
from transship.catalog.imports import begin_import
from transship.catalog.journal import open_location, staged_upload
from transship.catalog.tasks import read_secrets, set_flow_run, tasks_of_image
from transship.commands.context import Invocation


@pytest.fixture(autouse=True)
def _environment_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that run in the test's own process leave its environment and directory to the other tests."""
    monkeypatch.setattr("transship.cli.leave_caller_behind", lambda: None)
    monkeypatch.chdir(Path.cwd())


@dataclass
class Worker:
    """Carries each import through as soon as the API has accepted it, with neither Prefect nor flows.

    Attributes:
        app: the Images API.
        failure: message with which imports end; empty: they succeed.
        missing: reason by store id, for stores that fail although the import succeeds.
        target: store that imports write.
        changed: what the data become on their way.
    """

    app: ASGIApp
    api: ImagesApi
    failure: str = ""
    target: str = "fast"
    missing: dict[str, str] = field(default_factory=dict)
    changed: bytes | None = None
    fetched: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self.app(scope, receive, noting)
        if status == 202 and scope["path"].endswith("/import"):
            await run_in_threadpool(self.carry, scope["path"].split("/")[3])

    def carry(self, image_id: str) -> None:
        catalog, now = self.api.catalog, datetime.now(UTC)
        with catalog.read() as connection:
            task = tasks_of_image(connection, image_id, now)[0]
            uri = read_secrets(connection, catalog, task.id).get("uri", "")
            declared = get_image(connection, image_id)
        with catalog.write() as connection:
            set_flow_run(connection, task.id, "run-of-" + image_id[:8])
        lease = begin_import(catalog, task.id, "run-of-" + image_id[:8], "test", ttl_s=3600.0, now=now).lease
        if self.failure:
            fail_import(
                catalog,
                lease,
                self.failure,
                {},
                rerunnable=False,
                now=now,
                time_to_live_h=48,
                rerun_ttl_s=60,
            )
            return
        data = self._brought(image_id, uri) if self.changed is None else self.changed
        path = self.api.stores[self.target] / image_id
        path.parent.mkdir(exist_ok=True)
        open_location(catalog, lease, self.target, f"file://{path}", now)
        path.write_bytes(data)
        copy_written(catalog, lease, self.target, len(data), "test", now)
        facts = DataFacts(
            size=len(data),
            virtual_size=len(data),
            checksum=md5(data, usedforsecurity=False).hexdigest(),
            os_hash_algo="sha512",
            os_hash_value=sha512(data).hexdigest(),
            disk_format=declared.disk_format or "",
            container_format=declared.container_format or "",
        )
        finish_import(catalog, lease, facts, self.missing, message="done", now=now, time_to_live_h=48)

    def _brought(self, image_id: str, uri: str) -> bytes:
        if uri:
            return self._fetch(uri)
        with self.api.catalog.read() as connection:
            return (self.api.settings.staging_dir / staged_upload(connection, image_id).name).read_bytes()

    def _fetch(self, uri: str) -> bytes:
        self.fetched.append(uri)
        with requests.Session() as session:
            session.trust_env = False
            return session.get(uri, timeout=120).content


@dataclass
class Site:
    """An Images API with a worker, and the invocation that reaches it."""

    api: ImagesApi
    worker: Worker
    invocation: Invocation


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def site(api_server: ApiServer, tmp_path: Path) -> Iterator[Site]:
    home = tmp_path / "home"
    home.mkdir()
    api = ImagesApi(home, api_server, {})
    worker = Worker(build_app(api.settings, api.catalog), api)
    api_server.serve(worker)
    port = urlsplit(str(api_server.client.base_url)).port
    yield Site(api, worker, Invocation(overrides={"home": str(home), "api.port": str(port), **DATABASES.options(home)}))
    api.close()
