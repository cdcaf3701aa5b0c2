"""What a way out for notifications is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

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
