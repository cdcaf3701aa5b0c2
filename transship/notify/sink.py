"""The contract of a notification destination."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from config.settings import NotificationDriver, NotificationSettings
from transship.domain.notification import Notification, SinkName


class Sink(Protocol):
    """Sends notifications somewhere; used by one thread."""

    @property
    def name(self) -> SinkName:
        """The name of the destination."""

    def deliver(self, notifications: Sequence[Notification]) -> Iterator[Notification]:
        """Send in the given order, and yield each notification that need not be sent again.

        Raises:
            NotificationUndelivered: notifications not yielded must be sent later; they may have arrived all the same.
        """


def wanted_sinks(settings: NotificationSettings) -> tuple[SinkName, ...]:
    """Return the destinations that the settings name."""
    drivers = set(settings.drivers)
    wanted = {
        SinkName.BUS: bool(drivers & {NotificationDriver.MESSAGING, NotificationDriver.MESSAGING_V2}),
        SinkName.LOG: NotificationDriver.LOG in drivers,
        SinkName.PREFECT: settings.prefect_events,
    }
    return tuple(sink for sink, is_wanted in wanted.items() if is_wanted)
