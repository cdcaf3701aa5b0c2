"""Removing a store's copy while imports want to write to the same place."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from tests.fakes.images_api import ImagesApi
from transship.api.site import StoreRegistry
from transship.catalog.imports import Begun, Caller, Order, ask_import, begin_import
from transship.catalog.journal import find_location, mark_deleting
from transship.domain.errors import CopyBeingRemoved, StoreFull
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.stores.file import FileStore


class SlowStore(FileStore):
    """A store that hangs when removing an object."""

    reached = threading.Event()
    go_on = threading.Event()

    def delete(self, url: str) -> None:
        self.reached.set()
        assert self.go_on.wait(120)
        super().delete(url)


def begin_copy(api: ImagesApi, image_id: str) -> Begun:
    """Ask for a copy as the API does, and begin it as a worker does."""
    now = datetime.now(UTC)
    request = ImportRequest(ImportMethod.COPY_IMAGE, stores=("archive",))
    task = ask_import(api.catalog, image_id, Order(request, ("archive",)), Caller(), now)
    return begin_import(api.catalog, task.id, f"run-of-{task.id[:8]}", "test", ttl_s=3600.0, now=now)


def row_state(api: ImagesApi, image_id: str) -> str | None:
    with api.catalog.read() as connection:
        row = find_location(connection, image_id, "archive")
    return None if row is None else row.state


def test_no_import_takes_the_place_of_a_copy_while_a_client_removes_it(
    api: ImagesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a hanging removal would remove what the import has written there meanwhile."""
    image_id = api.active(b"data", ("fast", "archive"))
    store = SlowStore("archive", api.stores["archive"], 0o640)
    monkeypatch.setattr(StoreRegistry, "using", lambda _shelf, _store: nullcontext(store))
    with ThreadPoolExecutor(1) as threads:
        removal = threads.submit(api.client.delete, f"/v2/stores/archive/{image_id}")
        try:
            assert store.reached.wait(120)
            begun = begin_copy(api, image_id)
            with pytest.raises(CopyBeingRemoved):
                mark_deleting(api.catalog, begun.lease, "archive", datetime.now(UTC))
        finally:
            store.go_on.set()
        assert removal.result().status_code == 204
    assert row_state(api, image_id) is None
    assert not (api.stores["archive"] / image_id).exists()
    mark_deleting(api.catalog, begun.lease, "archive", datetime.now(UTC))


@pytest.mark.parametrize("path", ["/v2/stores/archive/{}", "/v2/images/{}"], ids=["the copy", "the image"])
def test_what_a_killed_writer_left_goes_with_the_copy_that_it_was_to_be(api: ImagesApi, path: str) -> None:
    """Without its row nothing would name it."""
    image_id = api.active(b"data", ("fast", "archive"))
    left = api.stores["archive"] / f"{image_id}.1.part"
    left.write_bytes(b"da")
    assert api.client.delete(path.format(image_id)).status_code == 204
    assert row_state(api, image_id) is None
    assert [each.name for each in api.stores["archive"].iterdir() if image_id in each.name] == []


def test_the_place_of_a_copy_that_its_store_keeps_for_now_may_be_taken_at_once(api: ImagesApi) -> None:
    image_id = api.active(b"data", ("fast", "archive"))
    stored = api.stores["archive"] / image_id
    stored.unlink()
    stored.mkdir()
    assert api.client.delete(f"/v2/stores/archive/{image_id}").status_code == 204
    assert row_state(api, image_id) == "deleting"
    mark_deleting(api.catalog, begin_copy(api, image_id).lease, "archive", datetime.now(UTC))


@pytest.mark.parametrize("path", ["/v2/stores/archive/{}", "/v2/images/{}"])
def test_a_store_that_is_too_full_to_remove_a_copy_keeps_it_for_housekeeping(
    api: ImagesApi, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def full(_store: FileStore, _url: str) -> None:
        raise StoreFull("archive", 1)

    image_id = api.active(b"data", ("fast", "archive"))
    monkeypatch.setattr(FileStore, "delete", full)
    assert api.client.delete(path.format(image_id)).status_code == 204
    assert row_state(api, image_id) == "deleting"


def test_the_last_copy_stays_whichever_store_is_named(api: ImagesApi) -> None:
    image_id = api.active(b"data", ("fast", "archive"))
    answers = [api.client.delete(f"/v2/stores/{store}/{image_id}").status_code for store in ("fast", "fast", "archive")]
    assert answers == [204, 403, 403]


def test_a_body_that_means_nothing_is_refused(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    answers = [
        api.client.request(method, f"/v2/images/{image_id}{path}", json={"more": 1}).status_code
        for method, path in (("POST", "/actions/deactivate"), ("PUT", "/tags/a"), ("DELETE", ""))
    ]
    assert (answers, api.image(image_id)["status"], api.image(image_id)["tags"]) == ([400] * 3, "active", [])
