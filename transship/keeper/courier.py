"""Couriers: one thread per destination, which sends the waiting notifications in order.

A broken destination delays only its own courier. A notification is recorded as sent after it was sent, so a keeper
that is killed in between sends it again under the same message id.
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
"""Most notifications sent per batch, and so sent twice if a keeper is killed before recording them."""
PAUSE_S: Final = 0.3
"""Delay after the first new notification, so those that follow at once are sent together with it."""
POLL_S: Final = 30.0
"""Longest time between checks for notifications: a ring may be lost."""
LONGEST_PAUSE_S: Final = 30.0
JOIN_S: Final = 2.0
_MENDABLE: Final = frozenset({401, 403, 404})
"""Prefect's refusals that an operator can fix; the event itself is valid."""

log = structlog.get_logger("transship.keeper")


def open_sinks(settings: Settings, texts: Mapping[Path, str] | None = None) -> tuple[Sink, ...]:
    """Open the destinations named in the settings, without connecting yet.

    Args:
        texts: as in `config.loading.LoadedSettings`; None: read the files now.

    Raises:
        ConfigurationRefused: the settings of a destination are invalid.
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
            # A separate client: another thread uses that of the duties.
            return PrefectEvents(PrefectApi.of(settings))


@dataclass(frozen=True, slots=True)
class PrefectEvents:
    """Prefect's events as a destination."""

    prefect: PrefectApi

    @property
    def name(self) -> SinkName:
        """The name of the destination."""
        return SinkName.PREFECT

    def deliver(self, notifications: Sequence[Notification]) -> Iterator[Notification]:
        """Send all in one request; if Prefect refuses it, send one by one, and skip those that it refuses for good.

        Raises:
            NotificationUndelivered: Prefect does not answer, or denies access.
        """
        try:
            self.prefect.send_events(event_of(each) for each in notifications)
        except PrefectAway as away:
            raise NotificationUndelivered(self.name, str(away)) from away
        except PrefectRefused as refused:
            if refused.status in _MENDABLE:
                raise NotificationUndelivered(self.name, str(refused)) from refused
            if len(notifications) == 1:
                log.warning("event refused, dropped", event_type=notifications[0].event_type, reason=str(refused))
            else:
                for each in notifications:
                    yield from self.deliver((each,))
                return
        yield from notifications


class Courier:
    """Sends the waiting notifications of one destination."""

    def __init__(self, catalog: Catalog, sink: Sink) -> None:
        self._catalog, self._sink = catalog, sink
        self._faults = 0
        self._news = threading.Event()
        self._news.set()
        self._noted: str | None = None
        """The catalogue's last recorded state of this destination; None until this courier has written it."""

    @property
    def pause_s(self) -> float:
        """Seconds to wait before sending; longer after each consecutive failure."""
        return min(LONGEST_PAUSE_S, PAUSE_S * float(2 ** min(self._faults, 10)))

    def run(self, active: threading.Event, stopped: threading.Event) -> None:
        """Send while this keeper is active, until it is stopped."""
        while not stopped.is_set():
            if not self._faults:
                self._news.wait(POLL_S)
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
        """Wake the courier: there is a new notification, or this keeper became active or is stopping."""
        self._news.set()

    def deliver_some(self) -> int:
        """Send the oldest waiting notifications; return how many were sent. The others keep waiting."""
        with self._catalog.statement() as connection:
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
        """Record what was sent, and the state of the destination, before sending anything else."""
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
    """All couriers of a keeper, each in its own thread; they send while the keeper is active.

    Args:
        backlog_limit: most waiting notifications per destination; beyond it the oldest are dropped.

    Attributes:
        active: set while this keeper is active.
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
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def ring(self) -> None:
        """Wake all couriers."""
        for courier in self._couriers:
            courier.ring()

    def stop(self) -> None:
        """Stop; a courier that is blocked in its destination is abandoned, and ends with the process."""
        self._stopped.set()
        self.ring()
        for thread in self._threads:
            thread.join(JOIN_S)

    def tidy(self) -> None:
        """Drop notifications beyond the limit, and delete those sent to every destination."""
        for name in self._names:
            with self._catalog.write() as connection:
                given_up = drop_beyond(connection, name, self._backlog_limit)
            if given_up:
                log.error("too many notifications wait; the oldest were dropped", sink=name, number=given_up)
        while True:
            with self._catalog.write() as connection:
                if forget_sent(connection, self._names) < FORGOTTEN_AT_ONCE:
                    return
