"""What applies to every request: ids, bodies, forms of errors, unexpected errors."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from config.settings import ApiSettings
from tests.fakes.images_api import ApiMaker, ImagesApi
from transship.api.errors import STATUS, http_status, preferred_type
from transship.catalog.schema import TAGS
from transship.domain.errors import (
    BadRequest,
    ImportRunning,
    QuotaExceeded,
    StoreDenied,
    StoreUnavailable,
    StoreUnknown,
    TransshipError,
)


def test_each_answer_has_a_request_id_of_its_own(api: ImagesApi) -> None:
    ids = {api.client.get("/v2/images").headers["x-openstack-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(id_.startswith("req-") and len(id_) == 40 for id_ in ids)


@pytest.mark.parametrize(
    ("asked", "answered"), [("req-mine-1", "req-mine-1"), ("mine", "req-mine"), ("a" * 64, "req-" + "a" * 64)]
)
def test_a_callers_request_id_is_kept(api: ImagesApi, asked: str, answered: str) -> None:
    answer = api.client.get("/v2/images", headers={"X-OpenStack-Request-ID": asked})
    assert answer.headers["x-openstack-request-id"] == answered


def test_a_request_id_that_is_too_long_is_refused(api: ImagesApi) -> None:
    answer = api.client.get("/v2/images", headers={"X-OpenStack-Request-ID": "a" * 65})
    assert answer.status_code == 431
    assert answer.headers["x-openstack-request-id"].startswith("req-")


def test_an_unusable_request_id_is_replaced(api: ImagesApi) -> None:
    answer = api.client.get("/v2/images", headers={"X-OpenStack-Request-ID": "two words"})
    assert " " not in answer.headers["x-openstack-request-id"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b'"text"',
        b"7",
        b"null",
        b'{"min_disk": NaN}',
        b'{"name": "\\ud800"}',
        b'{"name": "a\\u0000b"}',
        b'{"\\udfff": "x"}',
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b'{"name": ' + b"[" * 600 + b"]" * 600 + b"}",
        b'{"min_disk": ' + b"9" * 5000 + b"}",
    ],
    ids=[
        "empty", "broken", "no JSON", "array", "string", "number", "null", "NaN", "surrogate", "NUL",
        "surrogate name", "no text", "deep", "rather deep", "endless number",
    ],
)  # fmt: skip
def test_a_malformed_body_is_a_bad_request(api: ImagesApi, body: bytes) -> None:
    assert api.client.post("/v2/images", content=body).status_code == 400


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_where_none_belongs_is_a_bad_request(api: ImagesApi, method: str) -> None:
    image_id = api.create()
    answer = api.client.request(method, f"/v2/images/{image_id}", json={})
    assert answer.status_code == 400
    assert "A body is not expected with this request." in answer.text
    assert api.image(image_id)["status"] == "queued"


def test_a_body_over_the_limit_is_refused_announced_or_not(make_api: ApiMaker) -> None:
    api = make_api(api=ApiSettings(max_body_bytes=1024))
    body = json.dumps({"name": "x" * 2000}).encode()
    assert api.client.post("/v2/images", content=body).status_code == 413
    assert api.client.post("/v2/images", content=iter([body[:1000], body[1000:]])).status_code == 413


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "text/html"),
        ("text/*", "text/html"),
        ("text/html;q=0.2, application/json", "application/json"),
        ("application/json", "application/json"),
        ("text/plain", "text/plain"),
        ("", "text/plain"),
    ],
)
def test_errors_come_in_the_form_that_accept_asks_for(api: ImagesApi, accept: str, media_type: str) -> None:
    answer = api.client.get("/v2/images/<b>", headers={"Accept": accept})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith(media_type)
    assert "<b>" not in answer.text or media_type != "text/html"
    assert "No image found with ID" in answer.text


def test_json_errors_have_webobs_members(api: ImagesApi) -> None:
    error = api.client.get("/v2/images/x", headers={"Accept": "application/json"}).json()
    assert error == {
        "message": "No image found with ID x<br /><br />\n\n\n",
        "code": "404 Not Found",
        "title": "Not Found",
    }


def test_an_unforeseen_fault_is_a_500_that_says_nothing_of_the_inside(api: ImagesApi) -> None:
    with api.catalog.write() as connection:
        TAGS.drop(connection)
    with capture_logs() as logged:
        answer = api.client.post("/v2/images", json={"tags": ["x"]})
    assert "request failed" in {entry["event"] for entry in logged}
    assert answer.status_code == 500
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    assert "tags" not in answer.text


def test_polls_are_logged_for_debugging_only_and_the_rest_for_everybody(api: ImagesApi) -> None:
    image_id = api.create()
    levels = {}
    for method, path in (
        ("GET", f"/v2/images/{image_id}"),
        ("GET", f"/v2/images/{image_id}/tasks"),
        ("GET", "/healthcheck"),
        ("GET", f"/v2/images/{image_id}/file"),
        ("GET", "/v2/images/none"),
        ("DELETE", f"/v2/images/{image_id}"),
    ):
        with capture_logs() as logged:
            api.client.request(method, path)
        levels[method, path] = next(entry["log_level"] for entry in logged if entry["event"] == "request")
    assert list(levels.values()) == ["debug"] * 3 + ["info"] * 3


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequest("x"), 400),
        (ImportRunning("i", "t"), 409),
        (StoreUnknown("s", ()), 409),
        (QuotaExceeded("tags", 1, 2), 413),
        (StoreUnavailable("s", "r"), 503),
        (StoreDenied("s", "r"), 503),
        (TransshipError(), 500),
    ],
)
def test_an_error_has_the_status_of_its_nearest_listed_ancestor(error: TransshipError, status: int) -> None:
    assert http_status(error) == status


def test_the_table_lists_no_class_twice_over() -> None:
    for kind, status in STATUS.items():
        inherited = next((STATUS[base] for base in kind.__mro__[1:] if base in STATUS), None)
        assert status != inherited, f"{kind.__name__} needs no line of its own"


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("", ""),
        ("image/png", ""),
        ("text/html;q=0", ""),
        ("*/*, text/html;q=0", "application/json"),
        ("application/*;q=0.9, text/html;q=0.8", "application/json"),
        ("text/html;q=wrong", ""),
        ("TEXT/HTML", "text/html"),
    ],
)
def test_accept_is_read_by_quality_and_then_by_precision(accept: str, preferred: str) -> None:
    assert preferred_type(accept, ("text/html", "application/json")) == preferred
