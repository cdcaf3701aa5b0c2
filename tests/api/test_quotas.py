"""Quotas of projects at the API: one setting for every project, or unified limits in Keystone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from config.settings import QuotaSettings, StagingSettings
from tests.fakes.images_api import SOURCE, ApiMaker, ImagesApi
from tests.fakes.keystone import Keystone
from tests.fakes.together import at_once
from transship.domain.quota import MIB
from transship.identity import unified_limits

pytestmark = [
    # openstacksdk, which reads the limits, warns about its own future.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

RAW = {"disk_format": "raw", "container_format": "bare"}
OCTETS = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
ROOMY = StagingSettings(free_floor_bytes=0)


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        running.limits.update(image_size_total=-1, image_stage_total=-1, image_count_total=-1, image_count_uploading=-1)
        yield running


class Limited:
    """An API with unified limits, and a member of the project ``demo``."""

    def __init__(self, api: ImagesApi, keystone: Keystone) -> None:
        self.api, self.keystone = api, keystone
        self._token = keystone.token("demo")

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {**OCTETS, "X-Auth-Token": self._token, **arguments.pop("headers", {})}
        return self.api.client.request(method, path, headers=headers, **arguments)

    def create(self) -> str:
        made = self.call("POST", "/v2/images", json=RAW)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def put(self, image_id: str, kind: str, data: Any) -> httpx.Response:
        return self.call("PUT", f"/v2/images/{image_id}/{kind}", content=data)

    def ask(self, image_id: str, method: str = "web-download", *stores: str) -> httpx.Response:
        asked = {"name": method, **({"uri": SOURCE} if method == "web-download" else {})}
        return self.call("POST", f"/v2/images/{image_id}/import", json={"method": asked, "stores": stores or ["fast"]})

    def status(self, image_id: str) -> str:
        return str(self.call("GET", f"/v2/images/{image_id}").json()["status"])

    def usage(self) -> dict[str, dict[str, int]]:
        shown: dict[str, dict[str, int]] = self.call("GET", "/v2/info/usage").json()["usage"]
        return shown


@pytest.fixture
def limited(make_api: ApiMaker, keystone: Keystone, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Limited]:
    """Make an API with some unified limits of every project, which it does not cache."""
    monkeypatch.setattr(unified_limits, "KEPT_S", -1.0)

    def make(**limits: int) -> Limited:
        keystone.limits.update({f"image_{name}": most for name, most in limits.items()})
        quota = QuotaSettings(unified_limits=True, user_storage_bytes=1)
        return Limited(make_api(api={"auth": "keystone"}, auth=keystone.section, quota=quota, staging=ROOMY), keystone)

    return make


def streamed(*pieces: bytes) -> Iterator[bytes]:
    """A body without an announced length."""
    yield from pieces


def message(answer: httpx.Response) -> str:
    return str(answer.json()["message"])


# --- one setting for every project ---


def test_an_upload_beyond_the_storage_of_the_project_is_refused_before_it_is_read(make_api: ApiMaker) -> None:
    api = make_api(quota=QuotaSettings(user_storage_bytes=3 * MIB), staging=ROOMY)
    api.active(b"x" * MIB, ("fast", "archive"), **RAW)
    image_id = api.create(**RAW)
    answer = api.client.put(f"/v2/images/{image_id}/file", content=b"x" * (MIB + 1), headers=OCTETS)
    assert answer.status_code == 413
    assert (
        "the project's quota quota.user_storage_bytes would be exceeded: 2.0 MiB are taken by its other images, and"
        " 1.0 MiB more are needed, of 3.0 MiB; delete images that are no longer needed, or ask the operator"
    ) in message(answer)
    assert api.image(image_id)["status"] == "queued"
    assert api.client.put(f"/v2/images/{image_id}/file", content=b"x" * MIB, headers=OCTETS).status_code == 204
    assert api.client.get("/v2/info/usage").json() == {"usage": {}}


def test_an_upload_without_a_length_stops_where_the_storage_ends(make_api: ApiMaker) -> None:
    api = make_api(quota=QuotaSettings(user_storage_bytes=3 * MIB), staging=ROOMY)
    image_id = api.create(**RAW)
    answer = api.client.put(f"/v2/images/{image_id}/file", content=streamed(*[b"x" * MIB] * 20), headers=OCTETS)
    assert answer.status_code == 413
    assert "0 bytes are taken by its other images, and 4.0 MiB more are needed, of 3.0 MiB" in message(answer)
    assert api.image(image_id)["status"] == "queued"
    just_fits = streamed(*[b"x" * MIB] * 3)
    assert api.client.put(f"/v2/images/{image_id}/file", content=just_fits, headers=OCTETS).status_code == 204


def test_a_staged_image_is_imported_only_into_as_many_stores_as_the_storage_allows(make_api: ApiMaker) -> None:
    api = make_api(quota=QuotaSettings(user_storage_bytes=MIB), staging=ROOMY)
    image_id = api.create(**RAW)
    assert api.client.put(f"/v2/images/{image_id}/stage", content=b"x" * MIB, headers=OCTETS).status_code == 204
    for stores, status in ((["fast", "archive"], 413), (["fast"], 202)):
        asked = {"method": {"name": "glance-direct"}, "stores": stores}
        assert api.client.post(f"/v2/images/{image_id}/import", json=asked).status_code == status
        assert api.image(image_id)["status"] == ("uploading" if status == 413 else "importing")


# --- unified limits ---


def test_images_are_counted_when_they_are_created(limited: Callable[..., Limited]) -> None:
    here = limited(count_total=1)
    here.create()
    answer = here.call("POST", "/v2/images", json=RAW)
    assert answer.status_code == 413
    assert "the project's quota image_count_total is used up: 1 images count already, of 1; wait" in message(answer)
    assert len(here.call("GET", "/v2/images").json()["images"]) == 1


def test_of_two_images_created_at_the_same_time_one_is_the_last(limited: Callable[..., Limited]) -> None:
    here = limited(count_total=1)
    made = at_once(*[lambda: here.call("POST", "/v2/images", json=RAW).status_code] * 4)
    assert sorted(map(int, map(str, made))) == [201, 413, 413, 413]


def test_a_limit_that_is_not_registered_allows_nothing(limited: Callable[..., Limited]) -> None:
    here = limited()
    del here.keystone.limits["image_count_total"]
    assert here.call("POST", "/v2/images", json=RAW).status_code == 413


def test_a_limit_of_the_project_goes_before_the_one_of_all(limited: Callable[..., Limited]) -> None:
    here = limited(count_total=0)
    here.keystone.project_limits = {"demo": {"image_count_total": 1}, "other": {"image_count_total": 0}}
    here.create()
    assert here.usage()["image_count_total"] == {"limit": 1, "usage": 1}


@pytest.mark.parametrize(("kind", "limit"), [("stage", "stage_total"), ("file", "size_total")])
def test_data_are_refused_by_their_announced_size_and_while_they_arrive(
    kind: str, limit: str, limited: Callable[..., Limited]
) -> None:
    here = limited(**{limit: 2})
    image_id = here.create()
    for data in (b"x" * (3 * MIB), streamed(b"x" * MIB, b"y" * MIB, b"z")):
        answer = here.put(image_id, kind, data)
        assert answer.status_code == 413
        assert f"the project's quota image_{limit} would be exceeded: 0 bytes are taken" in message(answer)
        assert here.status(image_id) == "queued"
    assert here.put(image_id, kind, streamed(b"x" * MIB, b"y" * MIB)).status_code == 204
    assert here.usage()[f"image_{limit}"] == {"limit": 2, "usage": 2}


def test_staged_data_count_until_their_image_is_deleted(limited: Callable[..., Limited]) -> None:
    here = limited(stage_total=2, count_uploading=1)
    first, second = here.create(), here.create()
    assert here.put(first, "stage", b"x" * MIB).status_code == 204
    answer = here.put(second, "stage", b"x")
    assert (answer.status_code, here.status(second)) == (413, "queued")
    assert "the project's quota image_count_uploading is used up: 1 images count already, of 1" in message(answer)
    used = {name: numbers["usage"] for name, numbers in here.usage().items()}
    assert used == {"image_size_total": 0, "image_stage_total": 1, "image_count_total": 2, "image_count_uploading": 1}
    assert here.call("DELETE", f"/v2/images/{first}").status_code == 204
    assert here.put(second, "stage", b"x" * (2 * MIB)).status_code == 204


def test_imports_are_counted_when_they_are_requested(limited: Callable[..., Limited]) -> None:
    here = limited(count_uploading=1)
    first, second = here.create(), here.create()
    assert here.ask(first).status_code == 202
    assert here.ask(second).status_code == 413
    assert (here.status(second), here.call("GET", f"/v2/images/{second}/tasks").json()["tasks"]) == ("queued", [])


def test_an_import_is_refused_when_the_storage_is_exceeded_already(limited: Callable[..., Limited]) -> None:
    here = limited(size_total=1)
    stored, image_id = here.create(), here.create()
    assert here.put(stored, "file", b"x" * MIB).status_code == 204
    here.keystone.project_limits = {"demo": {"image_size_total": 0}}
    answer = here.ask(image_id)
    assert (answer.status_code, here.status(image_id)) == (413, "queued")
    assert "image_size_total would be exceeded: 1.0 MiB are taken by its other images" in message(answer)
    here.keystone.project_limits = {}
    assert here.ask(image_id).status_code == 202


def test_a_copy_is_refused_when_it_does_not_fit(limited: Callable[..., Limited]) -> None:
    here = limited(size_total=1)
    stored = here.create()
    assert here.put(stored, "file", b"x" * MIB).status_code == 204
    admin = {"X-Auth-Token": here.keystone.token("demo", "root", roles=["admin"])}
    asked = {"method": {"name": "copy-image"}, "stores": ["archive"]}
    answer = here.call("POST", f"/v2/images/{stored}/import", json=asked, headers=admin)
    assert (answer.status_code, here.status(stored)) == (413, "active")
    assert "image_size_total would be exceeded: 0 bytes are taken by its other images, and 2.0 MiB" in message(answer)


@pytest.mark.parametrize("path", ["stage", "file", "import", ""])
def test_without_keystone_nothing_is_lost_and_the_request_may_be_repeated(
    path: str, limited: Callable[..., Limited]
) -> None:
    here = limited()
    image_id = here.create()

    def request() -> httpx.Response:
        if path == "import":
            return here.ask(image_id)
        return here.put(image_id, path, b"x") if path else here.call("POST", "/v2/images", json=RAW)

    here.keystone.broken = 503
    answer = request()
    assert answer.status_code == 503
    assert "it cannot be asked for the project's limits" in message(answer)
    assert "try again later" in message(answer)
    assert here.status(image_id) == "queued"
    here.keystone.broken = 0
    assert request().status_code in (201, 202, 204)


def test_one_upload_reads_the_limits_once(limited: Callable[..., Limited]) -> None:
    here = limited(stage_total=100)
    image_id = here.create()
    before = here.keystone.limits_read
    assert here.put(image_id, "stage", streamed(*[b"x" * MIB] * 40)).status_code == 204
    assert here.keystone.limits_read == before + 1


def test_limits_are_cached_for_some_seconds(limited: Callable[..., Limited], monkeypatch: pytest.MonkeyPatch) -> None:
    here = limited()
    monkeypatch.setattr(unified_limits, "KEPT_S", 3600.0)
    here.create()
    here.create()
    assert here.keystone.limits_read == 1
