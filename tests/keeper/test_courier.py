"""Couriers: order, errors, and several destinations that do not wait for each other."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.settings import NotificationSettings
from tests.fakes.images import queued_image, settings_in
from tests.fakes.notifications import notification, notification_drivers, told
from tests.fakes.ports import free_port
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.rabbitmq import Listener, RabbitServer
from tests.fakes.system import until
from transship.catalog.engine import Catalog
from transship.catalog.images import get_image
from transship.catalog.notifications import Backlog, announce_image, backlog
from transship.domain.errors import NotificationUndelivered
from transship.domain.notification import EventType, Notification, Priority, SinkName
from transship.keeper.courier import BATCH, LONGEST_PAUSE_S, Courier, Couriers, PrefectEvents, open_sinks
from transship.keeper.prefect_api import PrefectApi
from transship.notify.bus import MessageBus
from transship.notify.sink import wanted_sinks

__all__ = ["notification_drivers"]


@dataclass
class Recorder:
    """A way out that keeps what it gets, and fails after ``works_for`` more."""

    name: SinkName = SinkName.BUS
    works_for: int = 10**9
    got: list[Notification] = field(default_factory=list)

    def deliver(self, notifications: Sequence[Notification]) -> Iterator[Notification]:
        for each in notifications:
            if self.works_for == 0:
                raise NotificationUndelivered(self.name, "nobody is there")
            self.works_for -= 1
            self.got.append(each)
            yield each


def announce(catalog: Catalog, number: int) -> list[str]:
    """Announce this many changes of one image; return their message ids in order."""
    image_id = queued_image(catalog).id
    with catalog.write() as connection:
        image = get_image(connection, image_id)
        for _ in range(number):
            announce_image(connection, EventType.IMAGE_UPDATE, image)
    return [each.message_id for each in told(catalog)]


def state_of(catalog: Catalog, sink: SinkName) -> Backlog:
    with catalog.read() as connection:
        return backlog(connection, (sink,))[0]


def test_all_is_sent_in_order_and_once(catalog: Catalog) -> None:
    ids = announce(catalog, 2 * BATCH + 1)
    sink = Recorder()
    courier = Courier(catalog, sink)
    while courier.deliver_some():
        pass
    assert [each.message_id for each in sink.got] == ids
    assert told(catalog) == []


def test_what_was_sent_before_a_fault_is_not_sent_again_and_the_rest_follows_in_order(catalog: Catalog) -> None:
    ids = announce(catalog, 5)
    sink = Recorder(works_for=2)
    courier = Courier(catalog, sink)
    assert courier.deliver_some() == 0
    found = state_of(catalog, SinkName.BUS)
    assert (found.waiting, found.reason) == (len(ids) - 2, "nobody is there")
    sink.works_for = 100
    assert courier.deliver_some() == len(ids) - 2
    assert [each.message_id for each in sink.got] == ids
    assert state_of(catalog, SinkName.BUS).reason == ""


def test_a_new_courier_clears_what_an_earlier_one_noted(catalog: Catalog) -> None:
    announce(catalog, 1)
    Courier(catalog, Recorder(works_for=0)).deliver_some()
    assert Courier(catalog, Recorder()).deliver_some()
    assert state_of(catalog, SinkName.BUS).reason == ""


def test_the_pause_grows_with_each_fault_to_a_bound_and_falls_back(catalog: Catalog) -> None:
    announce(catalog, 1)
    sink = Recorder(works_for=0)
    courier = Courier(catalog, sink)
    pauses = [courier.pause_s]
    for _ in range(12):
        courier.deliver_some()
        pauses.append(courier.pause_s)
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
    sink.works_for = 9
    courier.deliver_some()
    assert courier.pause_s == pauses[0]


def test_one_broken_way_out_holds_up_no_other(catalog: Catalog) -> None:
    ids = announce(catalog, 3)
    broken, working = Recorder(SinkName.BUS, works_for=0), Recorder(SinkName.LOG)
    couriers = Couriers(catalog, [broken, working], 1000)
    couriers.active.set()
    couriers.start()
    until(lambda: len(working.got) == len(ids), 180.0, "delivery")
    couriers.stop()
    assert [each.message_id for each in working.got] == ids
    couriers.tidy()
    assert [each.message_id for each in told(catalog, SinkName.BUS)] == ids


def test_a_keeper_that_is_not_the_active_one_sends_nothing(catalog: Catalog) -> None:
    announce(catalog, 1)
    sink = Recorder()
    active, stopped = threading.Event(), threading.Event()
    courier = Courier(catalog, sink)
    thread = threading.Thread(target=courier.run, args=(active, stopped))
    thread.start()
    stopped.wait(courier.pause_s * 3)
    assert sink.got == []
    active.set()
    courier.ring()
    until(lambda: sink.got, 180.0, "delivery")
    stopped.set()
    courier.ring()
    thread.join()


def test_tidying_bounds_what_waits_and_removes_what_was_sent(catalog: Catalog) -> None:
    ids = announce(catalog, 5)
    couriers = Couriers(catalog, [Recorder(SinkName.BUS)], len(ids) - 2)
    couriers.tidy()
    assert [each.message_id for each in told(catalog, SinkName.BUS)] == ids[2:]
    assert len(told(catalog, SinkName.PREFECT)) == len(ids) - 2
    assert state_of(catalog, SinkName.BUS).dropped == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"prefect_events": True}, ["prefect"]),
        ({"drivers": ["noop"]}, []),
        ({"drivers": ["messagingv2", "messaging"]}, ["bus"]),
        ({"drivers": ["log", "messagingv2", "noop"], "prefect_events": True}, ["bus", "log", "prefect"]),
    ],
)
def test_the_settings_name_the_ways_out(settings: dict[str, object], expected: list[str]) -> None:
    assert list(wanted_sinks(NotificationSettings.model_validate(settings))) == expected


@pytest.mark.real
def test_all_ways_out_open_although_nobody_is_there(tmp_path: Path) -> None:
    chosen = {
        "drivers": ["messagingv2", "log"],
        "transport_url": f"rabbit://127.0.0.1:{free_port()}/",
        "prefect_events": True,
    }
    nobody = {"api_url": f"http://127.0.0.1:{free_port()}/api"}
    sinks = open_sinks(settings_in(tmp_path, notifications=chosen, prefect=nobody))
    assert [sink.name for sink in sinks] == list(SinkName)


# kombu drops the socket of a connection that its broker broke, and leaves closing it to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.real
def test_while_the_broker_is_dead_all_waits_and_then_arrives_in_order(
    catalog: Catalog, rabbitmq: RabbitServer, tmp_path: Path
) -> None:
    url = {"drivers": ["messagingv2"], "transport_url": rabbitmq.transport_url}
    bus = MessageBus(settings_in(tmp_path, notifications=url))
    courier = Courier(catalog, bus)
    before = announce(catalog, 2)
    assert courier.deliver_some() == len(before)
    rabbitmq.stop()
    ids = announce(catalog, 3)
    assert [courier.deliver_some() for _ in range(3)] == [0, 0, 0]
    found = state_of(catalog, SinkName.BUS)
    assert found.waiting == len(ids)
    assert str(rabbitmq.port) in found.reason
    rabbitmq.start()
    with Listener(rabbitmq) as listener:
        # The first try may find the old connection broken.
        until(courier.deliver_some, 180.0, "delivery")
        assert [message["message_id"] for message in listener.messages()] == ids
    bus.close()
    gc.collect()


@pytest.mark.real
def test_events_arrive_in_prefect_once_however_often_they_are_sent(prefect_server: PrefectServer) -> None:
    sink = PrefectEvents(PrefectApi(prefect_server.url, prefect_server.auth_string))
    # Prefect looks for events of the last months only.
    now = datetime.now(UTC)
    sent = [
        notification(1, event_type="image.activate", occurred_at=now),
        notification(2, event_type="task.success", task_id="t", occurred_at=now),
    ]
    assert list(sink.deliver(sent)) == sent
    assert list(sink.deliver(sent)) == sent

    def shown() -> list[str]:
        wanted = {"filter": {"id": {"id": [each.message_id for each in sent]}}}
        return sorted(event["event"] for event in prefect_server.ask("POST", "/events/filter", wanted)["events"])

    until(lambda: len(shown()) == len(sent), 180.0, "events")
    assert shown() == ["transship.image.activate", "transship.task.success"]


@pytest.mark.real
def test_an_event_that_prefect_will_never_take_is_left_out_and_the_others_are_sent(
    prefect_server: PrefectServer,
) -> None:
    sink = PrefectEvents(PrefectApi(prefect_server.url, prefect_server.auth_string))
    too_long = notification(2, event_type="image." + "x" * 5000)
    sent = [notification(1), too_long, notification(3, priority=Priority.ERROR, payload="full")]
    assert list(sink.deliver(sent)) == sent


@pytest.mark.real
def test_a_wrong_password_of_prefect_keeps_events_waiting(prefect_server: PrefectServer) -> None:
    sink = PrefectEvents(PrefectApi(prefect_server.url, "admin:wrong"))
    with pytest.raises(NotificationUndelivered, match="401"):
        list(sink.deliver([notification(1)]))


def test_prefect_that_is_away_keeps_events_waiting() -> None:
    sink = PrefectEvents(PrefectApi(f"http://127.0.0.1:{free_port()}/api", ""))
    with pytest.raises(NotificationUndelivered):
        list(sink.deliver([notification(1)]))
