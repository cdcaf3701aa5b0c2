"""The Images API on a real socket, with a real catalogue and file stores, for tests."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import md5, sha512
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

import httpx
import uvicorn
from anyio import to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from config.settings import DatabaseSettings, FileStoreSettings, Settings
from tests.fakes.databases import DATABASES
from tests.fakes.images import prepare_stores
from transship.api.app import build_app
from transship.api.http_protocol import BoundedHttpProtocol
from transship.catalog.copies import DataFacts, copy_written
from transship.catalog.endings import finish_import
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, Caller, Order, ask_import, begin_import
from transship.catalog.journal import open_location
from transship.catalog.tasks import tasks_of_image
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod

SOURCE = "http://93.184.215.14/disk.qcow2"
"""A URI whose address passes every default rule; nothing dials it in these tests."""

FORMATS = {"disk_format": "qcow2", "container_format": "bare"}


class ApiServer:
    """One server for a whole test session; each test puts its own application behind it.

    Attributes:
        threads: how many threads answer requests.
    """

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self.threads = 40
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                http=BoundedHttpProtocol,
                ws="none",
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        # One for all tests: each client loads the machine's certificates, which takes longer than a test.
        self.client = httpx.Client(base_url=url, timeout=300, trust_env=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join()

    def serve(self, app: ASGIApp) -> None:
        self._app = app

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None
        to_thread.current_default_thread_limiter().total_tokens = self.threads
        await self._app(scope, receive, send)


class ImagesApi:
    """An API with two file stores, ``fast`` (the default) and ``archive`` (of more weight)."""

    def __init__(self, home: Path, server: ApiServer, sections: Mapping[str, Any]) -> None:
        self.stores = {"fast": home / "fast", "archive": home / "archive"}
        self.settings = Settings(
            home=home,
            database=DatabaseSettings.model_validate(DATABASES.section(home)),
            default_store="fast",
            stores={
                "fast": FileStoreSettings(dir=self.stores["fast"], description="near"),
                "archive": FileStoreSettings(dir=self.stores["archive"], weight=10),
            },
            **sections,
        )
        self.catalog = Catalog.open(self.settings)
        try:
            prepare_stores(self.settings, self.catalog)
            server.serve(build_app(self.settings, self.catalog))
        except BaseException:
            self.catalog.close()
            raise
        self.client = server.client

    def close(self) -> None:
        self.catalog.close()

    def create(self, **attributes: object) -> str:
        """Create an image through the API; return its id."""
        made = self.client.post("/v2/images", json=attributes)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def image(self, image_id: str) -> dict[str, Any]:
        shown = self.client.get(f"/v2/images/{image_id}")
        assert shown.status_code == 200, shown.text
        found: dict[str, Any] = shown.json()
        return found

    def begin(self, image_id: str, stores: tuple[str, ...] = ("fast",)) -> Begun:
        """Request an import like the API, and begin it like a worker."""
        now = datetime.now(UTC)
        request = ImportRequest(ImportMethod.WEB_DOWNLOAD, uri=SOURCE, stores=stores)
        task = ask_import(self.catalog, image_id, Order(request, stores), Caller(), now)
        return begin_import(self.catalog, task.id, "run-of-" + task.id[:8], "test", ttl_s=3600.0, now=now)

    def activate(
        self,
        image_id: str,
        data: bytes,
        stores: tuple[str, ...] = ("fast",),
        failed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Run a web-download to its end like a worker; some stores may fail."""
        self._complete(self.begin(image_id, (*stores, *failed)), data, stores, failed=failed)

    def carry_out(self, image_id: str, data: bytes, stores: tuple[str, ...]) -> None:
        """Run the import of a raw disk that was requested through the API to its end like a worker."""
        now = datetime.now(UTC)
        with self.catalog.read() as connection:
            task = tasks_of_image(connection, image_id, now)[0]
        begun = begin_import(self.catalog, task.id, "run-of-" + task.id[:8], "test", ttl_s=3600.0, now=now)
        self._complete(begun, data, stores, virtual_size=len(data))

    def _complete(
        self,
        begun: Begun,
        data: bytes,
        stores: tuple[str, ...],
        failed: Mapping[str, str] = MappingProxyType({}),
        virtual_size: int | None = None,
    ) -> None:
        now = datetime.now(UTC)
        image = begun.image
        for store in stores:
            self.stores[store].mkdir(exist_ok=True)
            path = self.stores[store] / image.id
            open_location(self.catalog, begun.lease, store, f"file://{path}", now)
            path.write_bytes(data)
            copy_written(self.catalog, begun.lease, store, len(data), "test", now)
        facts = DataFacts(
            size=len(data),
            virtual_size=virtual_size,
            checksum=md5(data, usedforsecurity=False).hexdigest(),
            os_hash_algo="sha512",
            os_hash_value=sha512(data).hexdigest(),
            disk_format=image.disk_format or "qcow2",
            container_format=image.container_format or "bare",
        )
        finish_import(self.catalog, begun.lease, facts, failed, message="done", now=now, time_to_live_h=48)

    def active(self, data: bytes, stores: tuple[str, ...] = ("fast",), **attributes: object) -> str:
        image_id = self.create(**{**FORMATS, **attributes})
        self.activate(image_id, data, stores)
        return image_id


class ApiMaker(Protocol):
    """Makes an API with sections of settings of one's own; only the newest of a test is served."""

    def __call__(self, **sections: Any) -> ImagesApi: ...


def fresh_home(template: Path, home: Path) -> Path:
    """Copy a home directory with an empty catalogue, which is faster than creating the schema."""
    shutil.copytree(template, home)
    return home
