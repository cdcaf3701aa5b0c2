"""A process that slept through its lease notices before an irreversible step."""

from __future__ import annotations

import pytest

from tasks.place import place, unplace
from tasks.session import ImportSession
from tests.fakes.running_import import location, staged_file, steal
from transship.domain.errors import CatalogUnavailable, ImportInterrupted, LockLost
from transship.domain.fence import Fence
from transship.domain.staged import StagedFile
from transship.stores.file import FileStore

TTL_S = 60.0


class Lease:
    """A lease and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.renewals = 0
        self.refusal: Exception | None = None
        self.fence = Fence(self._renew, TTL_S, lambda: self.now)

    def _renew(self) -> None:
        self.renewals += 1
        if self.refusal is not None:
            raise self.refusal


def test_within_its_time_nobody_is_asked() -> None:
    lease = Lease()
    lease.fence.renew()
    lease.now = TTL_S - 0.1
    lease.fence.check()
    assert lease.renewals == 1


def test_after_its_time_the_catalogue_is_asked_once() -> None:
    lease = Lease()
    lease.now = TTL_S
    lease.fence.check()
    lease.fence.check()
    assert lease.renewals == 1


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [
        pytest.param(LockLost("image", 3), LockLost, id="somebody else has it"),
        pytest.param(CatalogUnavailable("away"), ImportInterrupted, id="nobody knows"),
    ],
)
def test_after_its_time_nothing_goes_on_unproven(refusal: Exception, raised: type[Exception]) -> None:
    lease = Lease()
    lease.refusal = refusal
    lease.now = TTL_S
    with pytest.raises(raised):
        lease.fence.check()


def sleep_through_the_lease(session: ImportSession) -> None:
    session.fence._until = 0.0


def test_a_stale_worker_that_wakes_after_the_take_over_publishes_nothing(session: ImportSession) -> None:
    staged = staged_file(session, b"stale")
    store = FileStore("local", session.settings.all_stores["local"].dir, 0o640)
    steal(session.catalog, session.lease)
    sleep_through_the_lease(session)
    path = session.staging.sealed(staged.name)
    with pytest.raises(LockLost):
        store.put(
            session.lease.image_id, StagedFile(path, staged.size, session.lease.epoch), lambda _: None, session.stop
        )
    assert list(store.contents()) == []


def test_a_stale_worker_that_wakes_in_its_undo_removes_nothing(session: ImportSession) -> None:
    """Its row says deleting; the place has been another worker's since."""
    place.fn("local", staged_file(session, b"data"))
    sleep_through_the_lease(session)
    renewed = session.fence._renew

    def taken_over_first() -> None:
        steal(session.catalog, session.lease)
        renewed()

    session.fence._renew = taken_over_first
    with pytest.raises(LockLost):
        unplace(session, "local")
    found = location(session.catalog, session.lease.image_id)
    assert found is not None
    assert (session.settings.all_stores["local"].dir / session.lease.image_id).read_bytes() == b"data"
