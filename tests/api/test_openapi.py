"""``GET /openapi.json`` and ``GET /docs``: the document says what is served."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.responses import Response
from starlette.routing import Route

from config.settings import ApiSettings
from tests.fakes.images_api import ApiMaker, ImagesApi
from tests.fakes.keystone import Keystone
from transship.api.app import build_app
from transship.api.openapi import describe
from transship.api.resource import Resource
from transship.api.site import Call
from transship.api.versions import VERSION_LISTS
from transship.domain.policies import RULES


@pytest.fixture
def document(api: ImagesApi) -> dict[str, Any]:
    answer = api.client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_the_document_has_every_route_and_no_other(api: ImagesApi, document: dict[str, Any]) -> None:
    app = build_app(api.settings, api.catalog)
    routes = {route.path: route.app for route in app.routes if isinstance(route, Route)}
    resources = {path: resource for path, resource in routes.items() if isinstance(resource, Resource)}
    served = {f"{method} {path}" for path, resource in resources.items() for method in resource._operations}
    assert {*served, *(f"GET {path}" for path in VERSION_LISTS)} == operations(document).keys()
    assert len(resources) == len(app.routes) - 2, "all but the redirect of /v2 and the answer to unknown paths"


def test_a_route_without_a_description_stops_the_start() -> None:
    def undescribed(call: Call) -> Response:
        """``GET /v2/new``: something new."""
        raise AssertionError(call)

    with pytest.raises(KeyError):
        describe({"/v2/new": {"GET": undescribed}}, {}, keystone=False)


def test_an_operation_says_what_it_takes_asks_and_answers(document: dict[str, Any]) -> None:
    upload = operations(document)["PUT /v2/images/{image_id}/file"]
    assert upload["summary"] == "Write data to one store, without running plugins"
    assert upload["description"] == "Policies: upload_image."
    assert [(each["name"], each["in"]) for each in upload["parameters"]] == [
        ("image_id", "path"),
        ("x-image-meta-store", "header"),
        ("x-openstack-image-size", "header"),
    ]
    assert list(upload["requestBody"]["content"]) == ["application/octet-stream"]
    assert {"204", "400", "403", "404", "408", "409", "410", "413", "415", "503"} <= upload["responses"].keys()
    assert "401" not in upload["responses"]
    gone = upload["responses"]["410"]
    assert (gone["description"], list(gone["content"])) == (
        "The image was deleted while its data were uploaded; they are gone too.",
        ["application/json", "text/html", "text/plain"],
    )


def test_every_policy_is_named_where_it_is_asked(document: dict[str, Any]) -> None:
    described = operations(document)
    for rule in RULES:
        for operation in rule.operations:
            assert re.search(rf"\b{rule.name}\b", described[operation]["description"]), operation


def test_operations_have_names_of_their_own_and_summaries(document: dict[str, Any]) -> None:
    described = operations(document).values()
    assert len({operation["operationId"] for operation in described}) == len(described)
    assert all(operation["summary"] for operation in described)


def test_the_formats_of_the_site_are_in_the_schemas(api: ImagesApi, document: dict[str, Any]) -> None:
    image = document["components"]["schemas"]["image"]
    assert image["properties"]["disk_format"]["enum"] == [None, *api.settings.formats.disk_formats]


def test_the_document_needs_no_token_and_says_who_does(make_api: ApiMaker) -> None:
    with Keystone() as keystone:
        api = make_api(api={"auth": "keystone"}, auth=keystone.section)
        document = api.client.get("/openapi.json").json()
        assert api.client.get("/docs").status_code == 200
    described = operations(document)
    assert described["GET /v2/images"]["security"] == [{"token": []}]
    assert "401" in described["GET /v2/images"]["responses"]
    assert {name for name, operation in described.items() if operation["security"] == []} == {
        *("GET /", "GET /versions", "GET /healthcheck", "HEAD /healthcheck", "GET /openapi.json", "GET /docs"),
    }


def test_the_document_names_the_public_endpoint(make_api: ApiMaker) -> None:
    api = make_api(api=ApiSettings(public_endpoint="https://images.example.org/glance"))
    assert api.client.get("/openapi.json").json()["servers"] == [{"url": "https://images.example.org/glance"}]


def test_the_page_shows_every_operation_and_loads_nothing(api: ImagesApi, document: dict[str, Any]) -> None:
    answer = api.client.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    for name in operations(document):
        method, path = name.split()
        assert f"<b>{method}</b><code>{path}</code>" in answer.text
    assert not re.search(r"<script|<link|<img|src=|https?://", answer.text)
    anchors = set(re.findall(r'href="#([^"]+)"', answer.text))
    assert anchors >= {"image", "images", "task"}
    assert anchors <= set(re.findall(r'id="([^"]+)"', answer.text))
