"""Couriers: a thread for each way out, which sends the notifications that wait, in order, and waits for nobody else.

A way out that is broken holds up its own courier alone. What was sent is noted after it was sent, so a keeper
that is killed in between sends it again, under the same message id.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.catalog.notifications import FORGOTTEN_AT_ONCE, drop_beyond, forget_sent, mark_sent, note_fault, waiting
from transship.domain.errors import CatalogUnavailable, NotificationUndelivered, PrefectAway, PrefectRefused
from transship.domain.notification import Notification, SinkName
from transship.keeper.prefect_api import PrefectApi
from transship.notify.prefect_events import event_of
from transship.notify.sink import Sink, wanted_sinks

BATCH: Final = 50
"""At most so many notifications are sent twice when a keeper is killed between sending and noting."""
PAUSE_S: Final = 0.3
"""From the first news until they are sent, so that what follows at once is sent with them."""
LOOK_S: Final = 30.0
"""Longest time between two looks: a ring may be lost."""
LONGEST_PAUSE_S: Final = 30.0
JOIN_S: Final = 2.0
_MENDABLE: Final = frozenset({401, 403, 404})
"""Refusals of Prefect that an operator mends: nothing is wrong with the event itself."""

log = structlog.get_logger("transship.keeper")


def open_sinks(settings: Settings, texts: Mapping[Path, str] | None = None) -> tuple[Sink, ...]:
    """Open the ways out that the settings ask for; none of them is tried yet.

    Args:
        texts: as in `config.loading.LoadedSettings`; None: nobody took them.

    Raises:
        ConfigurationRefused: the settings of one cannot be used.
    """
    return tuple(_open(name, settings, texts) for name in wanted_sinks(settings.notifications))


def _open(name: SinkName, settings: Settings, texts: Mapping[Path, str] | None) -> Sink:
    match name:
        case SinkName.BUS:
            from transship.notify.bus import MessageBus  # noqa: PLC0415  # costs seconds and 50 MB

            return MessageBus(settings, texts)
        case SinkName.LOG:
            from transship.notify.log_lines import LogLines  # noqa: PLC0415  # oslo.utils is slow to import

            return LogLines(settings.notifications)
        case SinkName.PREFECT:
            # A client of its own: that of the duties is used by another thread.
            return PrefectEvents(PrefectApi.of(settings))


@dataclass(frozen=True, slots=True)
class PrefectEvents:
    """Prefect's events as a way out."""

    prefect: PrefectApi

    @property
    def name(self) -> SinkName:
        """Where it sends to."""
        return SinkName.PREFECT

    def deliver(self, notifications: Sequence[Notification]) -> Iterator[Notification]:
        """Send all at once; if Prefect refuses that, one by one, leaving out those that it will never take.

        Raises:
            NotificationUndelivered: Prefect does not answer, or does not let us in.
        """
        try:
            self.prefect.send_events(event_of(each) for each in notifications)
        except PrefectAway as away:
            raise NotificationUndelivered(self.name, str(away)) from away
        except PrefectRefused as refused:
            if refused.status in _MENDABLE:
                raise NotificationUndelivered(self.name, str(refused)) from refused
            if len(notifications) == 1:
                log.warning("event refused, left out", event_type=notifications[0].event_type, reason=str(refused))
            else:
                for each in notifications:
                    yield from self.deliver((each,))
                return
        yield from notifications


class Courier:
    """Sends what waits for one way out."""

    def __init__(self, catalog: Catalog, sink: Sink) -> None:
        self._catalog, self._sink = catalog, sink
        self._faults = 0
        self._news = threading.Event()
        self._news.set()
        self._noted: str | None = None
        """What the catalogue says of this way out; None until this courier has written it."""

    @property
    def pause_s(self) -> float:
        """How long to wait before news are sent; longer after each fault in a row."""
        return min(LONGEST_PAUSE_S, PAUSE_S * float(2 ** min(self._faults, 10)))

    def run(self, active: threading.Event, stopped: threading.Event) -> None:
        """Send while this keeper is the active one, until it is stopped."""
        while not stopped.is_set():
            if not self._faults:
                self._news.wait(LOOK_S)
            if stopped.wait(self.pause_s):
                return
            self._news.clear()
            try:
                while active.is_set() and not stopped.is_set() and self.deliver_some():
                    pass
            except (CatalogUnavailable, SQLAlchemyError) as error:
                self._faults += 1
                log.warning("notifications cannot be read now", sink=self._sink.name, reason=str(error))

    def ring(self) -> None:
        """Have what waits sent: there is something new, or this keeper became the active one or is to end."""
        self._news.set()

    def deliver_some(self) -> int:
        """Send the oldest of what waits; return how many were sent. What could not be sent waits on."""
        with self._catalog.read() as connection:
            batch = waiting(connection, self._sink.name, BATCH)
        if not batch:
            return 0
        sent: list[int] = []
        try:
            for each in self._sink.deliver(batch):
                sent.append(each.number)  # noqa: PERF401  # what was yielded before a fault counts
        except NotificationUndelivered as fault:
            self._faults += 1
            self._note(sent, fault.reason)
            return 0
        self._faults = 0
        self._note(sent, "")
        return len(sent)

    def _note(self, sent: Sequence[int], reason: str) -> None:
        """Note what was sent, and how the way out is, before anything else is sent."""
        with self._catalog.write() as connection:
            mark_sent(connection, self._sink.name, sent)
            if reason != self._noted:
                note_fault(connection, self._sink.name, reason)
        if reason and not self._noted:
            log.warning("notifications wait", sink=self._sink.name, reason=reason)
        elif self._noted and not reason:
            log.info("notifications are sent again", sink=self._sink.name)
        self._noted = reason


class Couriers:
    """All couriers of a keeper, each in its thread; they send while the keeper is the active one.

    Args:
        backlog_limit: beyond so many waiting notifications for one way out the oldest are given up.

    Attributes:
        active: set while this keeper is the active one.
    """

    def __init__(self, catalog: Catalog, sinks: Sequence[Sink], backlog_limit: int) -> None:
        self._catalog, self._backlog_limit = catalog, backlog_limit
        self._names = tuple(sink.name for sink in sinks)
        self._couriers = [Courier(catalog, sink) for sink in sinks]
        self.active, self._stopped = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(
                target=courier.run,
                args=(self.active, self._stopped),
                name=f"transship-notify-{name}",
                daemon=True,
            )
            for courier, name in zip(self._couriers, self._names, strict=True)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def ring(self) -> None:
        """Have what waits sent."""
        for courier in self._couriers:
            courier.ring()

    def stop(self) -> None:
        """End; a courier that waits for its way out is left behind, and ends with the process."""
        self._stopped.set()
        self.ring()
        for thread in self._threads:
            thread.join(JOIN_S)

    def tidy(self) -> None:
        """Give up what is too much, and remove what was sent everywhere."""
        for name in self._names:
            with self._catalog.write() as connection:
                given_up = drop_beyond(connection, name, self._backlog_limit)
            if given_up:
                log.error("too many notifications wait; the oldest were given up", sink=name, number=given_up)
        while True:
            with self._catalog.write() as connection:
                if forget_sent(connection, self._names) < FORGOTTEN_AT_ONCE:
                    return
