"""The message bus, with a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from oslo_config import cfg

from tests.fakes.images import settings_in
from tests.fakes.notifications import notification
from tests.fakes.ports import free_port
from tests.fakes.rabbitmq import Listener, RabbitServer
from transship.domain.errors import ConfigurationRefused, NotificationUndelivered
from transship.domain.notification import Priority
from transship.notify.bus import MessageBus

pytestmark = pytest.mark.real


def bus_to(home: Path, url: str, **notifications: object) -> MessageBus:
    chosen = {"drivers": ["messagingv2"], "transport_url": url, **notifications}
    return MessageBus(settings_in(home, notifications=chosen))


def test_the_broker_gets_them_in_order_whatever_their_priority(rabbitmq: RabbitServer, tmp_path: Path) -> None:
    sent = [
        notification(1),
        notification(2, event_type="image.upload", priority=Priority.ERROR, payload="the store is full"),
        notification(3, event_type="task.success"),
    ]
    bus = bus_to(tmp_path, rabbitmq.transport_url, publisher_id="image.here")
    with Listener(rabbitmq) as listener:
        assert list(bus.deliver(sent)) == sent
        received = listener.messages()
    bus.close()
    assert [message["message_id"] for message in received] == [each.message_id for each in sent]
    assert {key: value for key, value in received[1].items() if key != "_unique_id"} == {
        "message_id": sent[1].message_id,
        "publisher_id": "image.here",
        "event_type": "image.upload",
        "priority": "ERROR",
        "payload": "the store is full",
        "timestamp": "2026-01-02 03:04:05.678900",
    }


def test_what_is_disabled_is_left_out_and_counts_as_sent(rabbitmq: RabbitServer, tmp_path: Path) -> None:
    sent = [notification(1), notification(2, event_type="task.run"), notification(3, event_type="image.create")]
    bus = bus_to(tmp_path, rabbitmq.transport_url, disabled=["task", "image.create"])
    with Listener(rabbitmq) as listener:
        assert list(bus.deliver(sent)) == sent
        assert [message["event_type"] for message in listener.messages()] == ["image.update"]
    bus.close()


def test_both_formats_can_be_sent_to_several_topics(rabbitmq: RabbitServer, tmp_path: Path) -> None:
    both = ["messaging", "messagingv2", "noop"]
    bus = bus_to(tmp_path, rabbitmq.transport_url, drivers=both, topics=["one", "two"])
    with Listener(rabbitmq, "one") as first, Listener(rabbitmq, "two") as second:
        assert len(list(bus.deliver([notification(1)]))) == 1
        assert [len(first.messages()), len(second.messages())] == [2, 2]
    bus.close()


def test_a_broker_that_does_not_answer_is_an_error_at_once_and_never_shows_the_password(tmp_path: Path) -> None:
    port = free_port()
    bus = bus_to(tmp_path, f"rabbit://user:hush@127.0.0.1:{port}/")
    with pytest.raises(NotificationUndelivered) as undelivered:
        list(bus.deliver([notification(1)]))
    assert str(port) in str(undelivered.value)
    assert "hush" not in str(undelivered.value)


def test_a_login_that_is_refused_is_an_error_that_says_so(rabbitmq: RabbitServer, tmp_path: Path) -> None:
    bus = bus_to(tmp_path, f"rabbit://nobody:hush@127.0.0.1:{rabbitmq.port}/")
    with pytest.raises(NotificationUndelivered, match="AccessRefused") as undelivered:
        list(bus.deliver([notification(1)]))
    assert "hush" not in str(undelivered.value)


@pytest.mark.parametrize(
    "url",
    [
        "rabbit://user:hush@host:notaport/",
        "rabbit://user:hush@[::1/",
        "rabbit://user:hush@host:65536/",
        "rabbit://user:hush@host:0/",
        "rabbit://user:hush@host/?no_such_option=1",
        "rabbit://user:hush@host/?heartbeat_rate=often",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match=r"notifications\.transport_url") as refused:
        bus_to(tmp_path, url)
    assert "hush" not in str(refused.value)


def test_options_of_the_driver_in_glances_files_hold(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "glance-api.conf").write_text("[oslo_messaging_rabbit]\nkombu_compression = no-such-thing\n")
    settings = settings_in(
        tmp_path,
        glance_config=[tmp_path / "glance-api.conf"],
        notifications={"drivers": ["messagingv2"], "transport_url": f"rabbit://127.0.0.1:{port}/"},
    )
    bus = MessageBus(settings)
    options = bus._transport.conf
    assert options.oslo_messaging_rabbit.kombu_compression == "no-such-thing"
    assert options.control_exchange == "glance"


def test_options_of_the_driver_are_those_that_were_taken_with_the_settings(tmp_path: Path) -> None:
    glance = tmp_path / "glance-api.conf"
    glance.write_text("no section\n")
    settings = settings_in(
        tmp_path,
        glance_config=[glance],
        notifications={"drivers": ["messagingv2"], "transport_url": f"rabbit://127.0.0.1:{free_port()}/"},
    )
    with pytest.raises(cfg.Error):
        MessageBus(settings)
    bus = MessageBus(settings, {glance: "[oslo_messaging_rabbit]\nkombu_compression = as-taken\n"})
    assert bus._transport.conf.oslo_messaging_rabbit.kombu_compression == "as-taken"
