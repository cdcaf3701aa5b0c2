"""The session of a running import, its lease and its progress; without Prefect, none of it starts one."""

from __future__ import annotations

import threading
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import create_engine

from config.settings import Settings
from tasks.progress import ProgressBoard
from tasks.session import ImportSession, _keep_lease, current, process_owner
from tests.fakes.running_import import Ticks, begin, begin_again, easy_settings, session_of, steal
from transship.catalog.engine import Catalog
from transship.catalog.leases import expire_lease, lease_of, renew_lease
from transship.catalog.tasks import get_task
from transship.domain.errors import ImportInterrupted, ImportTooLong, LockLost
from transship.domain.fence import Fence
from transship.domain.task import TaskProgress


@flow
def some_flow() -> None: ...


def published(session: ImportSession) -> TaskProgress | None:
    with session.catalog.read() as connection:
        return get_task(connection, session.lease.task_id).progress


def test_the_session_is_current_inside_its_block_alone(session: ImportSession) -> None:
    assert current() is session


def test_outside_of_an_import_there_is_no_session() -> None:
    with pytest.raises(LookupError):
        current()


def test_its_lease_thread_ends_with_the_block(settings: Settings, catalog: Catalog) -> None:
    with session_of(settings, catalog, begin(catalog)):
        assert "transship-lease" in {thread.name for thread in threading.enumerate()}
    assert "transship-lease" not in {thread.name for thread in threading.enumerate()}


def test_an_owner_is_told_apart_from_another_of_the_same_process(settings: Settings) -> None:
    assert process_owner(settings) != process_owner(settings)
    assert process_owner(settings).startswith("here pid ")


def test_the_lease_is_renewed(session: ImportSession) -> None:
    expire_lease(session.catalog, session.lease)
    _keep_lease(session, Ticks(1))
    with session.catalog.read() as connection:
        assert lease_of(connection, session.lease.image_id).live
    assert not session.stop.stopped


def test_a_lost_lease_stops_every_thread(session: ImportSession) -> None:
    steal(session.catalog, session.lease)
    _keep_lease(session, Ticks(100))
    assert isinstance(session.stop.reason, LockLost)


def timed(session: ImportSession, limit_s: float) -> None:
    imports = session.settings.imports.model_copy(update={"timeout_s": limit_s})
    session.settings = session.settings.model_copy(update={"imports": imports})


def test_an_import_that_runs_for_too_long_is_stopped_in_its_step_and_keeps_its_lease_to_undo(
    session: ImportSession,
) -> None:
    session.board.enter("convert", 100)
    timed(session, 1e-9)
    expire_lease(session.catalog, session.lease)
    _keep_lease(session, Ticks(2))
    assert isinstance(session.stop.reason, ImportTooLong)
    assert "in this step: convert" in str(session.stop.reason)
    assert "imports.timeout_s" in str(session.stop.reason)
    with session.catalog.read() as connection:
        assert lease_of(connection, session.lease.image_id).live


def test_an_import_that_does_not_end_when_it_is_stopped_loses_its_lease(
    session: ImportSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.session.UNDO_S", 0.0)
    timed(session, 1e-9)
    expire_lease(session.catalog, session.lease)
    _keep_lease(session, Ticks(1_000_000))
    with session.catalog.read() as connection:
        assert lease_of(connection, session.lease.image_id).expired


def test_an_import_within_its_time_goes_on(session: ImportSession) -> None:
    timed(session, 3600.0)
    _keep_lease(session, Ticks(3))
    assert session.stop.reason is None


def test_a_catalogue_that_is_away_for_too_long_interrupts_the_import(tmp_path: Path, catalog: Catalog) -> None:
    impatient = easy_settings(tmp_path, lease={"ttl_s": 0.003, "renew_s": 0.001})
    away = Catalog(create_engine(f"sqlite:///{tmp_path}/none/catalog.db"), catalog.fernet)
    with session_of(easy_settings(tmp_path), catalog, begin(catalog)) as session:
        session.settings = impatient
        session.fence = Fence(lambda: renew_lease(away, session.lease, 1), ttl_s=1)
        _keep_lease(session, Ticks(1_000_000))
    assert isinstance(session.stop.reason, ImportInterrupted)
    away.close()


def test_progress_is_published_without_prefect(session: ImportSession) -> None:
    session.board.enter("stage", 100)
    session.board.advance(40)
    session.board.publish_until(Ticks(1))
    found = published(session)
    assert found == session.board.now
    assert (found.phase, found.done_bytes, found.total_bytes) == ("stage", 40, 100)
    assert found.left_s is not None
    session.board.enter("inspect")
    session.board.keep_end()
    assert published(session) == session.board.now != found
    session.board.write_end()


def test_a_resumed_import_publishes_nothing_less_than_before(settings: Settings, catalog: Catalog) -> None:
    begun = begin(catalog)
    with session_of(settings, catalog, begun) as session:
        session.board.enter("stage", 100)
        session.board.advance(40)
        session.board.publish_until(Ticks(1))
    with session_of(settings, catalog, begin_again(catalog, begun.lease)) as session:
        session.board.enter("validate-uri")
        session.board.publish_until(Ticks(1))
        found = published(session)
        assert found is not None
        assert (found.phase, found.done_bytes, found.total_bytes, found.percent) == ("stage", 40, 100, 24.0)
        with catalog.read() as connection:
            assert get_task(connection, begun.task.id).message == "resuming; validate-uri"
        session.board.enter("stage", 100)
        session.board.advance(60)
        session.board.publish_until(Ticks(1))
        found = published(session)
        assert found is not None
        assert (found.done_bytes, found.percent) == (60, 36.0)


def test_a_prefect_that_does_not_answer_holds_nothing_up(session: ImportSession) -> None:
    run = FlowRunContext.model_construct(  # type: ignore[call-arg]  # artifacts ask for no more than this
        flow=some_flow, flow_run=FlowRun(flow_id=uuid4())
    )
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), run:
        session.board.enter("stage", 100)
        session.board.publish_until(Ticks(1))
        session.board.write_end()
    assert published(session) is not None


def test_what_did_not_change_is_not_published_again(session: ImportSession) -> None:
    session.board.enter("stage", 100)
    session.board.publish_until(Ticks(1))
    with session.catalog.read() as connection:
        before = get_task(connection, session.lease.task_id).updated_at
    session.board.publish_until(Ticks(5))
    with session.catalog.read() as connection:
        assert get_task(connection, session.lease.task_id).updated_at == before


def test_a_board_of_an_older_attempt_publishes_nothing(session: ImportSession) -> None:
    with session.catalog.read() as connection:
        task = get_task(connection, session.lease.task_id)
    stale = ProgressBoard(session.catalog, task.id, task.attempt - 1, session.lease.image_id, ("local",))
    stale.enter("stage", 100)
    stale.publish_until(Ticks(1))
    assert published(session) is None
