"""The digest in a response's headers is compared with the received data."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Mapping

import pytest

from tests.acceptance.test_web_download import assert_active, assert_freed
from tests.fakes.asked_imports import AskedImports
from tests.fakes.web_server import Behaviour, Talk, WebServer, cut, whole

pytestmark = pytest.mark.real

BODY = os.urandom(300_000)
DAMAGED = BODY[:150_000] + bytes([BODY[150_000] ^ 1]) + BODY[150_001:]


def in_base64(algorithm: str, body: bytes = BODY) -> str:
    return b64encode(hashlib.new(algorithm, body).digest()).decode()


HEADERS: Mapping[str, Mapping[str, str]] = {
    "Repr-Digest": {"Repr-Digest": f"sha-256=:{in_base64('sha256')}:"},
    "Repr-Digest, several": {"Repr-Digest": f"unixsum=:AAA=:, sha-512=:{in_base64('sha512')}:, md5=:AAAA:"},
    "Content-Digest": {"Content-Digest": f"sha-256=:{in_base64('sha256')}:"},
    "Digest": {"Digest": f"SHA-256={in_base64('sha256')}"},
    "Digest, sha-1": {"Digest": f"unixsum=30637,sha={in_base64('sha1')}"},
    "Content-MD5": {"Content-MD5": in_base64("md5")},
    "Content-MD5 in hex": {"Content-MD5": hashlib.md5(BODY).hexdigest()},
}


def asked_ranges(server: WebServer) -> list[str]:
    return [request.headers.get("range", "") for request in server.requests("/x.img")]


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_data_that_differ_from_the_digest_are_fetched_once_more(
    imports: AskedImports, server: WebServer, headers: Mapping[str, str]
) -> None:
    state, image_id = imports.bring(
        server.on("/x.img", whole(DAMAGED, headers=headers), whole(BODY, etag='"v1"', headers=headers))
    )
    assert state.is_completed(), state.message
    assert_active(imports, image_id, BODY)
    assert asked_ranges(server) == ["", ""]


@pytest.mark.parametrize("plugins", ["", "no_op", "image_decompression"])
def test_data_that_differ_twice_never_become_active(imports: AskedImports, server: WebServer, plugins: str) -> None:
    imports.site.set(imports__plugins=plugins)
    state, image_id = imports.bring(server.serve("/x.img", DAMAGED, headers=HEADERS["Repr-Digest"]))
    assert state.is_failed()
    assert_freed(imports, image_id)
    assert "the sha256 of the downloaded data is" in imports.task(image_id).message
    assert asked_ranges(server) == ["", ""]


NOTHING_SAID: Mapping[str, Mapping[str, str]] = {
    "malformed": {"Repr-Digest": "sha-256=:c2hvcnQ=:"},
    "no base64": {"Content-MD5": "nonsense!"},
    "a sum": {"Digest": "unixsum=30637", "Repr-Digest": "crc32c=:AAAAAA==:"},
    "unknown": {"Repr-Digest": f"blake3=:{in_base64('sha256', b'other')}:"},
}


@pytest.mark.parametrize("headers", NOTHING_SAID.values(), ids=NOTHING_SAID.keys())
def test_what_is_no_digest_says_nothing(imports: AskedImports, server: WebServer, headers: Mapping[str, str]) -> None:
    _, image_id = imports.bring(server.serve("/x.img", BODY, headers=headers))
    assert_active(imports, image_id, BODY)
    assert len(server.requests("/x.img")) == 1


def test_the_digest_of_a_part_is_not_that_of_the_whole(imports: AskedImports, server: WebServer) -> None:
    """A download goes on with a 206 whose Content-MD5 is right for the rest alone."""

    def rest(talk: Talk) -> None:
        first = int(talk.request.headers["range"].removeprefix("bytes=").rstrip("-"))
        whole(BODY, headers={"Content-MD5": in_base64("md5", BODY[first:])})(talk)

    _, image_id = imports.bring(server.on("/x.img", cut(BODY, 100_000), rest))
    assert_active(imports, image_id, BODY)


def broken_after_a_promise(headers: Mapping[str, str]) -> Behaviour:
    def behave(talk: Talk) -> None:
        talk.head(200, {"Content-Length": str(len(BODY)), "ETag": '"v1"', **headers})
        talk.send(DAMAGED[:200_000])

    return behave


def test_what_the_first_answer_promised_counts_for_a_download_that_went_on(
    imports: AskedImports, server: WebServer
) -> None:
    """The rest comes without a digest; the beginning was damaged on its way."""
    first = broken_after_a_promise(HEADERS["Repr-Digest"])
    _, image_id = imports.bring(server.on("/x.img", first, whole(BODY)))
    assert_active(imports, image_id, BODY)
    assert asked_ranges(server) == ["", "bytes=200000-", ""]


def test_the_images_own_digests_are_computed_in_the_same_pass(imports: AskedImports, server: WebServer) -> None:
    _, image_id = imports.bring(server.serve("/x.img", BODY, headers=HEADERS["Content-MD5"]))
    assert_active(imports, image_id, BODY)
    assert imports.image(image_id).checksum == hashlib.md5(BODY).hexdigest()
