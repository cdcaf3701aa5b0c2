"""``PUT …/file`` and ``PUT …/stage`` without data, as Nova sends for instances that boot from a volume."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5

import httpx
import pytest

from config.settings import StagingSettings
from tests.fakes.images_api import ApiMaker, ImagesApi

OCTETS = {"Content-Type": "application/octet-stream", "Accept": "application/json"}


@pytest.fixture
def api(make_api: ApiMaker) -> ImagesApi:
    return make_api(staging=StagingSettings(free_floor_bytes=0))


def send(api: ImagesApi, image_id: str, where: str, content: bytes | Iterator[bytes] = b"") -> httpx.Response:
    return api.client.put(f"/v2/images/{image_id}/{where}", content=content, headers=OCTETS)


def test_only_a_raw_image_without_a_container_may_be_empty(api: ImagesApi) -> None:
    formats, answers = api.settings.formats, {}
    declared = [(disk, "bare") for disk in formats.disk_formats] + [("raw", box) for box in formats.container_formats]
    for disk, container in declared:
        image_id = api.create(disk_format=disk, container_format=container)
        answer = send(api, image_id, "file")
        answers[disk, container] = answer.status_code
        image = api.image(image_id)
        if answer.status_code == 415:
            assert f"the upload is empty: 0 bytes, which are no {disk} data" in answer.json()["message"]
            assert (image["status"], image["size"], "stores" in image) == ("queued", None, False)
        else:
            assert (image["status"], image["size"], image["virtual_size"]) == ("active", 0, 0)
            assert (image["checksum"], image["stores"]) == (md5(b"").hexdigest(), "fast")
            data = api.client.get(f"/v2/images/{image_id}/file")
            assert (data.status_code, data.content, data.headers["content-length"]) == (200, b"", "0")
    assert answers == {each: 204 if each == ("raw", "bare") else 415 for each in answers}
    assert len(answers) == len(formats.disk_formats) + len(formats.container_formats) - 1


@pytest.mark.parametrize("content", [b"", iter(())], ids=["length", "chunked"])
def test_an_empty_body_is_data_as_well(api: ImagesApi, content: bytes | Iterator[bytes]) -> None:
    image_id = api.create(disk_format="raw", container_format="bare")
    assert send(api, image_id, "stage", content).status_code == 204
    image = api.image(image_id)
    assert (image["status"], image["size"]) == ("uploading", 0)
