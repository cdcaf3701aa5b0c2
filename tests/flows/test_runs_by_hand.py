"""All four methods, started from Prefect's forms: what a site allows, and which stores are written."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State

from flows.copy_image import copy_image
from flows.glance_direct import glance_direct
from flows.glance_download import glance_download
from flows.web_download import web_download
from tests.acceptance.conftest import api_server, imports
from tests.fakes.asked_imports import OCTETS, AskedImports
from tests.fakes.images import read_image
from tests.fakes.remote_glance import RemoteGlance
from tests.fakes.web_server import WebServer
from transship.catalog.tasks import tasks_of_image
from transship.domain.errors import ImageNotFound
from transship.domain.image import ImageStatus
from transship.domain.import_request import ImportMethod
from transship.domain.task import ImportTask

pytestmark = pytest.mark.real

__all__ = ["api_server", "imports"]

BODY = os.urandom(300_000)
STORES = ("zero", "one", "two")


@dataclass
class Form:
    """The form of a method, for an image that it can be run for.

    Attributes:
        image_id: the image; of the two downloads the one that the run makes.
    """

    imports: AskedImports
    server: WebServer
    method: ImportMethod
    image_id: str = field(default_factory=lambda: str(uuid4()))

    def __post_init__(self) -> None:
        match self.method:
            case ImportMethod.WEB_DOWNLOAD:
                self._flow = partial(web_download, self.server.serve("/disk.raw", BODY), image_id=UUID(self.image_id))
            case ImportMethod.GLANCE_DOWNLOAD:
                remote = RemoteGlance(self.server)
                self.imports.site.set(remotes=json.dumps({"elsewhere": {"url": remote.url}}))
                remote_id = UUID(remote.image(BODY))
                self._flow = partial(glance_download, "elsewhere", remote_id, image_id=UUID(self.image_id))
            case ImportMethod.GLANCE_DIRECT:
                self.image_id = self.imports.create()
                assert self.imports.stage(self.image_id, BODY).status_code == 204
                self._flow = partial(glance_direct, UUID(self.image_id))
            case ImportMethod.COPY_IMAGE:
                self.image_id = self.imports.create()
                path = f"/v2/images/{self.image_id}/file"
                assert self.imports.api("PUT", path, content=BODY, headers=OCTETS).status_code == 204
                self._flow = partial(copy_image, UUID(self.image_id))

    def send(self, **parameters: Any) -> State[Any]:
        """Fill the form in and run the flow to its end."""
        state: State[Any] = self._flow(**parameters, return_state=True)
        return state

    @property
    def tasks(self) -> list[ImportTask]:
        """The image's tasks, newest first; none where there is no image."""
        catalog = self.imports.site.catalog
        try:
            created_at = read_image(catalog, self.image_id).created_at
        except ImageNotFound:
            return []
        with catalog.read() as connection:
            return tasks_of_image(connection, self.image_id, created_at)

    @property
    def holders(self) -> set[str]:
        """The stores that hold the image."""
        held = {store for store in STORES if self.image_id in self.imports.site.stored(store)}
        assert all(self.imports.site.stored(store) == {self.image_id: BODY} for store in held)
        return held

    def assert_active_in(self, *stores: str) -> None:
        image = self.imports.image(self.image_id)
        assert (image.status, image.importing_to, image.failed_import) == (ImageStatus.ACTIVE, (), ())
        assert {location.store for location in image.locations} == self.holders == set(stores)

    def assert_refused(self, state: State[Any], reason: str) -> None:
        """The run failed with a reason for people, and nothing was done."""
        held, tasks = self.holders, self.tasks
        assert state.type == "FAILED"
        assert reason in str(state.message)
        assert (held, tasks) == ({"zero"} if self.method is ImportMethod.COPY_IMAGE else set(), [])


@pytest.fixture(params=list(ImportMethod), ids=str)
def form(imports: AskedImports, server: WebServer, request: pytest.FixtureRequest) -> Form:
    site = imports.site
    site.set(
        stores=json.dumps({store: {"dir": str(site.home / store)} for store in STORES}),
        default_store="zero",
        imports__enabled_methods=",".join(ImportMethod),
    )
    return Form(imports, server, request.param)


def test_a_method_that_the_site_does_not_offer_is_not_run_by_hand_either(form: Form) -> None:
    offered = [method for method in ImportMethod if method is not form.method]
    form.imports.site.set(imports__enabled_methods=",".join(offered))
    state = form.send(stores=["one"])
    form.assert_refused(state, f"name '{form.method}'. This site offers: {', '.join(offered)}.")


def test_a_store_that_is_named_twice_is_refused_with_its_name(form: Form) -> None:
    form.assert_refused(form.send(stores=["one", "two", "one"]), "'stores' names one more than once.")


def test_the_stores_that_a_form_names_are_written(form: Form) -> None:
    state = form.send(stores=["two", "one"])
    assert state.is_completed(), state.message
    form.assert_active_in("one", "two", *(["zero"] if form.method is ImportMethod.COPY_IMAGE else []))
