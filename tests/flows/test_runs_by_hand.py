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
from tests.fakes.images import NOW, read_image
from tests.fakes.remote_glance import RemoteGlance
from tests.fakes.web_server import WebServer
from transship.catalog.imports import Begun, Caller, begin_by_hand
from transship.catalog.leases import expire_lease
from transship.catalog.tasks import tasks_of_image
from transship.domain.errors import ImageNotFound, Superseded
from transship.domain.image import ImageStatus
from transship.domain.import_request import ImportRequest
from transship.domain.methods import OFFERED, ImportMethod
from transship.domain.task import ImportTask, TaskStatus

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
        self.imports.site.deploy()
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
        stored = {store: self.imports.site.stored(store) for store in STORES}
        assert all(found in ({}, {self.image_id: BODY}) for found in stored.values())
        return {store for store, found in stored.items() if found}

    def assert_active_in(self, *stores: str) -> None:
        image = self.imports.image(self.image_id)
        assert (image.status, image.importing_to, image.failed_import) == (ImageStatus.ACTIVE, (), ())
        assert {location.store for location in image.locations} == self.holders == set(stores)

    def assert_refused(self, state: State[Any], reason: str) -> None:
        """The run failed with a readable reason, and nothing was done."""
        held, tasks = self.holders, self.tasks
        assert state.type == "FAILED"
        assert reason in str(state.message)
        assert (held, tasks) == ({"zero"} if self.method is ImportMethod.COPY_IMAGE else set(), [])


def form_of(method: ImportMethod, imports: AskedImports, server: WebServer) -> Form:
    site = imports.site
    site.set(
        stores=json.dumps({store: {"dir": str(site.home / store)} for store in STORES}),
        default_store="zero",
        imports__enabled_methods=",".join(OFFERED),
    )
    return Form(imports, server, method)


@pytest.fixture(params=OFFERED, ids=str)
def form(imports: AskedImports, server: WebServer, request: pytest.FixtureRequest) -> Form:
    return form_of(request.param, imports, server)


@pytest.fixture
def copying(imports: AskedImports, server: WebServer) -> Form:
    return form_of(ImportMethod.COPY_IMAGE, imports, server)


def test_a_method_that_the_site_does_not_offer_is_not_run_by_hand_either(form: Form) -> None:
    offered = [method for method in OFFERED if method is not form.method]
    form.imports.site.set(imports__enabled_methods=",".join(offered))
    state = form.send(stores=["one"])
    form.assert_refused(state, f"name '{form.method}'. This site offers: {', '.join(offered)}.")


def test_a_store_that_is_named_twice_is_refused_with_its_name(form: Form) -> None:
    form.assert_refused(form.send(stores=["one", "two", "one"]), "'stores' names one more than once.")


def test_all_stores_and_a_list_of_stores_exclude_each_other(form: Form) -> None:
    form.assert_refused(form.send(stores=["one"], all_stores=True), "'stores' and 'all_stores' exclude each other")


def test_all_stores_are_written_where_a_form_says_so(form: Form) -> None:
    lacking = ["one", "two"] if form.method is ImportMethod.COPY_IMAGE else list(STORES)
    state = form.send(all_stores=True)
    assert str(state.message).endswith(f"to {', '.join(lacking)}")
    assert form.tasks[0].input["backend"] == lacking
    form.assert_active_in(*STORES)


def test_a_store_may_fail_where_a_form_says_so(form: Form) -> None:
    (form.imports.site.home / "two").rename(form.imports.site.home / "not mounted")
    state = form.send(stores=["two", "one"], all_stores_must_succeed=False)
    assert state.name == "Imported in part", state.message
    image = form.imports.image(form.image_id)
    assert (image.status, image.failed_import) == (ImageStatus.ACTIVE, ("two",))
    assert form.holders - {"zero"} == {"one"}
    # Should Prefect forget the run, the keeper makes another with what the task says.
    assert form.tasks[0].parameters["all_stores_must_succeed"] is False


def test_the_stores_that_a_form_names_are_written(form: Form) -> None:
    state = form.send(stores=["two", "one"])
    assert state.is_completed(), state.message
    form.assert_active_in("one", "two", *(["zero"] if form.method is ImportMethod.COPY_IMAGE else []))


# --- copy-image --------------------------------------------------------------------------------


def test_a_copy_by_hand_leaves_the_owner_and_tells_who_asked(copying: Form) -> None:
    before = copying.imports.image(copying.image_id)
    assert copying.send(stores=["two"]).message == "copied to two"
    copying.assert_active_in("zero", "two")
    after, (task,) = copying.imports.image(copying.image_id), copying.tasks
    assert (after.owner, after.os_hash_value) == (before.owner, before.os_hash_value)
    assert (task.method, task.status, task.input["backend"]) == ("copy-image", TaskStatus.SUCCESS, ["two"])


def test_a_copy_by_hand_to_a_store_that_holds_the_image_is_refused(copying: Form) -> None:
    copying.assert_refused(copying.send(), "already present at store 'zero'")


def test_a_copy_by_hand_that_finds_the_image_everywhere_does_nothing(copying: Form) -> None:
    assert copying.send(all_stores=True).is_completed()
    state = copying.send(all_stores=True)
    assert (state.type, state.name) == ("COMPLETED", "Superseded")
    assert "every store holds the image" in str(state.message)
    assert len(copying.tasks) == 1


def test_an_image_that_has_no_data_is_not_copied_by_hand(copying: Form) -> None:
    copying.image_id = copying.imports.create()
    state: State[Any] = copy_image(UUID(copying.image_id), return_state=True)
    assert (state.type, "is queued; it needs to be active" in str(state.message)) == ("FAILED", True)
    assert copying.tasks == []


def test_a_run_that_copies_by_hand_asks_once_however_often_it_begins(copying: Form) -> None:
    catalog, run_id = copying.imports.site.catalog, str(uuid4())
    request = ImportRequest(ImportMethod.COPY_IMAGE, stores=("one",))
    stores = copying.imports.site.settings.store_facts

    def begin(owner: str) -> Begun:
        return begin_by_hand(
            catalog, copying.image_id, request, stores, Caller(), run_id, owner, host="here", ttl_s=3600.0, now=NOW
        )

    first = begin("first")
    with pytest.raises(Superseded, match="running in another process"):
        begin("second")
    expire_lease(catalog, first.lease)
    again = begin("third")
    assert (again.task.id, again.targets) == (first.task.id, ("one",))
    assert again.lease.epoch > first.lease.epoch
