"""A site with several fake stores: real API, catalogue, flows and Prefect, and stores in memory that count and fail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry

from config.settings import Settings
from flows.copy_image import copy_image
from flows.verify_images import verify_images
from flows.web_download import web_download
from tests.fakes.flaky_store import FlakyStore
from tests.fakes.images import read_image
from tests.fakes.images_api import ApiServer
from tests.fakes.running_import import staging_names
from tests.fakes.web_server import WebServer
from tests.flows.conftest import Site
from transship.api import resource
from transship.api.app import build_app
from transship.api.site import StoreRegistry
from transship.catalog.imports import Caller
from transship.catalog.journal import find_location
from transship.catalog.leases import lease_of
from transship.catalog.tasks import tasks_of_image
from transship.domain.image import Image
from transship.domain.task import ImportTask

FLOWS: Final[Mapping[str, Flow[..., Any]]] = {
    "web-download": web_download,
    "copy-image": copy_image,
    "verify-images": verify_images,
}
BODY: Final = bytes(range(256)) * 4096


class Yard:
    """A site with the stores ``s1`` (the default), ``s2`` (preferred for reads) and ``s3``.

    Args:
        names: other names for these stores; fewer are enough.

    Attributes:
        stores: each store by id.
        caller: who asks the API.
        path: of the source on its web server.
    """

    def __init__(
        self,
        site: Site,
        api: ApiServer,
        server: WebServer,
        patch: pytest.MonkeyPatch,
        names: Sequence[str] = ("s1", "s2", "s3"),
    ) -> None:
        self.site, self.server, self._api, self._patch = site, server, api, patch
        self.stores = {name: FlakyStore(name) for name in names}
        self.caller = Caller(project_id="p1", roles=("admin",))
        self.path = "/disk.raw"
        self.uri = server.serve(self.path, BODY)
        weights = dict(zip(names, (0, 10, 5), strict=False))
        sections = {name: {"dir": str(site.home / name), "weight": weight} for name, weight in weights.items()}
        site.set(stores=json.dumps(sections), default_store=names[0])
        for module in ("tasks.place", "tasks.fetch", "tasks.verify_copies"):
            patch.setattr(f"{module}.using_store", lambda store, settings, catalog: nullcontext(self.stores[store]))
        patch.setattr(StoreRegistry, "using", lambda _shelf, store: nullcontext(self.stores[store]))
        patch.setattr(resource, "identify", lambda _request, request_id: replace(self.caller, request_id=request_id))
        self.serve()

    @property
    def settings(self) -> Settings:
        return self.site.settings

    def serve(self) -> None:
        """Serve the API with the current settings."""
        self._api.serve(build_app(self.settings, self.site.catalog))

    def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """Send a request to the API; a body of bytes as it is, others as JSON."""
        sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self._api.client.request(method, path, headers={"Accept": "application/json", **headers}, **sent)

    def create(self, **attributes: object) -> str:
        made = self.call("POST", "/v2/images", {"disk_format": "raw", "container_format": "bare", **attributes})
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def ask(self, image_id: str, method: str = "web-download", /, **body: object) -> httpx.Response:
        """Ask for an import."""
        source = {"uri": self.uri} if method == "web-download" else {}
        return self.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": method, **source}, **body})

    def begin_run(self, image_id: str) -> UUID:
        """Act as the keeper: create the flow run of the image's newest task; return its id."""
        task = self.task(image_id)
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(FLOWS[task.method], parameters=dict(task.parameters))
        return run.id

    def go_on(self, run_id: UUID) -> State[Any]:
        """Act as a worker: run a flow run to its end."""
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(run_id)
            flow = {each.name: each for each in FLOWS.values()}[client.read_flow(run.flow_id).name]
        end: State[Any] = run_flow(flow, flow_run=run, parameters=run.parameters, return_type="state")  # type: ignore[assignment]  # the flow is sync
        return end

    def retry(self, run_id: UUID) -> State[Any]:
        """Press Retry, and act as a worker."""
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, AwaitingRetry(), force=True)
        return self.go_on(run_id)

    def carry(self, image_id: str) -> UUID:
        """Run the image's newest task to its end; return the flow run's id."""
        run_id = self.begin_run(image_id)
        self.go_on(run_id)
        return run_id

    def brought(self, *stores: str, strict: bool = True, **attributes: object) -> tuple[str, UUID]:
        """Create an image and import it into stores; return its id and the flow run's."""
        image_id = self.create(**attributes)
        asked = self.ask(image_id, stores=list(stores), all_stores_must_succeed=strict)
        assert asked.status_code == 202, asked.text
        return image_id, self.carry(image_id)

    def copied(self, image_id: str, *stores: str, strict: bool = True) -> UUID:
        """Copy an image to more stores; return the flow run's id."""
        asked = self.ask(image_id, "copy-image", stores=list(stores), all_stores_must_succeed=strict)
        assert asked.status_code == 202, asked.text
        return self.carry(image_id)

    def image(self, image_id: str) -> Image:
        return read_image(self.site.catalog, image_id)

    def shown(self, image_id: str) -> dict[str, Any]:
        """Return an image as the API shows it."""
        answer = self.call("GET", f"/v2/images/{image_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def lists(self, image_id: str) -> tuple[str, str, str, str]:
        """Return status, ``stores``, the importing list and the failed list, as the API shows them."""
        image = self.shown(image_id)
        return (
            image["status"],
            image.get("stores", ""),
            image["os_glance_importing_to_stores"],
            image["os_glance_failed_import"],
        )

    def tasks(self, image_id: str) -> list[ImportTask]:
        """Return the image's tasks, newest first."""
        with self.site.catalog.read() as connection:
            return tasks_of_image(connection, image_id, self.image(image_id).created_at)

    def task(self, image_id: str) -> ImportTask:
        return self.tasks(image_id)[0]

    def lease(self, image_id: str) -> str:
        with self.site.catalog.read() as connection:
            return lease_of(connection, image_id).state

    def holders(self, image_id: str) -> list[str]:
        """Return the stores that have an object of the image, recorded or not."""
        return [name for name, store in self.stores.items() if image_id in store.objects]

    def rows(self, image_id: str) -> dict[str, str]:
        """Return the state of each store's journal row."""
        with self.site.catalog.read() as connection:
            found = {name: find_location(connection, image_id, name) for name in self.stores}
        return {name: row.state for name, row in found.items() if row is not None}

    def writes(self) -> dict[str, int]:
        """Return how often each store was written to since `forget_writes`."""
        return {name: store.writes for name, store in self.stores.items() if store.writes}

    def forget_writes(self) -> None:
        for store in self.stores.values():
            store.calls.clear()

    @property
    def staged(self) -> set[str]:
        """Names of all files in staging."""
        return staging_names(self.settings)

    def wipe_staging(self) -> None:
        """Remove all files from staging, like a lost disk."""
        for name in self.staged:
            Path(self.settings.staging_dir / name).unlink()
