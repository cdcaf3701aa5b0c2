"""What a way out for notifications is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from config.settings import NotificationDriver, NotificationSettings
from transship.domain.notification import Notification, SinkName


class Sink(Protocol):
    """Sends notifications somewhere; used by one thread."""

    @property
    def name(self) -> SinkName:
        """Where it sends to."""

    def deliver(self, notifications: Sequence[Notification]) -> Iterator[Notification]:
        """Send in the order given, and yield each one that need not be sent again.

        Raises:
            NotificationUndelivered: what was not yielded is to be sent later; it may have arrived all the same.
        """


def wanted_sinks(settings: NotificationSettings) -> tuple[SinkName, ...]:
    """Return the ways out that the settings ask for."""
    drivers = set(settings.drivers)
    wanted = {
        SinkName.BUS: bool(drivers & {NotificationDriver.MESSAGING, NotificationDriver.MESSAGING_V2}),
        SinkName.LOG: NotificationDriver.LOG in drivers,
        SinkName.PREFECT: settings.prefect_events,
    }
    return tuple(sink for sink, is_wanted in wanted.items() if is_wanted)
