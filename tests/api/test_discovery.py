"""Versions, health, methods, stores and schemas."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from config.settings import ApiSettings, FileStoreSettings
from config.settings.stores import kinds
from tests.fakes.images_api import ApiMaker, ImagesApi
from tests.fakes.parts_store import KIND, PartsStoreSettings
from transship.api.site import STORES_KEPT_S, StoreRegistry
from transship.catalog.schema import META
from transship.catalog.stores import forget_store, mirror_store


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 300), ("/v1/images", 300), ("/v3", 300), ("/v2.99/images", 300), ("/images", 300), ("/versions", 200)],
)
def test_a_path_without_a_known_version_lists_the_versions(api: ImagesApi, path: str, status: int) -> None:
    answer = api.client.get(path)
    assert answer.status_code == status
    versions = answer.json()["versions"]
    assert [version for version in versions if version["status"] != "SUPPORTED"] == [
        {
            "id": "v2.17",
            "status": "CURRENT",
            "links": [{"rel": "self", "href": f"{str(api.client.base_url).rstrip('/')}/v2/"}],
        }
    ]
    assert {"v2.0", "v2.6", "v2.8", "v2.10", "v2.12"} <= {version["id"] for version in versions}
    assert answer.headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize("path", ["/v2//images", "//v2/images", "/v2/info///stores"])
def test_several_slashes_are_one(api: ImagesApi, path: str) -> None:
    assert api.client.get(f"{str(api.client.base_url).rstrip('/')}{path}").status_code == 200


def test_the_root_of_a_version_redirects_to_its_directory(api: ImagesApi, make_api: ApiMaker) -> None:
    answer = api.client.get("/v2", follow_redirects=False)
    base = str(api.client.base_url).rstrip("/")
    assert (answer.status_code, answer.headers["location"]) == (302, f"{base}/v2/")
    make_api(api={"public_endpoint": "https://images.example.org"})
    assert api.client.get("/v2", follow_redirects=False).headers["location"] == "https://images.example.org/v2/"


def test_the_versions_link_to_the_public_endpoint_where_one_is_set(make_api: ApiMaker) -> None:
    api = make_api(api=ApiSettings(public_endpoint="https://images.example.org/glance/"))
    link = api.client.get("/versions").json()["versions"][0]["links"][0]["href"]
    assert link == "https://images.example.org/glance/v2/"


@pytest.mark.parametrize("prefix", ["/v2", "/v2.0", "/v2.7", "/v2.12", "/v2.17"])
def test_every_listed_version_means_v2(api: ImagesApi, prefix: str) -> None:
    assert api.client.get(f"{prefix}/images").status_code == 200


@pytest.mark.parametrize(("version", "status"), [("v2", 200), ("v2.6", 200), ("v7", 300)])
def test_the_accept_header_can_name_the_version(api: ImagesApi, version: str, status: int) -> None:
    accept = f"application/vnd.openstack.images-{version}"
    assert api.client.get("/images", headers={"Accept": accept}).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v2/", 404, None),
        ("GET", "/v2/images/", 404, None),
        ("GET", "/v2/nothing", 404, None),
        ("GET", "/v2/metadefs/namespaces", 404, None),
        ("PUT", "/v2/images", 405, "GET, POST"),
        ("HEAD", "/v2/images", 405, "GET, POST"),
        ("POST", "/v2/images/1", 405, "GET, PATCH, DELETE"),
        ("GET", "/v2/images/1/import", 405, "POST"),
        ("POST", "/v2/images/1/file", 405, "GET, PUT"),
        ("GET", "/v2/images/1/stage", 405, "PUT"),
        ("DELETE", "/v2/info/import", 405, "GET"),
        ("PROPFIND", "/v2/nothing", 501, None),
    ],
)
def test_what_is_not_offered_is_refused_properly(
    api: ImagesApi, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = api.client.request(method, path)
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    assert "x-openstack-request-id" in answer.headers


def test_import_methods_are_those_enabled(api: ImagesApi) -> None:
    assert api.client.get("/v2/info/import").json() == {
        "import-methods": {
            "description": "Import methods available.",
            "type": "array",
            "value": ["glance-direct", "web-download", "copy-image"],
        }
    }


def test_stores_show_only_what_holds(api: ImagesApi) -> None:
    assert api.client.get("/v2/info/stores").json() == {
        "stores": [{"id": "fast", "description": "near", "default": "true"}, {"id": "archive"}]
    }


def test_store_details_show_type_weight_and_properties(api: ImagesApi) -> None:
    archive = api.client.get("/v2/info/stores/detail").json()["stores"][1]
    assert (archive["type"], archive["weight"]) == ("file", 10)
    assert archive["properties"]["data_dir"] == str(api.stores["archive"])


def test_a_store_whose_library_is_missing_hides_no_other_one(api: ImagesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(KIND, driver="no_such_library:Store")
    monkeypatch.setattr(kinds, "KINDS", {**kinds.KINDS, absent.name: absent})
    edited = PartsStoreSettings(dir=api.stores["archive"])
    with api.catalog.write() as connection:
        mirror_store(connection, api.catalog, "archive", edited.model_dump_json(), datetime.now(UTC))
    fast, archive = api.client.get("/v2/info/stores/detail").json()["stores"]
    assert (archive["id"], archive["type"], archive["properties"]) == ("archive", "parts", {})
    assert fast["properties"]["data_dir"] == str(api.stores["fast"])


def test_usage_is_empty_without_an_identity_service(api: ImagesApi) -> None:
    assert api.client.get("/v2/info/usage").json() == {"usage": {}}


@pytest.mark.parametrize("name", ["image", "images", "member", "members", "task", "tasks"])
def test_schemas_are_served_under_their_names(api: ImagesApi, name: str) -> None:
    answer = api.client.get(f"/v2/schemas/{name}")
    assert (answer.status_code, answer.json()["name"]) == (200, name)


def test_the_image_schema_lists_formats_with_null_first(api: ImagesApi) -> None:
    properties = api.client.get("/v2/schemas/image").json()["properties"]
    assert properties["disk_format"]["enum"] == [None, *api.settings.formats.disk_formats]
    assert len(properties["status"]["enum"]) == 9


# --- health ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "text/plain"), ("text/html", "text/html"), ("application/json", "application/json")],
)
def test_health_is_told_in_the_form_asked_for(api: ImagesApi, accept: str, media_type: str) -> None:
    answer = api.client.get("/healthcheck", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    assert "OK" in answer.text


def test_detailed_health_tries_the_stores_and_tells_of_the_keeper(api: ImagesApi) -> None:
    report = api.client.get("/healthcheck?detailed", headers={"Accept": "application/json"}).json()
    assert report["stores"] == {"fast": "ok", "archive": "ok"}
    assert "no keeper" in report["keeper"]


def test_health_is_503_when_the_catalogue_cannot_be_read(api: ImagesApi) -> None:
    with api.catalog.write() as connection:
        META.drop(connection)
    answer = api.client.get("/healthcheck", headers={"Accept": "application/json"})
    assert answer.status_code == 503
    [reason] = answer.json()["reasons"]
    # The databases' drivers call a missing table by different names.
    assert reason in {f"the catalogue cannot be read ({name})" for name in ("OperationalError", "ProgrammingError")}


# --- stores edited elsewhere -------------------------------------------------------------------


def test_store_settings_mirrored_into_the_catalogue_replace_the_configured_ones(api: ImagesApi) -> None:
    seconds = [0.0]
    shelf = StoreRegistry(api.settings, api.catalog, lambda: seconds[0])
    assert [fact.weight for fact in shelf.facts()] == [0, 10]
    edited = FileStoreSettings(dir=api.stores["fast"], weight=50, description="edited")
    with api.catalog.write() as connection:
        mirror_store(connection, api.catalog, "fast", edited.model_dump_json(), datetime.now(UTC))
        mirror_store(connection, api.catalog, "archive", '{"type": "tape"}', datetime.now(UTC))
    assert [fact.weight for fact in shelf.facts()] == [0, 10]
    seconds[0] = STORES_KEPT_S + 1
    assert [(fact.weight, fact.description) for fact in shelf.facts()] == [(50, "edited"), (10, "")]
    with api.catalog.write() as connection:
        forget_store(connection, "fast")
    seconds[0] *= 3
    assert shelf.settings_in_force()["fast"] == api.settings.stores["fast"]
