"""The relation of a process to its run's import, at each point of an import's life."""

from __future__ import annotations

from uuid import uuid4

from tests.fakes.images import NOW, asked, queued_image
from transship.catalog.carriers import Standing, moved_on, standings_of
from transship.catalog.endings import fail_import, resume_or_end
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, begin_import
from transship.catalog.leases import expire_lease, process_name

OURS, OTHERS = process_name("here", 7), process_name("here", 77)


class Import:
    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.run_id = catalog, str(uuid4())
        self.task = asked(catalog, queued_image(catalog))

    def begin(self, process: str) -> Begun:
        return begin_import(self.catalog, self.task.id, self.run_id, f"{process} nonce", ttl_s=3600.0, now=NOW)

    def fail(self, begun: Begun, *, rerunnable: bool) -> None:
        lease = begun.lease
        times = {"now": NOW, "time_to_live_h": 1, "rerun_ttl_s": 60.0}
        fail_import(self.catalog, lease, "busy", {}, rerunnable=rerunnable, **times)  # type: ignore[arg-type]  # numbers

    def resume(self) -> None:
        assert resume_or_end(self.catalog, self.task.image_id, "lost", crash_retries=9, now=NOW, time_to_live_h=1)

    def standing(self, process: str = OURS) -> Standing:
        with self.catalog.read() as connection:
            return standings_of(connection, {self.run_id: process})[self.run_id]


def test_a_run_without_an_import_says_nothing_of_its_process(catalog: Catalog) -> None:
    assert Import(catalog).standing() is Standing.NO_IMPORT
    assert not moved_on(catalog, str(uuid4()), None)


def test_the_holder_of_the_lease_keeps_its_import_until_another_has_it(catalog: Catalog) -> None:
    one = Import(catalog)
    begun = one.begin(OURS)
    assert (one.standing(), one.standing(OTHERS)) == (Standing.HELD, Standing.ELSEWHERE)
    # Process 77 is another one than process 7.
    assert one.standing(process_name("here", 770)) is Standing.ELSEWHERE
    expire_lease(catalog, begun.lease)
    assert one.standing() is Standing.HELD
    assert not moved_on(catalog, one.run_id, begun)
    one.resume()
    assert one.standing() is Standing.ELSEWHERE
    assert moved_on(catalog, one.run_id, begun)
    again = one.begin(OTHERS)
    assert (one.standing(), one.standing(OTHERS)) == (Standing.ELSEWHERE, Standing.HELD)
    assert moved_on(catalog, one.run_id, begun)
    assert not moved_on(catalog, one.run_id, again)
    assert moved_on(catalog, one.run_id, None)


def test_an_import_that_ended_is_the_last_word_until_the_run_is_retried(catalog: Catalog) -> None:
    one = Import(catalog)
    begun = one.begin(OURS)
    one.fail(begun, rerunnable=True)
    assert one.standing() is Standing.ENDED
    assert not moved_on(catalog, one.run_id, begun)
    again = one.begin(OTHERS)
    assert again.task.id != begun.task.id
    assert (one.standing(), one.standing(OTHERS)) == (Standing.ELSEWHERE, Standing.HELD)
    assert moved_on(catalog, one.run_id, begun)
    one.fail(again, rerunnable=False)
    assert moved_on(catalog, one.run_id, begun)
    assert not moved_on(catalog, one.run_id, again)
