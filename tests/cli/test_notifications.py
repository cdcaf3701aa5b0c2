"""The command's report on waiting notifications."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from tests.fakes.databases import DATABASES
from tests.fakes.images import queued_image, settings_in
from tests.fakes.notifications import notification_drivers
from transship.catalog.engine import Catalog
from transship.catalog.notifications import drop_beyond, note_fault
from transship.commands.doctor import Level, check_catalog
from transship.commands.status import notification_backlog
from transship.domain.notification import SinkName

__all__ = ["notification_drivers"]

SETTINGS = {"notifications": {"drivers": ["messagingv2"], "prefect_events": True}}


def test_status_and_doctor_say_how_many_wait_and_why(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, **SETTINGS)
    queued_image(catalog)
    with catalog.write() as connection:
        note_fault(connection, SinkName.BUS, "nobody is there")
    bus, prefect = notification_backlog(settings)
    assert (bus.sink, bus.waiting, bus.reason) == (SinkName.BUS, 1, "nobody is there")
    assert (prefect.sink, prefect.waiting, prefect.reason) == (SinkName.PREFECT, 1, "")
    found = {finding.subject: finding for finding in check_catalog(settings)}
    assert found["notify bus"].level is Level.WARN
    assert "nobody is there; they are sent once that is fixed" in found["notify bus"].text
    assert found["notify prefect"].level is Level.OK


def test_doctor_warns_of_notifications_that_were_given_up(catalog: Catalog, tmp_path: Path) -> None:
    queued_image(catalog)
    with catalog.write() as connection:
        drop_beyond(connection, SinkName.PREFECT, 0)
    found = {finding.subject: finding for finding in check_catalog(settings_in(tmp_path, **SETTINGS))}
    assert found["notify prefect"].level is Level.WARN
    assert "1 given up" in found["notify prefect"].text


def test_status_and_doctor_make_no_catalogue_in_an_empty_database(tmp_path: Path) -> None:
    DATABASES.empty(tmp_path)
    settings = settings_in(tmp_path)
    assert notification_backlog(settings) == []
    (found,) = check_catalog(settings)
    assert "will be created or upgraded at the next start" in found.text
    assert found.level is Level.OK
    assert Catalog.as_it_is(settings) is None


def test_before_the_first_start_nothing_waits_and_no_catalogue_is_made(tmp_path: Path) -> None:
    # A database of PostgreSQL is made by an administrator, before any start.
    assert notification_backlog(Settings.model_validate({"home": tmp_path})) == []
    assert list(tmp_path.iterdir()) == []
