"""What wakes the keeper: commits that concern it, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.databases import DATABASES, POSTGRESQL
from tests.fakes.images import NOW, asked, begun, queued_image, settings_in
from tests.fakes.notifications import notification_drivers
from transship.catalog.bell import Ring, ring_keeper
from transship.catalog.copies import DataFacts
from transship.catalog.endings import fail_import, finish_import
from transship.catalog.engine import Catalog
from transship.catalog.imports import begin_import
from transship.catalog.leases import expire_lease
from transship.host.doorbell import DOORBELL_SOCKET, ring
from transship.keeper.waking import Wakeups

__all__ = ["notification_drivers"]


@pytest.fixture
def wakeups(catalog: Catalog, tmp_path: Path) -> Iterator[Wakeups]:
    listening = Wakeups(settings_in(tmp_path), catalog)
    # On PostgreSQL it listens from the first wait on.
    listening.wait(0)
    yield listening
    listening.close()


def test_a_request_and_a_lease_that_is_given_up_are_work(catalog: Catalog, wakeups: Wakeups) -> None:
    image = queued_image(catalog)
    assert wakeups.wait(60.0) == {Ring.NEWS}
    asked(catalog, image)
    assert wakeups.wait(60.0) == {Ring.WORK, Ring.NEWS}
    other = queued_image(catalog)
    lease = begun(catalog, other).lease
    wakeups.wait(60.0)
    wakeups.wait(0.5)
    expire_lease(catalog, lease)
    assert wakeups.wait(60.0) == {Ring.WORK}
    assert wakeups.wait(0) == frozenset()


def test_imports_that_begin_and_end_make_room_for_others_though_nobody_wants_notifications(
    catalog: Catalog, tmp_path: Path, wakeups: Wakeups
) -> None:
    with closing(Catalog.open(settings_in(tmp_path))) as silent:
        image = queued_image(silent)
        assert wakeups.wait(0.5) == frozenset()
        task = asked(silent, image)
        assert wakeups.wait(60.0) == {Ring.WORK}
        lease = begin_import(silent, task.id, "a run", "me", ttl_s=60.0, now=NOW).lease
        assert wakeups.wait(60.0) == {Ring.NEWS}
        facts = DataFacts(3, 3, None, "sha512", "0" * 128, "raw", "bare")
        finish_import(silent, lease, facts, {}, message="", now=NOW, time_to_live_h=1)
        assert wakeups.wait(60.0) == {Ring.NEWS}
        failing = begun(silent, queued_image(silent)).lease
        wakeups.wait(60.0)
        wakeups.wait(0.5)
        fail_import(silent, failing, "busy", {}, rerunnable=False, now=NOW, time_to_live_h=1, rerun_ttl_s=60.0)
        assert wakeups.wait(60.0) == {Ring.NEWS}


def test_rings_that_had_no_room_in_the_doorbell_are_not_missed(
    tmp_path: Path, catalog: Catalog, wakeups: Wakeups
) -> None:
    if DATABASES.kind == POSTGRESQL:
        pytest.skip("PostgreSQL keeps all notifications")
    bell = settings_in(tmp_path).run_dir / DOORBELL_SOCKET
    assert all(ring(bell, b"n") for _ in range(2000))
    asked(catalog, queued_image(catalog))
    assert Ring.WORK in wakeups.wait(60.0)


def test_what_is_taken_back_wakes_nobody(catalog: Catalog, wakeups: Wakeups) -> None:
    def ring_and_fail() -> None:
        with catalog.write() as connection:
            ring_keeper(connection, Ring.WORK)
            raise LookupError

    with pytest.raises(LookupError):
        ring_and_fail()
    with catalog.write():
        pass
    assert wakeups.wait(0.5) == frozenset()
