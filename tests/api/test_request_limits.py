"""Limits on what a client may send: more is refused, and does not delay other clients."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from config.settings import ApiSettings, QuotaSettings
from tests.fakes.images_api import FORMATS, ApiMaker, ImagesApi
from transship.api.attributes import LONGEST_NAME
from transship.api.bodies import MOST_VALUES
from transship.api.http_protocol import LARGEST_HEAD_BYTES, MOST_HEADERS, BoundedHttpProtocol
from transship.api.patch import RFC_6902
from transship.api.query import MOST_CHOICES, MOST_FILTERS
from transship.domain.image import LARGEST_PROPERTIES_BYTES, LARGEST_VALUE_BYTES

PIECE = b"x" * 65536
FAR_TOO_MUCH = 16 * 1024 * 1024
"""Bytes a client would send of one head if nobody stopped it."""


@contextmanager
def connection(api: ImagesApi) -> Iterator[socket.socket]:
    url = api.client.base_url
    with socket.create_connection((url.host, url.port or 0), timeout=300) as opened:
        yield opened


def answer_to(sock: socket.socket) -> bytes:
    """Return the rest of the server's response, until it closes."""
    answer = b""
    with suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            answer += piece
    return answer


def send_until_stopped(sock: socket.socket, piece: bytes) -> None:
    """Send a piece repeatedly until the server accepts no more."""
    with suppress(OSError):
        for _ in range(FAR_TOO_MUCH // len(piece)):
            sock.sendall(piece)


ENDLESS_HEADS = {
    "one header": (b"GET /v2/images HTTP/1.1\r\nHost: x\r\nX-Long: ", PIECE, b"431"),
    "header name": (b"GET /v2/images HTTP/1.1\r\nHost: x\r\n", PIECE, b"431"),
    "many headers": (b"GET /v2/images HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n" * 10_000, b"431"),
    "request line": (b"GET /v2/images?", PIECE, b"431"),
    "method": (b"", PIECE, b"400"),
    "folded header": (b"GET /v2/images HTTP/1.1\r\nHost: x\r\nX-Long: a\r\n", b" folded\r\n" * 8000, b"400"),
    "trailers": (
        b"POST /v2/images HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        b"A: b\r\n" * 10_000,
        b"431",
    ),
    "one trailer": (
        b"POST /v2/images HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: ",
        PIECE,
        b"431",
    ),
    "chunk extension": (
        b"POST /v2/images HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=",
        PIECE,
        b"431",
    ),
}


@pytest.mark.parametrize(("begin", "piece", "status"), ENDLESS_HEADS.values(), ids=ENDLESS_HEADS.keys())
def test_a_head_without_end_is_refused_while_it_is_sent(
    api: ImagesApi, begin: bytes, piece: bytes, status: bytes
) -> None:
    with connection(api) as sock:
        sock.sendall(begin)
        send_until_stopped(sock, piece)
        answer = answer_to(sock)
    assert answer.split(b" ", 2)[1] == status


def head_of(size: int, headers: int = 1) -> bytes:
    """Return a complete request head of a given size in bytes, as counted by the limit."""
    begin, end = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", b"\r\n"
    filler = b"A: b\r\n" * (headers - 1)
    rest = size - len(begin) - len(end) - len(filler) - len(b"B: \r\n")
    return begin + filler + b"B: " + b"c" * rest + b"\r\n" + end


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (head_of(32 * 1024), b"200"),
        (head_of(LARGEST_HEAD_BYTES - 1024), b"200"),
        (head_of(LARGEST_HEAD_BYTES + 1024), b"431"),
        (head_of(4 * LARGEST_HEAD_BYTES), b"431"),
        (head_of(16 * 1024, MOST_HEADERS - 10), b"200"),
        (head_of(16 * 1024, MOST_HEADERS + 1), b"431"),
    ],
    ids=["usual", "just below", "just above", "far above", "many headers", "too many headers"],
)
def test_the_bound_of_a_head_is_where_it_is_said_to_be(api: ImagesApi, head: bytes, status: bytes) -> None:
    with connection(api) as sock:
        sock.sendall(head)
        answer = answer_to(sock)
    assert answer.split(b" ", 2)[1] == status
    if status == b"431":
        said, body = answer.split(b"\r\n\r\n", 1)
        assert b"connection: close" in said.lower()
        assert "64 KiB" in json.loads(body)["message"]


def test_a_head_in_many_pieces_counts_once_for_each_request(api: ImagesApi) -> None:
    """Requests on one connection do not add up."""
    request = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n"
    with connection(api) as sock:
        for _ in range(4):
            for at in range(0, len(request), 5000):
                sock.sendall(request[at : at + 5000])
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_finish_its_head_is_told_and_dropped(
    api: ImagesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "head_timeout_s", 0.2)
    with connection(api) as silent, connection(api) as slow, connection(api) as second:
        slow.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert answer_to(slow).startswith(b"HTTP/1.1 408 ")
        assert answer_to(silent) == b""
        second.close()


def test_the_next_head_of_a_connection_has_its_own_time(api: ImagesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    with connection(api) as sock:
        sock.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(BoundedHttpProtocol, "head_timeout_s", 0.2)
        sock.sendall(b"GET /healthcheck HTTP/1.1\r\nX-Slow: ")
        assert answer_to(sock).startswith(b"HTTP/1.1 408 ")


def test_a_malformed_head_is_a_bad_request_in_json(api: ImagesApi) -> None:
    with connection(api) as sock:
        sock.sendall(b"GET /v2/images HTTP/1.1\r\nno colon\r\n\r\n")
        said, body = answer_to(sock).split(b"\r\n\r\n", 1)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert "Invalid HTTP request" in json.loads(body)["message"]


def test_an_upgrade_to_websockets_is_not_offered(api: ImagesApi) -> None:
    answer = api.client.get(
        "/v2/images",
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        },
    )
    assert answer.status_code == 200


# --- bodies ---


def _patch(api: ImagesApi, image_id: str, changes: object) -> Any:
    return api.client.patch(f"/v2/images/{image_id}", json=changes, headers={"Content-Type": RFC_6902})


def _adds(count: int, value: object = "v") -> list[dict[str, object]]:
    return [{"op": "add", "path": f"/p{n}", "value": value} for n in range(count)]


UNLIMITED = QuotaSettings(image_property_quota=-1, image_tag_quota=-1)


@pytest.mark.parametrize(
    "body",
    [
        {f"p{n}": "v" for n in range(80_000)},
        {"tags": [f"t{n}" for n in range(80_000)]},
        {"tags": ["t"] * 80_000},
        {f"p{n}": n for n in range(80_000)},
        {"locations": [{}] * 80_000},
    ],
    ids=["properties", "tags", "one tag over and over", "properties that are no text", "locations"],
)
def test_a_body_of_too_many_values_is_refused_before_each_is_judged(make_api: ApiMaker, body: object) -> None:
    api = make_api(quota=UNLIMITED, api=ApiSettings(max_body_bytes=16 * 1024 * 1024))
    answer = api.client.post("/v2/images", json=body)
    assert answer.status_code == 400
    assert f"at most {MOST_VALUES} are read" in answer.text


def test_patches_and_imports_of_too_many_values_are_refused_too(make_api: ApiMaker) -> None:
    api = make_api(quota=UNLIMITED, api=ApiSettings(max_body_bytes=16 * 1024 * 1024))
    image_id = api.create(**FORMATS)
    stores = [str(n) for n in range(MOST_VALUES)]
    method = {"name": "web-download", "uri": "http://93.184.215.14/x"}
    asked = api.client.post(f"/v2/images/{image_id}/import", json={"method": method, "stores": stores})
    for answer in (_patch(api, image_id, _adds(MOST_VALUES // 3)), asked):
        assert answer.status_code == 400
        assert f"at most {MOST_VALUES} are read" in answer.text
    assert api.image(image_id)["status"] == "queued"


def test_as_many_values_as_are_read_are_taken(make_api: ApiMaker) -> None:
    api = make_api(quota=UNLIMITED)
    image_id = api.create(**{f"p{n}": "v" for n in range(MOST_VALUES // 4)})
    answer = _patch(api, image_id, [{"op": "remove", "path": f"/p{n}"} for n in range(MOST_VALUES // 4)])
    assert answer.status_code == 200
    assert not [name for name in answer.json() if name.startswith("p") and name != "protected"]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("x" * LARGEST_VALUE_BYTES, 201),
        ("x" * (LARGEST_VALUE_BYTES + 1), 400),
        ("é" * (LARGEST_VALUE_BYTES // 2 + 1), 400),
    ],
    ids=["largest", "one more", "counted as UTF-8"],
)
def test_the_value_of_a_property_has_a_largest_size(api: ImagesApi, value: str, status: int) -> None:
    answer = api.client.post("/v2/images", json={"p": value})
    assert answer.status_code == status
    image_id = api.create()
    patched = _patch(api, image_id, [{"op": "add", "path": "/p", "value": value}])
    assert patched.status_code == (200 if status == 201 else status)
    if status == 400:
        assert f"at most {LARGEST_VALUE_BYTES} are kept" in answer.text
        assert "property &#x27;p&#x27;" in patched.text


def test_the_properties_of_one_image_have_a_largest_size_together(api: ImagesApi) -> None:
    """Otherwise a page of images could have gigabytes."""
    image_id = api.create()
    for n in range(3):
        answer = _patch(api, image_id, [{"op": "add", "path": f"/p{n}", "value": "x" * (LARGEST_VALUE_BYTES - 10)}])
        assert answer.status_code == (200 if n < 2 else 413)
    assert f"at most {LARGEST_PROPERTIES_BYTES} allowed" in answer.text
    assert "p2" not in api.image(image_id)
    assert _patch(api, image_id, [{"op": "remove", "path": "/p0"}]).status_code == 200


@pytest.mark.parametrize("length", [LONGEST_NAME, LONGEST_NAME + 1])
def test_the_name_of_a_property_has_a_largest_length(api: ImagesApi, length: int) -> None:
    expected = (201, 200) if length == LONGEST_NAME else (400, 400)
    name = "n" * length
    made = api.client.post("/v2/images", json={name: "v"}).status_code
    patched = _patch(api, api.create(), [{"op": "add", "path": f"/{name}", "value": "v"}]).status_code
    assert (made, patched) == expected


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        ("&".join(f"p{n}=v" for n in range(3000)), MOST_FILTERS),
        ("&".join(f"tag=t{n}" for n in range(3000)), MOST_FILTERS),
        ("name=in:" + ",".join(str(n) for n in range(3000)), MOST_CHOICES),
        ("id=in:" + "," * 3000, MOST_CHOICES),
    ],
    ids=["properties", "tags", "names", "empty ids"],
)
def test_a_list_is_filtered_by_so_many_values_at_most(api: ImagesApi, query: str, limit: int) -> None:
    answer = api.client.get(f"/v2/images?{query}")
    assert answer.status_code == 400
    assert f"at most {limit} are read" in answer.text


def test_as_many_filters_as_are_read_find_images(api: ImagesApi) -> None:
    tags = [f"t{n}" for n in range(MOST_FILTERS // 2)]
    properties = {f"p{n}": "v" for n in range(MOST_FILTERS // 2)}
    image_id = api.create(tags=tags, **properties)
    query = "&".join([*(f"tag={tag}" for tag in tags), *(f"{name}=v" for name in properties)])
    names = ",".join(["in:x", *(f"n{n}" for n in range(MOST_CHOICES - 1))])
    assert [each["id"] for each in api.client.get(f"/v2/images?{query}").json()["images"]] == [image_id]
    assert api.client.get("/v2/images", params={"name": names}).json()["images"] == []
