"""Notifications for tests, and what a catalogue still has to send."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from transship.catalog.engine import Catalog
from transship.catalog.notifications import waiting
from transship.domain.notification import Notification, SinkName

THEN = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)


def notification(number: int, **changes: object) -> Notification:
    """Return a notification."""
    values: dict[str, object] = {
        "number": number,
        "message_id": str(uuid4()),
        "event_type": "image.update",
        "priority": "INFO",
        "payload": {"id": "an image", "name": f"image {number}", "status": "queued"},
        "image_id": str(uuid4()),
        "occurred_at": THEN,
    }
    return Notification(**{**values, **changes})  # type: ignore[arg-type]  # tests choose


@pytest.fixture
def notification_drivers() -> tuple[str, ...]:
    """Notifications are written, of every type."""
    return ("log",)


def told(catalog: Catalog, sink: SinkName = SinkName.BUS) -> list[Notification]:
    """Return the notifications that wait for a sink, in order."""
    with catalog.read() as connection:
        return waiting(connection, sink, 1000)


def types_told(catalog: Catalog) -> list[str]:
    """Return the types of the waiting notifications in order, with their priority if it is not INFO."""
    return [each.event_type + (" ERROR" if each.priority == "ERROR" else "") for each in told(catalog)]
