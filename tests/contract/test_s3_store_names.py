"""Parts, names and location URLs of the S3 store."""

from __future__ import annotations

import pytest

from tests.contract.cases.s3 import settings_in
from transship.host.directories import MARK
from transship.stores.s3.bucket import SentPart
from transship.stores.s3.driver import S3Store
from transship.stores.s3.names import Locations
from transship.stores.s3.upload import MIB, MOST_PARTS, etag_of, plan

IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"
GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("size", "part_bytes", "number", "each"),
    [
        (0, 32 * MIB, 1, 0),
        (1, 32 * MIB, 1, 1),
        (32 * MIB, 32 * MIB, 1, 32 * MIB),
        (32 * MIB + 1, 32 * MIB, 2, 32 * MIB),
        (MOST_PARTS * 32 * MIB, 32 * MIB, MOST_PARTS, 32 * MIB),
        (MOST_PARTS * 32 * MIB + 1, 32 * MIB, 9697, 33 * MIB),
        (48 * 1024 * GIB, 5 * MIB, 9999, 5034 * MIB),
    ],
)
def test_a_file_is_divided_into_parts_that_s3_takes(size: int, part_bytes: int, number: int, each: int) -> None:
    parts = plan(size, part_bytes)

    assert [part.number for part in parts] == list(range(1, number + 1))
    assert number <= MOST_PARTS
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert (parts[0].start, parts[-1].end, parts[0].size) == (0, size, each)
    assert all(part.size == each for part in parts[:-1])
    assert each <= 5 * GIB


def test_the_etag_of_an_object_follows_from_its_parts() -> None:
    # From a bucket of radosgw 16: one part of no bytes.
    empty = SentPart(0, "d41d8cd98f00b204e9800998ecf8427e")
    assert etag_of([empty]) == "59adb24ef3cdbe0297f05b395827453f-1"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("", "s3+https://s3.amazonaws.com/images/x"),
        ("http://127.0.0.1:7480", "s3://127.0.0.1:7480/images/x"),
        ("https://objects.example.org/s3", "s3+https://objects.example.org/s3/images/x"),
    ],
)
def test_urls_are_those_that_glance_writes(endpoint: str, url: str) -> None:
    locations = Locations.of(endpoint, "images")

    assert locations.prefix + "x" == url
    assert locations.key_in(url) == "x"


@pytest.mark.parametrize(
    "url",
    [
        "s3://objects.example.org/images/x",
        "s3+http://objects.example.org/images/x",
        "s3+https://key:secret@objects.example.org/images/x",
        "s3://key:se/cr@et+/@objects.example.org/images/x",
    ],
)
def test_urls_of_older_releases_of_glance_are_read(url: str) -> None:
    assert Locations.of("https://objects.example.org", "images").key_in(url) == "x"


@pytest.mark.parametrize(
    "url",
    [
        "http://objects.example.org/images/x",
        "s3://elsewhere.example.org/images/x",
        "s3://objects.example.org/other/x",
        f"s3://objects.example.org/images/{MARK}",
        f"s3://objects.example.org/images/{IMAGE}.3.upload.part",
        "s3://elsewhere.example.org/@objects.example.org/imagesx",
    ],
)
def test_other_urls_name_no_object_of_the_store(url: str) -> None:
    assert Locations.of("https://objects.example.org", "images").key_in(url) is None


def test_what_glance_shows_of_it() -> None:
    store = S3Store("shelf", settings_in("http://127.0.0.1:1", "images", parts_in_flight=7), "catalogue")

    assert store.public_properties() == {
        "s3_store_large_object_size": 0,
        "s3_store_large_object_chunk_size": 5 * MIB,
        "s3_store_thread_pools": 7,
    }
    assert "images" in store.remedy()
