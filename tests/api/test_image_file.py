"""Download of image data."""

from __future__ import annotations

import collections
import os
from hashlib import md5

import httpx
import pytest

from tests.fakes.images_api import FORMATS, ImagesApi
from transship.api.image_file import ByteRange, parse_range
from transship.catalog.schema import IMAGES
from transship.domain.errors import BadRequest, RangeUnsatisfiable

DATA = bytes(range(256)) * 8192 + b"end"


def test_the_whole_image_comes_with_its_length_and_md5(api: ImagesApi) -> None:
    answer = api.client.get(f"/v2/images/{api.active(DATA)}/file")
    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["content-md5"] == md5(DATA, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=10-", 10, len(DATA)), ("bytes=-3", len(DATA) - 3, len(DATA))],
)
def test_a_range_comes_as_206(api: ImagesApi, asked: str, start: int, stop: int) -> None:
    answer = api.client.get(f"/v2/images/{api.active(DATA)}/file", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == str(stop - start)
    assert "content-md5" not in answer.headers


def test_a_range_beyond_the_end_is_a_416_that_tells_the_size(api: ImagesApi) -> None:
    answer = api.client.get(f"/v2/images/{api.active(b'data')}/file", headers={"Range": "bytes=4-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */4"


@pytest.mark.parametrize(
    ("asked", "legacy", "found"),
    [
        (None, None, None),
        ("bytes=2-5", None, ByteRange(2, 6)),
        ("bytes=2-500", None, ByteRange(2, 10)),
        ("bytes=-500", None, ByteRange(0, 10)),
        (None, "bytes 2-5/10", ByteRange(2, 6)),
        (None, "bytes 2-5/*", ByteRange(2, 6)),
        ("bytes=0-0", "bytes 2-5/10", ByteRange(0, 1)),
        ("bytes=0-1,3-4", None, BadRequest),
        ("bytes=10-", None, RangeUnsatisfiable),
        ("bytes=5-2", None, RangeUnsatisfiable),
        ("bytes=-0", None, RangeUnsatisfiable),
        ("bytes=-", None, RangeUnsatisfiable),
        ("items=1-2", None, RangeUnsatisfiable),
        ("nonsense", None, RangeUnsatisfiable),
        (None, "bytes 2-10/10", RangeUnsatisfiable),
        (None, "bytes 5-2/10", RangeUnsatisfiable),
        (None, "2-5", RangeUnsatisfiable),
    ],
)
def test_ranges_are_read_as_the_standard_says(asked: str | None, legacy: str | None, found: object) -> None:
    if isinstance(found, type) and issubclass(found, Exception):
        with pytest.raises(found):
            parse_range(asked, legacy, 10)
    else:
        assert parse_range(asked, legacy, 10) == found


def test_an_image_without_data_is_204(api: ImagesApi) -> None:
    answer = api.client.get(f"/v2/images/{api.create(**FORMATS)}/file")
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_next_store_delivers_when_the_best_does_not(api: ImagesApi) -> None:
    image_id = api.active(b"data", ("fast", "archive"))
    (api.stores["archive"] / image_id).unlink()
    assert api.client.get(f"/v2/images/{image_id}/file").content == b"data"


def test_a_store_that_holds_less_than_the_image_does_not_deliver(api: ImagesApi) -> None:
    image_id = api.active(b"data", ("fast", "archive"))
    (api.stores["archive"] / image_id).write_bytes(b"dat")
    assert api.client.get(f"/v2/images/{image_id}/file").content == b"data"


def test_a_download_that_breaks_off_is_cut_and_not_ended(api: ImagesApi) -> None:
    image_id = api.active(bytes(64 * 1024 * 1024))
    with api.client.stream("GET", f"/v2/images/{image_id}/file") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        os.truncate(api.stores["fast"] / image_id, 1024 * 1024)
        with pytest.raises(httpx.RemoteProtocolError):
            collections.deque(pieces, maxlen=0)


def test_the_best_store_delivers(api: ImagesApi) -> None:
    image_id = api.active(b"data", ("fast", "archive"))
    (api.stores["fast"] / image_id).write_bytes(b"atad")
    assert api.client.get(f"/v2/images/{image_id}/file").content == b"data"


def test_data_that_no_store_delivers_are_a_503_that_names_no_place(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    (api.stores["fast"] / image_id).unlink()
    answer = api.client.get(f"/v2/images/{image_id}/file")
    assert answer.status_code == 503
    assert str(api.stores["fast"]) not in answer.text


def test_an_admin_may_download_a_deactivated_image(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    with api.catalog.write() as connection:
        connection.execute(IMAGES.update().values(status="deactivated"))
    assert api.client.get(f"/v2/images/{image_id}/file").content == b"data"
