"""How an import ends after any failure: the image's state, and what is left in staging and stores."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, TerminationSignal
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_engine import SyncTaskRunEngine

from config.settings import Settings
from flows.carrying import carry
from tasks.digest import digest
from tasks.place import place, unplace
from tasks.session import ImportSession, current
from tasks.staged_files import new_name, open_file
from tests.fakes.images import NOW, asked, queued_image, read_image
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.running_import import location, staged_file, staging_names, steal
from tests.flows.conftest import Site
from transship.catalog.endings import end_unheld, fail_import, resume_or_end
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, begin_import
from transship.catalog.journal import staged_of_image
from transship.catalog.leases import expire_lease, lease_of
from transship.catalog.tasks import get_task, read_secrets
from transship.domain.errors import (
    CatalogUnavailable,
    ImportInterrupted,
    LockLost,
    SourceBusy,
    StoreFull,
    StoreUnknown,
    Superseded,
    TransshipError,
)
from transship.domain.image import Image, ImageStatus
from transship.domain.task import ImportTask, TaskStatus
from transship.host.directories import MARK

DATA = os.urandom(10_000)


class Carried:
    """A requested import, to be run with steps chosen by the test."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.image_id = queued_image(site.catalog).id
        self.task_id = asked(site.catalog, read_image(site.catalog, self.image_id)).id
        self.run_id = str(uuid4())

    def begin(self, settings: Settings, catalog: Catalog) -> Begun:
        return begin_import(catalog, self.task_id, self.run_id, "test", ttl_s=3600.0, now=NOW)

    def by(self, steps: Callable[[ImportSession, ExitStack], str]) -> State[Any]:
        return carry(self.run_id, self.begin, lambda _begun, undo: steps(current(), undo))

    def ends_with(self, error: BaseException) -> State[Any]:
        """Stage and place, then end with an error."""

        def steps(session: ImportSession, undo: ExitStack) -> str:
            half_done(session, undo)
            raise error

        return self.by(steps)

    @property
    def image(self) -> Image:
        return read_image(self.site.catalog, self.image_id)

    @property
    def task(self) -> ImportTask:
        with self.site.catalog.read() as connection:
            return get_task(connection, self.task_id)

    @property
    def lease(self) -> str:
        with self.site.catalog.read() as connection:
            found = lease_of(connection, self.image_id)
        return "expired" if found.expired else found.state

    @property
    def left(self) -> tuple[int, int]:
        """How many files lie in staging and in the store."""
        return len(staging_names(self.site.settings)), len(self.site.stored())

    def assert_free(self, reason: str) -> None:
        """The image can be imported again at once, and says why."""
        assert (self.image.status, self.image.import_message) == (ImageStatus.QUEUED, reason)
        assert (self.task.status, self.task.message) == (TaskStatus.FAILURE, reason)
        assert self.lease == "free"
        asked(self.site.catalog, self.image)


def half_done(session: ImportSession, undo: ExitStack) -> None:
    staged = staged_file(session, DATA)
    undo.callback(unplace, session, "local")
    place.fn("local", staged)


@pytest.fixture
def carried(site: Site) -> Carried:
    return Carried(site)


# --- the ends ----------------------------------------------------------------------------------


def test_steps_that_go_through_end_the_run_well(carried: Carried) -> None:
    state = carried.by(lambda _session, _undo: "imported to local")
    assert (state.type, state.name, state.message) == ("COMPLETED", "Imported", "imported to local")


def test_a_failure_frees_the_image_with_the_reason_and_leaves_nothing(carried: Carried) -> None:
    failure = StoreFull("local", 5)
    state = carried.ends_with(failure)
    assert (state.type, state.message) == ("FAILED", str(failure))
    assert carried.left == (0, 0)
    assert location(carried.site.catalog, carried.image_id) is None
    carried.assert_free(str(failure))


def test_a_failure_that_may_pass_keeps_source_and_uri_for_a_rerun(carried: Carried) -> None:
    failure = SourceBusy("http://source.example", 503, None)
    carried.ends_with(failure)
    assert carried.left == (1, 0)
    with carried.site.catalog.read() as connection:
        assert read_secrets(connection, carried.site.catalog, carried.task_id)["uri"]
        [row] = staged_of_image(connection, carried.image_id, "here")
    assert (row.role, row.state) == ("source", "sealed")
    carried.assert_free(str(failure))


def test_a_failure_for_good_forgets_the_uri(carried: Carried) -> None:
    carried.ends_with(StoreFull("local", 5))
    with carried.site.catalog.read() as connection:
        assert "uri" not in read_secrets(connection, carried.site.catalog, carried.task_id)


def test_a_defect_frees_the_image_and_tells_no_secret(carried: Carried) -> None:
    state = carried.ends_with(RuntimeError("https://user:secret@source.example"))
    assert state.type == "FAILED"
    reason = "internal error (RuntimeError); the operator finds the trace in the log of the flow run"
    assert carried.left == (0, 0)
    carried.assert_free(reason)


def test_undo_goes_from_the_newest_to_the_oldest_whatever_fails(carried: Carried) -> None:
    undone: list[str] = []

    def steps(session: ImportSession, undo: ExitStack) -> str:
        def fail(name: str) -> None:
            undone.append(name)
            raise StoreFull(name, 1)

        undo.callback(undone.append, "first")
        undo.callback(fail, "second")
        undo.callback(undone.append, "third")
        half_done(session, undo)
        undo.callback(undone.append, "last")
        raise StoreFull("local", 5)

    carried.by(steps)
    assert undone == ["last", "third", "second", "first"]
    assert carried.left == (0, 0)
    carried.assert_free(str(StoreFull("local", 5)))


def test_a_worker_that_lost_the_lease_touches_nothing(carried: Carried) -> None:
    undone: list[str] = []

    def steps(session: ImportSession, undo: ExitStack) -> str:
        half_done(session, undo)
        undo.callback(undone.append, "anything")
        steal(carried.site.catalog, session.lease)
        raise LockLost(session.lease.image_id, session.lease.epoch)

    with pytest.raises(Abort):
        carried.by(steps)
    assert carried.left == (1, 1)
    assert (carried.image.status, carried.task.status) == (ImageStatus.IMPORTING, TaskStatus.PROCESSING)
    assert (carried.lease, undone) == ("held", [])


def test_a_lease_that_is_lost_while_undoing_ends_the_undoing(carried: Carried) -> None:
    def steps(session: ImportSession, undo: ExitStack) -> str:
        half_done(session, undo)
        steal(carried.site.catalog, session.lease)
        raise StoreFull("local", 5)

    with pytest.raises(Abort):
        carried.by(steps)
    assert carried.left == (1, 1)
    assert carried.task.status is TaskStatus.PROCESSING


NOBODY = "http://127.0.0.1:1/api"
"""Where nobody listens: Prefect cannot say whether the run was cancelled."""

ENDING: Any = {"now": NOW, "time_to_live_h": 1, "rerun_ttl_s": 0.0}

TOO_LATE: Mapping[str, BaseException | None] = {
    "done": None,
    "lease lost": LockLost("image", 1),
    "failed": StoreFull("local", 5),
    "interrupted": ImportInterrupted("the catalogue could not be reached"),
    "told to end": TerminationSignal(signal.SIGTERM),
    "our own fault": RuntimeError("a defect"),
}


@pytest.mark.parametrize("late", TOO_LATE.values(), ids=TOO_LATE)
@pytest.mark.parametrize("taken", ["waits", "carried", "ended"])
def test_an_attempt_that_wakes_up_after_the_next_one_began_reports_no_state(
    carried: Carried, taken: str, late: BaseException | None
) -> None:
    def steps(session: ImportSession, undo: ExitStack) -> str:
        expire_lease(carried.site.catalog, session.lease)
        assert resume_or_end(carried.site.catalog, session.lease.image_id, "lost", crash_retries=9, **ENDING)
        if taken != "waits":
            next_one = carried.begin(carried.site.settings, carried.site.catalog)
            if taken == "ended":
                fail_import(carried.site.catalog, next_one.lease, "refused", {}, rerunnable=False, **ENDING)
        if late is not None:
            raise late
        return "imported to local"

    with temporary_settings({PREFECT_API_URL: NOBODY}), pytest.raises(Abort):
        carried.by(steps)
    status = {"waits": TaskStatus.PENDING, "carried": TaskStatus.PROCESSING, "ended": TaskStatus.FAILURE}[taken]
    assert carried.task.status is status


def test_a_signal_stays_the_cause_of_the_end_of_an_attempt_that_has_nothing_to_report(carried: Carried) -> None:
    def steps(session: ImportSession, undo: ExitStack) -> str:
        steal(carried.site.catalog, session.lease)
        raise TerminationSignal(signal.SIGTERM)

    with temporary_settings({PREFECT_API_URL: NOBODY}), pytest.raises(Abort) as aborted:
        carried.by(steps)
    assert isinstance(aborted.value.__cause__, TerminationSignal)


def test_an_attempt_that_finds_its_run_carried_by_another_process_reports_no_state(carried: Carried) -> None:
    begun = carried.begin(carried.site.settings, carried.site.catalog)
    with pytest.raises(Abort):
        carried.by(lambda _session, _undo: pytest.fail("a step ran"))
    assert (carried.task, carried.lease) == (begun.task, "held")


def test_an_attempt_whose_import_was_ended_by_the_keeper_says_that_nothing_more_was_done(carried: Carried) -> None:
    def steps(session: ImportSession, undo: ExitStack) -> str:
        expire_lease(carried.site.catalog, session.lease)
        assert end_unheld(carried.site.catalog, carried.task_id, "cancelled", **ENDING)
        raise LockLost(session.lease.image_id, session.lease.epoch)

    state = carried.by(steps)
    assert (state.type, state.name) == ("COMPLETED", "Superseded")


@pytest.mark.parametrize(
    "why", [ImportInterrupted("the catalogue is away"), CatalogUnavailable("the server is being stopped")], ids=repr
)
def test_an_import_that_lost_its_catalogue_is_left_for_the_keeper_to_resume(carried: Carried, why: Exception) -> None:
    state = carried.ends_with(why)
    assert (state.type, state.message) == ("CRASHED", f"The import resumes automatically: {why}")
    assert carried.lease == "expired"
    assert carried.left == (1, 1)
    assert carried.task.status is TaskStatus.PROCESSING


def test_a_signal_gives_the_lease_up_so_that_the_import_is_resumed(carried: Carried) -> None:
    with temporary_settings({PREFECT_API_URL: NOBODY}), pytest.raises(KeyboardInterrupt):
        carried.ends_with(KeyboardInterrupt())
    assert carried.lease == "expired"
    assert carried.left == (1, 1)
    assert (carried.image.status, carried.task.status) == (ImageStatus.IMPORTING, TaskStatus.PROCESSING)


def terminated() -> str:
    raise TerminationSignal(signal.SIGTERM)


def test_a_signal_that_prefects_engine_turns_into_an_error_is_one_all_the_same(carried: Carried) -> None:
    def steps(_session: ImportSession, _undo: ExitStack) -> str:
        try:
            return terminated()
        except TerminationSignal as told:
            # As it does before it has made a task run; it raises an error of its own then.
            SyncTaskRunEngine(task=digest).handle_crash(told)
        return "not reached"

    with temporary_settings({PREFECT_API_URL: NOBODY}), pytest.raises(TerminationSignal):
        carried.by(steps)
    assert (carried.lease, carried.task.status) == ("expired", TaskStatus.PROCESSING)


@pytest.mark.real
@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("CANCELLING", "cancelled in Prefect"),
        ("CANCELLED", "cancelled in Prefect"),
        ("PAUSED", "paused or suspended in Prefect"),
        ("RUNNING", ""),
    ],
)
def test_a_signal_ends_the_import_if_somebody_ended_the_run_and_tells_how(
    carried: Carried, prefect_server: PrefectServer, state: str, why: str
) -> None:
    flow = prefect_server.ask("POST", "/flows/", {"name": "web-download"})
    run = prefect_server.ask("POST", "/flow_runs/", {"flow_id": flow["id"], "state": {"type": "RUNNING"}})
    entered = {"state": {"type": state, "name": state.capitalize()}, "force": True}
    prefect_server.ask("POST", f"/flow_runs/{run['id']}/set_state", entered)
    carried.run_id = run["id"]
    with prefect_server.as_client(), pytest.raises(KeyboardInterrupt):
        carried.ends_with(KeyboardInterrupt())
    if not why:
        assert (carried.lease, carried.task.status) == ("expired", TaskStatus.PROCESSING)
        return
    assert carried.left == (1, 0)
    carried.assert_free(f"the import was cancelled: {why}")


# --- before the first step ---------------------------------------------------------------------


@pytest.mark.parametrize("option", ["lease.ttl_s", "database.url"])
def test_a_configuration_that_cannot_be_used_leaves_the_import_to_wait(carried: Carried, option: str) -> None:
    carried.site.set(**{option.replace(".", "__"): "nonsense"})
    state = carried.by(lambda _session, _undo: pytest.fail("a step ran"))
    assert (state.type, option in str(state.message)) == ("CRASHED", True)


@pytest.mark.parametrize(
    ("refusal", "state_type", "message"),
    [
        (Superseded("it is over"), "COMPLETED", "Nothing done: it is over"),
        (StoreUnknown("gone", ["local"]), "FAILED", str(StoreUnknown("gone", ["local"]))),
    ],
    ids=["superseded", "refused"],
)
def test_a_run_that_gets_no_lease_does_nothing(
    site: Site, refusal: TransshipError, state_type: str, message: str
) -> None:
    def begin(settings: Settings, catalog: Catalog) -> Begun:
        raise refusal

    state = carry(str(uuid4()), begin, lambda _session, _undo: pytest.fail("a step ran"))
    assert (state.type, state.message) == (state_type, message)


def test_a_defect_before_the_lease_is_told_without_what_it_says(site: Site) -> None:
    def begin(settings: Settings, catalog: Catalog) -> Begun:
        raise RuntimeError("https://user:secret@source.example")

    state = carry(str(uuid4()), begin, lambda _session, _undo: pytest.fail("a step ran"))
    reason = "internal error (RuntimeError); the operator finds the trace in the log of the flow run"
    assert (state.type, state.message) == ("FAILED", reason)


def test_a_run_that_was_begun_twice_does_it_once(carried: Carried) -> None:
    carried.ends_with(StoreFull("local", 5))
    state = carried.by(lambda _session, _undo: pytest.fail("a step ran"))
    assert (state.type, state.name) == ("COMPLETED", "Superseded")
    assert "start a new import" in str(state.message)


def test_the_staging_of_another_catalogue_fails_the_import_with_the_reason(carried: Carried) -> None:
    staging = carried.site.settings.staging_dir
    staging.mkdir()
    (staging / MARK).write_text("another")
    state = carried.by(lambda _session, _undo: pytest.fail("a step ran"))
    assert state.type == "FAILED"
    assert "serves another catalogue (another)" in str(state.message)
    carried.assert_free(str(state.message))


def test_a_staged_file_that_cannot_be_removed_does_not_hold_the_image(carried: Carried) -> None:
    def steps(session: ImportSession, undo: ExitStack) -> str:
        name = new_name(session, "convert")
        open_file(session, name, "convert")
        session.staging.part(name).mkdir()
        raise StoreFull("local", 5)

    carried.by(steps)
    with carried.site.catalog.read() as connection:
        assert [row.state for row in staged_of_image(connection, carried.image_id, "here")] == ["scrap"]
    carried.assert_free(str(StoreFull("local", 5)))
