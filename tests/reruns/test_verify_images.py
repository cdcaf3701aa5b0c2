"""The flow that reads all copies of images again: what it finds, shows and repairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

from flows.verify_images import verify_images
from tests.fakes.yard import BODY, Yard
from transship.catalog.verifications import damaged_copies
from transship.commands.doctor import Level, check_catalog
from transship.domain.errors import StoreUnavailable

pytestmark = pytest.mark.real

ROTTEN = bytes([BODY[0] ^ 1]) + BODY[1:]


def verified(**parameters: Any) -> State[Any]:
    state: State[Any] = verify_images(return_state=True, **parameters)
    return state


def reads(yard: Yard) -> dict[str, int]:
    """Return how often each store was read."""
    return {name: store.calls.count("read") for name, store in yard.stores.items() if "read" in store.calls}


def damage(yard: Yard) -> dict[tuple[str, str], str]:
    with yard.site.catalog.read() as connection:
        return {(copy.image_id, copy.store): copy.damage for copy in damaged_copies(connection)}


def test_good_copies_are_read_once_and_nothing_changes(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2")
    other, _ = yard.brought("s3")
    before = [yard.shown(image_id), yard.shown(other)]
    yard.forget_writes()
    state = verified()
    assert state.is_completed()
    assert state.message == "3 copies verified (3.0 MiB)"
    assert reads(yard) == {"s1": 1, "s2": 1, "s3": 1}
    assert [yard.shown(image_id), yard.shown(other)] == before


def test_a_damaged_copy_is_reported_on_the_run_and_on_the_image(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2")
    yard.stores["s2"].objects[image_id] = ROTTEN
    state = verified()
    assert state.is_failed()
    assert state.message == "2 copies verified (2.0 MiB); 1 damaged"
    image = yard.shown(image_id)
    assert image["os_glance_damaged_stores"] == "s2"
    # s2 has the higher weight, but is read only if no other copy can be.
    assert image["stores"] == "s1,s2"
    assert yard.call("GET", f"/v2/images/{image_id}/file").content == BODY
    ((copy, text),) = damage(yard).items()
    assert copy == (image_id, "s2")
    assert text.startswith("its sha512 is ")
    (finding,) = (each for each in check_catalog(yard.settings) if each.subject == "damaged copy")
    assert finding.level is Level.FAIL
    assert finding.text.startswith(f"image {image_id} in store s2: its sha512 is ")
    # Nothing is repaired without permission.
    assert yard.stores["s2"].objects[image_id] == ROTTEN


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "the store does not hold it"), (BODY[:-1], f"it has {len(BODY) - 1} bytes, the image {len(BODY)}")],
    ids=["gone", "short"],
)
def test_what_is_wrong_is_told(yard: Yard, content: bytes | None, text: str) -> None:
    image_id, _ = yard.brought("s1")
    yard.stores["s1"].objects.clear()
    if content is not None:
        yard.stores["s1"].objects[image_id] = content
    assert verified().is_failed()
    assert damage(yard) == {(image_id, "s1"): text}


def test_a_damaged_copy_is_copied_again_from_a_good_one(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2", "s3")
    yard.stores["s2"].objects[image_id] = ROTTEN
    yard.stores["s1"].objects[image_id] = ROTTEN
    first = verified(repair=True)
    # One import at a time: the second copy is repaired by the next run.
    assert first.message == "3 copies verified (3.0 MiB); 1 damaged; 1 damaged, and copied again"
    assert first.is_failed()
    # Which one comes first depends on which was written first.
    assert yard.lists(image_id)[:3] in (("active", "s3,s2", "s1"), ("active", "s3,s1", "s2"))
    yard.carry(image_id)
    second = verified(repair=True)
    assert second.message == "3 copies verified (3.0 MiB); 1 damaged, and copied again"
    assert second.is_completed()
    yard.carry(image_id)
    assert yard.lists(image_id) == ("active", "s2,s3,s1", "", "")
    assert [store.objects[image_id] == BODY for store in yard.stores.values()] == [True] * 3
    assert damage(yard) == {}
    assert "os_glance_damaged_stores" not in yard.shown(image_id)


def test_the_only_good_copy_is_never_given_up(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2")
    for name in ("s1", "s2"):
        yard.stores[name].objects[image_id] = ROTTEN
    state = verified(repair=True)
    assert state.message == "2 copies verified (2.0 MiB); 2 damaged"
    assert yard.holders(image_id) == ["s1", "s2"]
    assert yard.task(image_id).method == "web-download"


def test_a_copy_that_goes_while_it_is_read_is_no_good_copy(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id, _ = yard.brought("s1", "s2")
    yard.stores["s2"].objects[image_id] = ROTTEN
    good = yard.stores["s1"]
    whole = good.read

    def read(url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        pieces = list(whole(url, offset, length))
        assert yard.call("DELETE", f"/v2/stores/s1/{image_id}").status_code == 204
        return iter(pieces)

    monkeypatch.setattr(good, "read", read)
    state = verified(stores=["s2"], repair=True)
    assert state.message == "1 copy verified (1.0 MiB); 1 damaged"
    assert yard.stores["s2"].objects[image_id] == ROTTEN


def test_a_copy_of_an_image_that_is_being_imported_is_left_alone(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2")
    yard.stores["s2"].objects[image_id] = ROTTEN
    assert yard.ask(image_id, "copy-image", stores=["s3"]).status_code == 202
    state = verified(repair=True)
    assert state.message == "2 copies verified (2.0 MiB); 1 damaged"
    assert yard.stores["s2"].objects[image_id] == ROTTEN


def test_a_store_that_cannot_be_read_does_not_hold_up_others(yard: Yard) -> None:
    yard.brought("s1", "s2")
    yard.stores["s1"].break_down(StoreUnavailable("s1", "no answer"), on="read")
    state = verified()
    assert state.is_failed()
    assert state.message is not None
    assert state.message.startswith("1 copy verified (1.0 MiB); not all of store s1 was read: store s1 is unavailable")
    assert damage(yard) == {}
    yard.stores["s1"].repair()
    # A damage that was healed elsewhere, e.g. by a restored disk, is forgotten at the next look.
    assert verified(stores=["s1"]).is_completed()


def test_a_retried_run_goes_on_where_it_stopped(yard: Yard) -> None:
    yard.brought("s1", "s2")
    with get_client(sync_client=True) as client:
        run_id = client.create_flow_run(verify_images).id
    yard.stores["s2"].break_down(StoreUnavailable("s2", "no answer"), on="read")
    assert yard.go_on(run_id).is_failed()
    yard.stores["s2"].repair()
    yard.forget_writes()
    assert yard.retry(run_id).message == "1 copy verified (1.0 MiB)"
    assert reads(yard) == {"s2": 1}


def test_a_run_without_time_reads_nothing_and_says_so(yard: Yard) -> None:
    yard.brought("s1")
    state = verified(hours=1e-12)
    assert state.is_completed()
    assert state.message == "0 copies verified (0 bytes); out of time; the next run continues"


def test_a_store_that_does_not_exist_is_named(yard: Yard) -> None:
    state = verified(stores=["s1", "nowhere"])
    assert state.is_failed()
    assert "Unknown store 'nowhere'" in (state.message or "")
