"""``PUT …/file`` to a store with slots and a rate: it waits, shows that, and continues, even without Prefect."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from config.settings import ImportSettings, LeaseSettings, PrefectSettings, StagingSettings, store_limit_name
from tests.fakes.images import NOW
from tests.fakes.images_api import ApiMaker, ApiServer, ImagesApi
from tests.fakes.ports import free_port
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.system import until
from transship.catalog.schema import LEASES
from transship.catalog.uploads import end_lost_uploads, waiting_uploads
from transship.domain.clock import utc_now
from transship.placing.rates import MIB, SharedBucket
from transship.stores.file import FileStore

pytestmark = pytest.mark.real

RAW = {"disk_format": "raw", "container_format": "bare"}
DATA = bytes(range(256)) * 4096
LIMIT = f"/v2/concurrency_limits/{store_limit_name('fast')}"
SLOW_MIB_PER_S = 0.001
"""So slow that a second MiB has its turn after a quarter of an hour."""


@pytest.fixture
def give_back(prefect_server: PrefectServer) -> Iterator[Callable[[], object]]:
    """Take the only slot of the store ``fast``; return a function that releases it."""
    ask = prefect_server.ask
    ask("POST", "/v2/concurrency_limits/", {"name": store_limit_name("fast"), "limit": 1})
    slot = {"names": [store_limit_name("fast")], "slots": 1, "mode": "concurrency", "lease_duration": 600}
    lease = ask("POST", "/v2/concurrency_limits/increment-with-lease", slot)["lease_id"]
    yield lambda: ask("POST", "/v2/concurrency_limits/decrement-with-lease", {"lease_id": lease})
    ask("DELETE", LIMIT)


@pytest.fixture
def make(make_api: ApiMaker, prefect_server: PrefectServer) -> Callable[..., ImagesApi]:
    """Make an API whose store ``fast`` has slots."""

    def made(url: str = prefect_server.url, renew_s: float = 0.05, **imports: Any) -> ImagesApi:
        return make_api(
            imports=ImportSettings.model_validate({"store_slots": {"fast": 1}, **imports}),
            prefect=PrefectSettings.model_validate({"api_url": url, "auth_string": prefect_server.auth_string}),
            staging=StagingSettings(free_floor_bytes=0),
            lease=LeaseSettings(ttl_s=3600.0, renew_s=renew_s),
        )

    return made


@pytest.fixture
def few_threads(api_server: ApiServer) -> Iterator[int]:
    """Reduce the API's threads for requests; return their number."""
    before, api_server.threads = api_server.threads, 3
    yield api_server.threads
    api_server.threads = before


class Upload:
    """An upload in a thread of its own."""

    def __init__(self, api: ImagesApi) -> None:
        self.api, self.image_id = api, api.create(**RAW)
        self.answers: list[int] = []
        self._thread = threading.Thread(target=self._put)
        self._thread.start()

    def _put(self) -> None:
        url = f"{self.api.client.base_url}/v2/images/{self.image_id}/file"
        headers = {"Content-Type": "application/octet-stream"}
        with suppress(httpx.HTTPError):
            self.answers.append(httpx.put(url, content=DATA, headers=headers, timeout=300).status_code)

    @property
    def message(self) -> str:
        return str(self.api.image(self.image_id).get("os_glance_import_message") or "")

    def waits(self) -> None:
        until(lambda: self.message, 180, "the upload to wait")

    def ended(self) -> list[int]:
        self._thread.join(180)
        return self.answers


def waiting(api: ImagesApi) -> list[str]:
    with api.catalog.read() as connection:
        return [image_id for image_id, _ in waiting_uploads(connection)]


def test_an_upload_waits_for_a_slot_says_so_and_goes_on(
    make: Callable[..., ImagesApi], give_back: Callable[[], object], prefect_server: PrefectServer
) -> None:
    api = make()
    upload = Upload(api)
    upload.waits()
    assert api.image(upload.image_id)["status"] == "saving"
    assert upload.message.startswith("waits for a slot of its store since ")
    assert store_limit_name("fast") in upload.message
    assert waiting(api) == [upload.image_id]
    give_back()
    assert upload.ended() == [204]
    assert (api.image(upload.image_id)["status"], upload.message, waiting(api)) == ("active", "", [])
    assert prefect_server.ask("GET", LIMIT)["active_slots"] == 0


def test_an_upload_obeys_the_rate_of_its_store(make: Callable[..., ImagesApi], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileStore, "_link", lambda *_: False)  # as on another file system
    monkeypatch.setattr("transship.stores.file.reflink", lambda *_: False)
    api = make(store_slots={}, store_mib_per_s={"fast": SLOW_MIB_PER_S})
    assert Upload(api).ended() == [204]
    bucket = SharedBucket(api.settings.run_dir / "rate-fast", SLOW_MIB_PER_S * MIB)
    assert bucket.book(0) > 100


def test_without_prefect_an_upload_goes_on(make: Callable[..., ImagesApi]) -> None:
    api = make(f"http://127.0.0.1:{free_port()}/api")
    upload = Upload(api)
    assert upload.ended() == [204]
    assert (api.image(upload.image_id)["status"], upload.message) == ("active", "")


def test_without_a_free_slot_in_time_an_upload_goes_on(
    make: Callable[..., ImagesApi], give_back: Callable[[], object]
) -> None:
    api = make(store_slot_timeout_s=0.1)
    assert Upload(api).ended() == [204]


def test_an_image_that_is_deleted_while_its_upload_waits_is_gone(
    make: Callable[..., ImagesApi], give_back: Callable[[], object]
) -> None:
    api = make()
    upload = Upload(api)
    upload.waits()
    assert api.client.delete(f"/v2/images/{upload.image_id}").status_code == 204
    assert upload.ended() == [410]
    assert not (api.stores["fast"] / upload.image_id).exists()


def test_an_upload_that_died_while_it_waited_does_not_say_so_any_more(
    make: Callable[..., ImagesApi], give_back: Callable[[], object]
) -> None:
    api = make(renew_s=1200.0)
    upload = Upload(api)
    upload.waits()
    with api.catalog.write() as connection:
        connection.execute(update(LEASES).values(expires_at=NOW))
    assert end_lost_uploads(api.catalog, utc_now()) == [upload.image_id]
    assert (api.image(upload.image_id)["status"], upload.message) == ("queued", "")
    give_back()
    assert upload.ended() == [409]


def test_other_requests_are_answered_while_uploads_wait(
    make: Callable[..., ImagesApi], give_back: Callable[[], object], few_threads: int
) -> None:
    api = make()
    uploads = [Upload(api) for _ in range(few_threads + 2)]
    until(lambda: len(waiting(api)) == len(uploads), 180, "all uploads to wait")
    assert api.client.get("/v2/images").status_code == 200
    for upload in uploads:
        api.client.delete(f"/v2/images/{upload.image_id}")
    assert [upload.ended() for upload in uploads] == [[410]] * len(uploads)
