"""Requests from pages of other origins, and links behind a reverse proxy."""

from __future__ import annotations

import httpx
import pytest

from config.settings import ApiSettings, CorsSettings, Settings
from tests.fakes.images_api import ApiMaker, ImagesApi
from tests.fakes.keystone import Keystone
from transship.api import images

HORIZON = "https://horizon.example.org"
UPLOAD = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "content-type, x-auth-token, cache-control",
}
TYPE = {"Content-Type": "application/octet-stream"}


def preflight(api: ImagesApi, origin: str = HORIZON, **more: str) -> httpx.Response:
    """Ask what a browser asks before it uploads."""
    headers = {"Origin": origin, **UPLOAD, **{name.replace("_", "-"): value for name, value in more.items()}}
    return api.client.request("OPTIONS", "/v2/images/0/file", headers=headers)


def allowed(answer: httpx.Response) -> dict[str, str]:
    prefix = "access-control-"
    return {name.removeprefix(prefix): text for name, text in answer.headers.items() if name.startswith(prefix)}


@pytest.fixture
def api(make_api: ApiMaker) -> ImagesApi:
    return make_api(cors=CorsSettings(allowed_origin=(HORIZON, "http://localhost:8000")))


def test_without_origins_nothing_is_allowed(make_api: ApiMaker) -> None:
    api = make_api()
    assert (preflight(api).status_code, allowed(preflight(api))) == (200, {})
    assert allowed(api.client.get("/v2/images", headers={"Origin": HORIZON})) == {}


def test_a_browser_that_asks_first_needs_no_token(make_api: ApiMaker) -> None:
    with Keystone() as keystone:
        section = {"auth": "keystone"}
        api = make_api(api=section, auth=keystone.section, cors=CorsSettings(allowed_origin=(HORIZON,), max_age=60))
        answer = preflight(api)
    assert answer.status_code == 200
    assert (answer.headers["access-control-allow-origin"], answer.headers["access-control-max-age"]) == (HORIZON, "60")
    assert {"GET", "PUT", "POST", "DELETE", "PATCH"} == set(allowed(answer)["allow-methods"].split(", "))
    assert {"X-Auth-Token", "Content-Type", "Cache-Control"} <= set(allowed(answer)["allow-headers"].split(", "))
    assert keystone.asked == []


@pytest.mark.parametrize(
    "other",
    [
        {"origin": "https://evil.example.org"},
        {"origin": f"{HORIZON}.evil.example.org"},
        {"Access_Control_Request_Method": "TRACE"},
        {"Access_Control_Request_Headers": "x-roles"},
    ],
    ids=["origin", "suffix of an origin", "method", "header"],
)
def test_a_browser_that_asks_for_something_else_is_refused(api: ImagesApi, other: dict[str, str]) -> None:
    answer = preflight(api, **other)
    assert answer.status_code == 400
    assert ("allow-origin" in allowed(answer)) is ("origin" not in other)


def test_a_page_may_upload_and_read_what_it_needs(api: ImagesApi) -> None:
    image_id = api.create(disk_format="raw", container_format="bare")
    answer = api.client.put(f"/v2/images/{image_id}/file", content=b"data", headers={"Origin": HORIZON, **TYPE})
    assert answer.status_code == 204
    assert allowed(answer)["allow-origin"] == HORIZON
    assert "X-OpenStack-Request-ID" in allowed(answer)["expose-headers"].split(", ")
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("origin", [HORIZON, "https://evil.example.org"])
@pytest.mark.parametrize(("path", "status"), [("/v2/images/0", 404), ("/v2/images?limit=x", 400), ("/v9", 300)])
def test_refusals_can_be_read_by_pages_that_are_allowed(api: ImagesApi, path: str, status: int, origin: str) -> None:
    answer = api.client.get(path, headers={"Origin": origin})
    assert answer.status_code == status
    assert allowed(answer).get("allow-origin") == (HORIZON if origin == HORIZON else None)


def test_a_defect_can_be_read_as_well(api: ImagesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "parse_query", lambda *_: 1 / 0)
    answer = api.client.get("/v2/images", headers={"Origin": HORIZON})
    assert (answer.status_code, allowed(answer)["allow-origin"]) == (500, HORIZON)


def test_all_origins_are_allowed_without_credentials_only(make_api: ApiMaker) -> None:
    api = make_api(cors=CorsSettings(allowed_origin=("*",)))
    for answer in (preflight(api), api.client.get("/v2/images", headers={"Origin": HORIZON, "Cookie": "a=b"})):
        assert (answer.status_code, allowed(answer)["allow-origin"]) == (200, "*")
        assert "allow-credentials" not in allowed(answer)


@pytest.mark.parametrize(
    "origin",
    ["horizon.example.org", f"{HORIZON}/", f"{HORIZON}/dashboard", "https://", "https://Horizon", "https://a@b", "null",
     "ftp://a", "https://a:0", "https://[", "https://*.example.org"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"write https://host"):
        CorsSettings(allowed_origin=(origin,))


# --- behind a proxy ----------------------------------------------------------------------------


def link(api: ImagesApi, headers: dict[str, str], path: str = "/versions") -> str:
    found: str = api.client.get(path, headers={"Host": "inside:9292", **headers}).json()["versions"][0]["links"][0][
        "href"
    ]
    return found


SENT = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "images.example.org",
    "X-Forwarded-Prefix": "/image",
    "Forwarded": "proto=https;host=images.example.org",
}


@pytest.mark.parametrize("path", ["/", "/versions"])
def test_headers_of_proxies_are_ignored_by_default(make_api: ApiMaker, path: str) -> None:
    assert link(make_api(), SENT, path) == "http://inside:9292/v2/"


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({}, "http://inside:9292"),
        ({"X-Forwarded-Proto": "https"}, "https://inside:9292"),
        ({"X-Forwarded-Host": "a.example:8443"}, "http://a.example:8443"),
        ({"X-Forwarded-Prefix": "/image/"}, "http://inside:9292/image"),
        (SENT, "https://images.example.org/image"),
        ({"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "a, b"}, "https://a"),
        ({"Forwarded": "for=192.0.2.1;proto=HTTPS; host=\"[2001:db8::1]:8443\", for=10.0.0.1;host=b"},
         "https://[2001:db8::1]:8443"),
        ({"Forwarded": "proto=https", "X-Forwarded-Host": "b", "X-Forwarded-Prefix": "/p"}, "https://inside:9292/p"),
        ({"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a/b", "X-Forwarded-Prefix": "//evil.example"},
         "http://inside:9292"),
        ({"Forwarded": "host=a@b;proto"}, "http://inside:9292"),
    ],
)  # fmt: skip
def test_links_lead_to_the_first_proxy_where_that_is_enabled(
    make_api: ApiMaker, headers: dict[str, str], base: str
) -> None:
    api = make_api(api=ApiSettings(enable_proxy_headers_parsing=True))
    assert link(api, headers) == f"{base}/v2/"


def test_a_public_endpoint_wins(make_api: ApiMaker) -> None:
    public = "https://public.example.org"
    api = make_api(api=ApiSettings(enable_proxy_headers_parsing=True, public_endpoint=public))
    assert link(api, SENT) == f"{public}/v2/"
    assert Settings().api.enable_proxy_headers_parsing is False
