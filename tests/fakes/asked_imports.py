"""Imports as users make them: requested through the Images API, run by a flow in the test's process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
from prefect.client.schemas.objects import State

from config.settings import Settings
from flows.copy_image import copy_image
from flows.glance_direct import glance_direct
from flows.glance_download import glance_download
from flows.location_import import location_import
from flows.web_download import web_download
from tests.fakes.images import read_image
from tests.fakes.images_api import ApiServer
from tests.fakes.web_imports import newest_task
from tests.flows.conftest import Site
from transship.api.app import build_app
from transship.catalog.imports import Caller
from transship.catalog.leases import lease_of
from transship.domain.image import Image
from transship.domain.task import ImportTask

FLOWS: Mapping[str, Callable[..., Any]] = {
    "glance-direct": glance_direct,
    "web-download": web_download,
    "glance-download": glance_download,
    "copy-image": copy_image,
    "location-import": location_import,
}
OCTETS = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
FORMATS = {"disk_format": "raw", "container_format": "bare"}


class AskedImports:
    """The Images API of a `Site`, and what the keeper and a worker would do with the requests it accepts.

    Attributes:
        token: what requests bring from here on; empty: none.
    """

    def __init__(self, site: Site, server: ApiServer) -> None:
        self.site = site
        self.token = ""
        self._server = server
        self._served: Settings | None = None

    @property
    def url(self) -> str:
        """The API's URL, without a trailing slash."""
        return str(self._server.client.base_url).rstrip("/")

    def api(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request to the API with the site's current settings."""
        if self._served != (settings := self.site.settings):
            self.site.deploy()
            self._server.serve(build_app(settings, self.site.catalog))
            self._served = settings
        if self.token:
            arguments["headers"] = {"X-Auth-Token": self.token, **arguments.get("headers", {})}
        return self._server.client.request(method, path, **arguments)

    def create(self, **attributes: object) -> str:
        """Create an image, by default raw and bare; return its id."""
        created = self.api("POST", "/v2/images", json={**FORMATS, **attributes})
        assert created.status_code == 201, created.text
        return str(created.json()["id"])

    def ask(self, image_id: str, uri: str, **body: object) -> httpx.Response:
        """Request a web-download."""
        asked = {"method": {"name": "web-download", "uri": uri}, **body}
        return self.api("POST", f"/v2/images/{image_id}/import", json=asked)

    def stage(self, image_id: str, data: bytes, **headers: str) -> httpx.Response:
        """Upload data for a glance-direct import."""
        return self.api("PUT", f"/v2/images/{image_id}/stage", content=data, headers={**OCTETS, **headers})

    def ask_direct(self, image_id: str, **body: object) -> httpx.Response:
        """Request a glance-direct import of the staged data."""
        asked = {"method": {"name": "glance-direct"}, **body}
        return self.api("POST", f"/v2/images/{image_id}/import", json=asked)

    def carry(self, image_id: str) -> State[Any]:
        """Run the flow of an image's newest task with the parameters that the keeper gives it."""
        task = self.task(image_id)
        state: State[Any] = FLOWS[task.method](**task.parameters, return_state=True)
        return state

    def bring(self, uri: str, **attributes: object) -> tuple[State[Any], str]:
        """Create an image, request its import, and run it; return the flow's final state and the image's id."""
        image_id = self.create(**attributes)
        asked = self.ask(image_id, uri)
        assert asked.status_code == 202, asked.text
        return self.carry(image_id), image_id

    def image(self, image_id: str) -> Image:
        """Return an image from the catalogue."""
        return read_image(self.site.catalog, image_id)

    def shown(self, image_id: str) -> dict[str, Any]:
        """Return an image as the API shows it."""
        shown: dict[str, Any] = self.api("GET", f"/v2/images/{image_id}").json()
        return shown

    def task(self, image_id: str) -> ImportTask:
        """Return the newest task of an image."""
        return newest_task(self.site.catalog, image_id)

    def tasks(self, image_id: str) -> list[dict[str, Any]]:
        """Return the tasks of an image as the API shows them."""
        found: list[dict[str, Any]] = self.api("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
        return found

    def lease(self, image_id: str) -> str:
        """Return the state of an image's import lock."""
        with self.site.catalog.read() as connection:
            return lease_of(connection, image_id).state


MEMBER = Caller(project_id="p1", roles=("member", "reader"))
ADMIN = Caller(project_id="p1", roles=("admin", "member"))
