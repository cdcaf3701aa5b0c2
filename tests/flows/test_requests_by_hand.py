"""Imports that are started from Prefect's form."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.exceptions import ParameterTypeError
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, select

from flows.beginning import begin
from flows.carrying import carry
from flows.copy_image import copy_image
from flows.glance_direct import glance_direct
from flows.glance_download import glance_download
from flows.requests_by_hand import PublicUri, form_request, new_image
from flows.web_download import web_download
from tests.fakes.images import NOW
from tests.flows.conftest import Site
from transship.catalog.imports import Begun, Caller, begin_by_hand
from transship.catalog.leases import expire_lease
from transship.catalog.schema import IMAGES
from transship.domain.errors import BadRequest, StoreReadOnly, StoreUnknown, Superseded
from transship.domain.image import ImageStatus
from transship.domain.import_parameters import VERSION, ImportParameters
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.domain.placement import StoreFacts

REQUEST = ImportRequest(ImportMethod.WEB_DOWNLOAD, "https://source.example/debian.qcow2")
STORES = (
    StoreFacts("local", "file", default=True),
    StoreFacts("spare", "file"),
    StoreFacts("mirror", "http", read_only=True),
)
METHODS = (ImportMethod.WEB_DOWNLOAD,)
PUBLIC: TypeAdapter[str] = TypeAdapter(PublicUri)


def test_an_image_is_named_by_the_end_of_a_url_as_far_as_names_go() -> None:
    """PostgreSQL refuses what is longer than its column; SQLite would keep a name that no client may write."""
    assert new_image(ImportParameters(REQUEST.method, name="x" * 300, project_id="p1"), NOW).name == "x" * 255


@pytest.mark.parametrize("flow", [web_download, glance_download])
@pytest.mark.parametrize("field", ["name", "project_id"])
def test_the_forms_take_no_text_that_the_catalogue_cannot_keep(flow: Any, field: str) -> None:
    given = {"uri": REQUEST.uri, "glance_region": "two", "glance_image_id": str(uuid4())}
    known = {name: value for name, value in given.items() if name in flow.parameters.properties}
    assert flow.validate_parameters({**known, field: "x" * 255})[field] == "x" * 255
    with pytest.raises(ParameterTypeError, match="at most 255 characters"):
        flow.validate_parameters({**known, field: "x" * 256})


@pytest.mark.parametrize("uri", ["http://a.example/x", "HTTPS://a.example:8443/x.qcow2", "https://[::1]/x"])
def test_a_public_url_is_taken_as_it_is(uri: str) -> None:
    assert PUBLIC.validate_python(uri) == uri


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("https://user:secret@a.example/x", "visible to everybody"),
        ("https://user@a.example/x", "visible to everybody"),
        ("https://a.example/x?token=secret", "visible to everybody"),
        ("https://a.example/x;jsessionid=secret", "visible to everybody"),
        ("https://a.example/x%3Ftoken=secret", "visible to everybody"),
        ("https://a.example/x\uff1ftoken=secret", "visible to everybody"),
        ("https://a.example/x#secret", "visible to everybody"),
        ("https://user\uff1asecret\uff20a.example/x", "visible to everybody"),
        ("ftp://a.example/x", "complete http or https URL"),
        ("file:///etc/passwd", "complete http or https URL"),
        ("https:///nothing", "complete http or https URL"),
        ("a.example/x", "complete http or https URL"),
        ("http://", "at least 8 characters"),
        ("https://a.example/" + "x" * 4096, "at most 4096 characters"),
    ],
)
def test_a_private_or_incomplete_url_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        PUBLIC.validate_python(uri)


def test_the_form_says_what_the_field_is() -> None:
    schema = PUBLIC.json_schema()
    assert (schema["title"], schema["minLength"], schema["maxLength"]) == ("URL", 8, 4096)


def test_the_image_is_as_the_form_says() -> None:
    form = ImportParameters(REQUEST.method, name="debian.qcow2", project_id="p1", disk_format="qcow2")
    image = new_image(form, NOW)
    assert (image.status, image.name, image.owner) == (ImageStatus.QUEUED, "debian.qcow2", "p1")
    assert (image.disk_format, image.container_format) == ("qcow2", "bare")


@pytest.mark.parametrize(
    ("asked", "targets"),
    [
        ({"stores": None}, ("local",)),
        ({"stores": ()}, ("local",)),
        ({"stores": ("spare", "local")}, ("spare", "local")),
        ({"all_stores": True}, ("local", "spare")),
        ({"stores": (), "all_stores": True}, ("local", "spare")),
    ],
    ids=["none", "empty list", "two", "all that can be written", "empty list and all"],
)
def test_the_stores_of_the_form_are_the_targets(site: Site, asked: dict[str, Any], targets: tuple[str, ...]) -> None:
    form = {"stores": None, "all_stores": False, **asked}
    begun = begun_by_hand(site, str(uuid4()), form_request(ImportParameters(REQUEST.method, **form), METHODS))
    assert begun.targets == targets
    assert begun.task.input["backend"] == list(targets)
    assert begun.task.input["image_id"] == begun.image.id


@pytest.mark.parametrize(("store", "refusal"), [("gone", StoreUnknown), ("mirror", StoreReadOnly)])
def test_a_store_that_cannot_be_a_target_is_refused(site: Site, store: str, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        begun_by_hand(site, str(uuid4()), replace(REQUEST, stores=(store,)))
    assert images(site) == 0


def test_a_method_that_the_site_does_not_offer_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"name 'web-download'\. This site offers: copy-image"):
        form_request(ImportParameters(REQUEST.method), (ImportMethod.COPY_IMAGE,))


def begun_by_hand(site: Site, run_id: str, request: ImportRequest = REQUEST) -> Begun:
    """What the flow does when it begins: it offers a new image each time."""
    image = new_image(ImportParameters(REQUEST.method, name="debian.qcow2", project_id="p1"), NOW)
    caller, owner = Caller("p1"), "test"
    return begin_by_hand(
        site.catalog, image, request, STORES, caller, run_id, owner, host="here", ttl_s=3600.0, now=NOW
    )


def images(site: Site) -> int:
    with site.catalog.read() as connection:
        return int(connection.execute(select(func.count()).select_from(IMAGES)).scalar_one())


def test_a_run_makes_one_image_however_often_it_begins(site: Site) -> None:
    run_id = str(uuid4())
    first = begun_by_hand(site, run_id)
    for _ in range(3):
        expire_lease(site.catalog, first.lease)
        again = begun_by_hand(site, run_id)
        assert (again.image.id, again.task.id) == (first.image.id, first.task.id)
        assert again.lease.epoch > first.lease.epoch
        first = again
    assert images(site) == 1


def test_a_run_that_is_still_carried_is_not_begun_again(site: Site) -> None:
    run_id = str(uuid4())
    begun_by_hand(site, run_id)
    with pytest.raises(Superseded, match="running in another process"):
        begun_by_hand(site, run_id)
    assert images(site) == 1


def test_two_runs_make_two_images(site: Site, tmp_path: Path) -> None:
    begun_by_hand(site, str(uuid4()))
    begun_by_hand(site, str(uuid4()))
    assert images(site) == 2


@pytest.mark.parametrize("task_id", ["", "a task"], ids=["by hand", "by the service"])
def test_parameters_of_another_release_end_the_run_before_anything_is_done(site: Site, task_id: str) -> None:
    params = ImportParameters(REQUEST.method, task_id=task_id, uri=REQUEST.uri, version=VERSION + 1)
    run_id = str(uuid4())
    state = carry(run_id, partial(begin, params, run_id), lambda _begun, _undo: pytest.fail("a step ran"))
    told = f"of version {VERSION + 1}, and this release reads version {VERSION}"
    assert (state.type, told in str(state.message)) == ("FAILED", True)
    assert images(site) == 0


@pytest.mark.parametrize("flow", [copy_image, glance_direct, glance_download, web_download])
def test_the_forms_say_by_which_version_they_are_read(flow: Any) -> None:
    assert flow.parameters.properties["parameters_version"]["default"] == VERSION
    assert "parameters_version" not in flow.parameters.required
