"""Imports of images of another region's Glance, asked for with tokens of a Keystone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
from prefect.client.schemas.objects import State

from tests.fakes.asked_imports import AskedImports
from tests.fakes.keystone import SERVICE_PASSWORD, SERVICE_USER, Keystone
from tests.fakes.remote_glance import RemoteGlance
from tests.fakes.running_import import location, staging_names
from tests.fakes.web_server import WebServer
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus

REGION = "RegionTwo"
BEFORE = {"hw_disk_bus": "scsi", "colour": "blue"}
"""Properties of the image before its import."""


class RemoteImports:
    """A site with Keystone, a region whose Glance is in the service catalogue, and a member of a project."""

    def __init__(self, imports: AskedImports, keystone: Keystone, server: WebServer, *, url: str = "") -> None:
        self.imports = imports
        self.keystone = keystone
        self.glance = RemoteGlance(server)
        keystone.endpoint("image", REGION, url or f"{self.glance.url}/")
        keystone.endpoint("image", "RegionOne", "http://images.region-one.test")
        imports.site.set(
            api__auth="keystone",
            auth__auth_url=keystone.url,
            auth__username=SERVICE_USER,
            auth__password=SERVICE_PASSWORD,
            auth__project_name="service",
            imports__enabled_methods="web-download,glance-download",
        )
        self.new_token()

    def new_token(self, roles: Sequence[str] = ("member", "reader")) -> str:
        """Log the member in again at both Glances; return the token."""
        self.imports.token = self.keystone.token("demo", "alice", roles=roles)
        self.glance.tokens = {self.imports.token}
        return self.imports.token

    def ask(self, image_id: str, remote_id: str, region: str = REGION, **method: object) -> httpx.Response:
        """Request a glance-download."""
        wanted = {"name": "glance-download", "glance_image_id": remote_id, "glance_region": region, **method}
        return self.imports.api("POST", f"/v2/images/{image_id}/import", json={"method": wanted})

    def bring(self, remote_id: str = "", region: str = REGION, **method: object) -> tuple[State[Any], str]:
        """Create an image with the properties of `BEFORE`, ask for its import, and carry it."""
        image_id = self.imports.create(**BEFORE)
        asked = self.ask(image_id, remote_id or str(uuid4()), region, **method)
        assert asked.status_code == 202, asked.text
        return self.imports.carry(image_id), image_id

    def assert_freed(self, image_id: str, reason: str) -> None:
        """The image is unchanged and has the reason; nothing is left over; the lock is free."""
        image, task = self.imports.image(image_id), self.imports.task(image_id)
        assert task.status is TaskStatus.FAILURE
        assert reason in task.message
        assert image.import_message == task.message
        assert (image.status, image.importing_to, image.failed_import) == (ImageStatus.QUEUED, (), ("local",))
        assert dict(image.properties) == BEFORE
        assert (image.disk_format, image.container_format, image.size) == ("raw", "bare", None)
        assert staging_names(self.imports.site.settings) == set()
        assert self.imports.site.stored() == {}
        assert location(self.imports.site.catalog, image_id) is None
        assert (self.imports.lease(image_id), image.import_task) == ("free", None)
