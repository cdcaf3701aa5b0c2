"""Copies that the stores make themselves, so that nobody reads or stages the data, and what happens if they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import cast

import pytest

from config.settings import Settings
from tests.contract.cases.s3 import opened, settings_in
from tests.fakes.flaky_store import FlakyStore
from tests.fakes.s3_server import S3Server
from tests.fakes.yard import BODY, Yard
from transship.catalog.engine import Catalog
from transship.domain.errors import StoreMisconfigured
from transship.domain.task import TaskStatus

pytestmark = pytest.mark.real


class Buckets:
    """The stores ``s2`` (preferred for reads) and ``s3`` of a yard are buckets of one service.

    Attributes:
        of: bucket by store.
    """

    def __init__(self, yard: Yard, server: S3Server, stack: ExitStack) -> None:
        self.server = server
        self.of = {store: server.new_bucket() for store in ("s2", "s3")}
        for store, bucket in self.of.items():
            yard.stores[store] = cast(FlakyStore, stack.enter_context(opened(settings_in(server.endpoint, bucket))))

    def object(self, store: str, image_id: str) -> bytes | None:
        found = self.server.buckets[self.of[store]].get(image_id)
        return None if found is None else found[0]

    def rot(self, store: str, image_id: str) -> None:
        objects = self.server.buckets[self.of[store]]
        objects[image_id] = bytes(len(BODY)), objects[image_id][1]

    def history(self) -> tuple[int, int]:
        """Return how many parts the service copied and how many it was sent since the last call."""
        asked, self.server.history = self.server.history, []
        return asked.count("UploadPartCopy"), asked.count("UploadPart")


@pytest.fixture
def buckets(yard: Yard) -> Iterator[Buckets]:
    with S3Server() as server, ExitStack() as stack:
        yield Buckets(yard, server, stack)


def test_a_bucket_copies_from_another_one_of_its_service(yard: Yard, buckets: Buckets) -> None:
    image_id, _ = yard.brought("s1", "s2")
    before = yard.shown(image_id)
    buckets.history()
    yard.copied(image_id, "s3")
    assert yard.task(image_id).status is TaskStatus.SUCCESS
    assert yard.lists(image_id) == ("active", "s2,s3,s1", "", "")
    assert buckets.object("s3", image_id) == BODY
    assert buckets.history() == (1, 0)
    assert {name: yard.shown(image_id)[name] for name in ("checksum", "os_hash_value", "size")} == {
        name: before[name] for name in ("checksum", "os_hash_value", "size")
    }


def test_a_store_elsewhere_makes_all_of_them_get_the_data_from_here(yard: Yard, buckets: Buckets) -> None:
    image_id, _ = yard.brought("s2")
    buckets.history()
    yard.copied(image_id, "s1", "s3")
    assert yard.lists(image_id) == ("active", "s2,s3,s1", "", "")
    assert buckets.object("s3", image_id) == BODY
    assert buckets.history() == (0, 1)


def test_data_that_changed_in_a_bucket_are_copied_from_another_store(yard: Yard, buckets: Buckets) -> None:
    image_id, _ = yard.brought("s1", "s2")
    buckets.rot("s2", image_id)
    buckets.history()
    yard.copied(image_id, "s3")
    assert yard.lists(image_id) == ("active", "s2,s3,s1", "", "")
    assert buckets.object("s3", image_id) == BODY
    copied, _ = buckets.history()
    assert copied == 1


def test_data_that_changed_in_the_only_bucket_are_not_copied(yard: Yard, buckets: Buckets) -> None:
    image_id, _ = yard.brought("s2")
    buckets.rot("s2", image_id)
    yard.copied(image_id, "s3", strict=False)
    assert yard.lists(image_id)[:2] == ("active", "s2")
    assert "are not the image's" in yard.task(image_id).message
    assert (buckets.object("s3", image_id), yard.staged) == (None, set())
    assert buckets.server.uploads[buckets.of["s3"]] == {}


def test_a_bucket_whose_store_is_not_configured_any_more_is_not_copied(
    yard: Yard, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id, _ = yard.brought("s1", "s2")
    buckets.history()

    def using(store: str, settings: Settings, catalog: Catalog) -> AbstractContextManager[FlakyStore]:
        if store == "s2":
            raise StoreMisconfigured("s2", "there is no such store in the settings")
        return nullcontext(yard.stores[store])

    for module in ("tasks.place", "tasks.fetch"):
        monkeypatch.setattr(f"{module}.using_store", using)
    yard.copied(image_id, "s3")
    assert buckets.object("s3", image_id) == BODY
    assert buckets.history() == (0, 1)
