"""Rows of notifications: written, sent, deleted, dropped."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.images import asked, queued_image, settings_in
from tests.fakes.notifications import notification_drivers, told, types_told
from transship.catalog.engine import Catalog
from transship.catalog.notifications import (
    Backlog,
    announce_failed_store,
    announce_image,
    announce_store,
    announce_task,
    backlog,
    drop_beyond,
    forget_sent,
    mark_sent,
    note_fault,
)
from transship.catalog.schema import NOTIFICATIONS
from transship.catalog.tasks import set_flow_run
from transship.domain.image import Image
from transship.domain.notification import EventType, SinkName

__all__ = ["notification_drivers"]

ALL = tuple(SinkName)


@pytest.fixture
def image(catalog: Catalog) -> Image:
    """An image without notifications."""
    image = queued_image(catalog)
    clear(catalog)
    return image


def clear(catalog: Catalog) -> None:
    with catalog.write() as connection:
        connection.execute(NOTIFICATIONS.delete())


def announce(catalog: Catalog, image: Image, number: int) -> list[int]:
    with catalog.write() as connection:
        for _ in range(number):
            announce_image(connection, EventType.IMAGE_UPDATE, image)
    return [each.number for each in told(catalog)]


def test_what_is_told_comes_back_as_it_was_written(catalog: Catalog, image: Image) -> None:
    task = asked(catalog, image)
    clear(catalog)
    with catalog.write() as connection:
        announce_store(connection, EventType.IMAGE_PREPARE, image, "fast")
        announce_failed_store(connection, image.id, task.id, "fast", "it is full")
        announce_task(connection, EventType.TASK_CREATE, task)
        set_flow_run(connection, task.id, "a run")
    prepare, failed, created = told(catalog)
    assert (prepare.event_type, prepare.store, prepare.image_id) == ("image.prepare", "fast", image.id)
    assert failed.payload == f"Failed to upload image data for image {image.id} due to internal error: it is full"
    assert (failed.priority, failed.task_id, failed.flow_run_id) == ("ERROR", task.id, "a run")
    assert (created.event_type, created.task_id) == ("task.create", task.id)
    assert len({each.message_id for each in (prepare, failed, created)}) == 3


def test_what_a_transaction_takes_back_is_never_told(catalog: Catalog, image: Image) -> None:
    def announce_and_fail() -> None:
        with catalog.write() as connection:
            announce_image(connection, EventType.IMAGE_UPDATE, image)
            raise LookupError

    with pytest.raises(LookupError):
        announce_and_fail()
    assert told(catalog) == []


@pytest.mark.parametrize(
    ("notifications", "written"),
    [
        ({}, []),
        ({"drivers": ["noop"]}, []),
        ({"drivers": ["log"], "disabled": ["image.create"]}, []),
        ({"drivers": ["messaging"], "disabled": ["image"]}, []),
        ({"drivers": ["log"], "disabled": ["task", "image.update"]}, ["image.create"]),
        ({"prefect_events": True, "disabled": ["image"]}, ["image.create"]),
    ],
)
def test_what_no_sink_takes_is_not_written(
    catalog: Catalog, tmp_path: Path, notifications: dict[str, object], written: list[str]
) -> None:
    with closing(Catalog.open(settings_in(tmp_path, notifications=notifications))) as other:
        queued_image(other)
    assert types_told(catalog) == written


def test_each_way_out_has_its_own_mark(catalog: Catalog, image: Image) -> None:
    numbers = announce(catalog, image, 3)
    with catalog.write() as connection:
        mark_sent(connection, SinkName.BUS, numbers[:2])
    assert [each.number for each in told(catalog, SinkName.BUS)] == numbers[2:]
    assert [each.number for each in told(catalog, SinkName.PREFECT)] == numbers


def test_what_every_way_out_has_is_forgotten(catalog: Catalog, image: Image) -> None:
    numbers = announce(catalog, image, 3)
    with catalog.write() as connection:
        mark_sent(connection, SinkName.BUS, numbers[:2])
        mark_sent(connection, SinkName.PREFECT, numbers[1:])
        assert forget_sent(connection, (SinkName.BUS, SinkName.PREFECT)) == 1
    assert [each.number for each in told(catalog, SinkName.LOG)] == [numbers[0], numbers[2]]


def test_without_any_way_out_all_is_forgotten(catalog: Catalog, image: Image) -> None:
    announce(catalog, image, 3)
    with catalog.write() as connection:
        assert forget_sent(connection, ()) == 3
    assert told(catalog) == []


def test_the_oldest_are_given_up_for_one_way_out_where_too_many_wait(catalog: Catalog, image: Image) -> None:
    numbers = announce(catalog, image, 5)
    with catalog.write() as connection:
        assert drop_beyond(connection, SinkName.BUS, 3) == 2
        assert drop_beyond(connection, SinkName.BUS, 3) == 0
        (found,) = backlog(connection, (SinkName.BUS,))
    assert [each.number for each in told(catalog)] == numbers[2:]
    assert [each.number for each in told(catalog, SinkName.LOG)] == numbers
    assert (found.waiting, found.dropped) == (3, 2)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Backlog(SinkName.BUS, 0, 0.0, "", 0), "0 waiting"),
        (Backlog(SinkName.BUS, 2, 61.4, "nobody is there", 0), "2 waiting, the oldest for 61 s, nobody is there"),
        (Backlog(SinkName.LOG, 0, 0.0, "", 7), "0 waiting, 7 given up in all, because too many waited"),
    ],
)
def test_a_backlog_is_a_line_for_people(found: Backlog, text: str) -> None:
    assert found.text == text


def test_the_backlog_says_how_much_waits_for_how_long_and_why(catalog: Catalog, image: Image) -> None:
    announce(catalog, image, 2)
    with catalog.write() as connection:
        note_fault(connection, SinkName.BUS, "nobody is there")
        bus, log = backlog(connection, (SinkName.BUS, SinkName.LOG))
    assert (bus.waiting, bus.reason, bus.dropped) == (2, "nobody is there", 0)
    assert 0.0 <= bus.oldest_s < 600.0
    assert (log.waiting, log.reason) == (2, "")
    with catalog.write() as connection:
        note_fault(connection, SinkName.BUS, "")
        drop_beyond(connection, SinkName.BUS, 1)
        (bus,) = backlog(connection, (SinkName.BUS,))
    assert (bus.waiting, bus.reason, bus.dropped) == (1, "", 1)
