"""Notifications of imports: types, order and payloads, as delivered by a real broker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fakes.founding_document import DOCUMENT
from tests.fakes.images import settings_in
from tests.fakes.images_api import ApiServer
from tests.fakes.notifications import notification_drivers, told, types_told
from tests.fakes.rabbitmq import Listener, RabbitServer
from tests.fakes.system import until
from tests.fakes.web_server import WebServer
from tests.fakes.yard import Yard
from tests.flows.conftest import Site
from transship.catalog.engine import Catalog
from transship.domain.errors import StoreFull
from transship.domain.task import TaskStatus
from transship.keeper.courier import Courier, Couriers
from transship.notify.bus import MessageBus

__all__ = ["notification_drivers"]

pytestmark = pytest.mark.real

WHOLE_IMPORT: Final = [
    "image.create",
    "task.create",
    "task.processing",
    "image.update",
    "image.prepare",
    "image.upload",
    "image.update",
    "image.prepare",
    "image.upload",
    "image.activate",
    "image.update",
    "task.success",
    "task.run",
]
"""Two stores, one after the other, and all must succeed."""


@pytest.fixture
def buses(rabbitmq: RabbitServer, tmp_path: Path) -> Iterator[list[MessageBus]]:
    """Those that a test opens; they are closed at its end."""
    opened: list[MessageBus] = []
    yield opened
    for bus in opened:
        bus.close()


def bus_to(rabbitmq: RabbitServer, home: Path, buses: list[MessageBus], **notifications: object) -> MessageBus:
    chosen = {"drivers": ["messagingv2"], "transport_url": rabbitmq.transport_url, **notifications}
    buses.append(MessageBus(settings_in(home, notifications=chosen)))
    return buses[-1]


def send_all(catalog: Catalog, bus: MessageBus) -> None:
    courier = Courier(catalog, bus)

    def all_sent() -> bool:
        courier.deliver_some()
        return told(catalog) == []

    until(all_sent, 180.0, "delivery")


def documents_example() -> list[dict[str, Any]]:
    """Return the notifications that the founding document shows; what it left out is left out."""
    text = DOCUMENT.read_text().partition("Notifications sent by glance looks like")[2]
    blocks = re.findall(r"^ {8}\{\n(.*?)^ {8}\}", text, re.MULTILINE | re.DOTALL)
    return [json.loads("{" + re.sub(r",\s*\.\.\.", "", block) + "}") for block in blocks]


def shortened(message: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a message that the document's example has, without ids and times."""
    payload = message["payload"]
    if isinstance(like["payload"], str):
        shown = "a text" if isinstance(payload, str) else payload
    else:
        shown = {key: payload[key] for key in like["payload"]}
    return {"priority": message["priority"], "event_type": message["event_type"], "payload": shown}


def test_case_68_the_documents_example_arrives_as_it_is_written(
    rabbitmq: RabbitServer,
    site: Site,
    api_server: ApiServer,
    server: WebServer,
    prefect_client: None,
    monkeypatch: pytest.MonkeyPatch,
    buses: list[MessageBus],
) -> None:
    site.set(imports__max_parallel_stores="1")
    yard = Yard(site, api_server, server, monkeypatch, names=("ceph1", "ceph2"))
    yard.stores["ceph2"].break_down(StoreFull("ceph2", 5))
    with Listener(rabbitmq) as listener:
        image_id, _ = yard.brought("ceph1", "ceph2", strict=False, name="example")
        send_all(site.catalog, bus_to(rabbitmq, site.home, buses))
        received = listener.messages()
    assert yard.lists(image_id) == ("active", "ceph1", "", "ceph2")
    of_stores = [message for message in received if message["event_type"] in ("image.prepare", "image.upload")]
    written = documents_example()
    assert len(of_stores) == len(written) == 4
    ours = [shortened(message, like) for message, like in zip(of_stores, written, strict=True)]
    theirs = [shortened(like, like) for like in written]
    for ours_one, theirs_one in zip(ours, theirs, strict=True):
        print(f"document  {json.dumps(theirs_one)}\nreceived  {json.dumps(ours_one)}\n")
    assert ours == theirs
    error = of_stores[3]["payload"]
    print(f"document  {written[3]['payload']}\nreceived  {error}\n")
    assert error.startswith("Image storage media is full: store ceph2 is full")
    # The document leaves the others out.
    types = [message["event_type"] for message in received]
    assert types.index("image.activate") == types.index("image.upload") + 1
    assert types[-3:] == ["image.update", "task.success", "task.run"]


def test_case_69_a_group_that_is_disabled_is_not_sent(
    yard: Yard, rabbitmq: RabbitServer, buses: list[MessageBus]
) -> None:
    with Listener(rabbitmq) as listener:
        yard.brought("s1")
        send_all(yard.site.catalog, bus_to(rabbitmq, yard.site.home, buses, disabled=["task"]))
        types = {message["event_type"] for message in listener.messages()}
    assert "image.activate" in types
    assert not [each for each in types if each.startswith("task.")]


def test_a_whole_import_is_told_in_glances_order(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    yard.brought("s1", "s2")
    assert types_told(yard.site.catalog) == WHOLE_IMPORT


def test_where_several_stores_are_written_at_once_all_are_prepared_first(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="2")
    yard.brought("s1", "s2", "s3")
    told = types_told(yard.site.catalog)
    assert told.count("image.prepare") == told.count("image.upload") == 3
    assert "image.prepare" not in told[told.index("image.upload") :]
    assert told.index("image.activate") > max(n for n, each in enumerate(told) if each == "image.upload")


def test_a_store_that_fails_where_all_must_succeed_is_told_once_and_the_image_is_never_active(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    yard.stores["s2"].break_down(StoreFull("s2", 5))
    yard.brought("s1", "s2")
    told = types_told(yard.site.catalog)
    assert told[told.index("image.prepare") :] == [
        "image.prepare",
        "image.upload",
        "image.update",
        "image.prepare",
        "image.upload ERROR",
        "image.update",
        "image.update",
        "task.failure",
    ]


def test_a_copy_is_told_without_an_activation(yard: Yard) -> None:
    image_id, _ = yard.brought("s1")
    already = len(types_told(yard.site.catalog))
    yard.copied(image_id, "s2")
    assert types_told(yard.site.catalog)[already:] == [
        "task.create",
        "task.processing",
        "image.update",
        "image.prepare",
        "image.upload",
        "image.update",
        "task.success",
        "task.run",
    ]


def test_changes_by_clients_and_the_end_of_an_image_are_told(yard: Yard) -> None:
    image_id = yard.create(name="one")
    changes = [{"op": "replace", "path": "/name", "value": "two"}]
    content_type = "application/openstack-images-v2.1-json-patch"
    assert yard.call("PATCH", f"/v2/images/{image_id}", changes, **{"Content-Type": content_type}).status_code == 200
    assert yard.call("DELETE", f"/v2/images/{image_id}").status_code == 204
    assert types_told(yard.site.catalog) == ["image.create", "image.update", "image.delete"]


# kombu drops the socket of a connection that its broker broke, and leaves closing it to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_dead_broker_holds_up_no_import_and_gets_everything_in_order_afterwards(
    yard: Yard, rabbitmq: RabbitServer, buses: list[MessageBus]
) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    rabbitmq.stop()
    couriers = Couriers(yard.site.catalog, [bus_to(rabbitmq, yard.site.home, buses)], 1000)
    couriers.active.set()
    couriers.start()
    image_id, _ = yard.brought("s1", "s2")
    assert yard.task(image_id).status is TaskStatus.SUCCESS
    assert types_told(yard.site.catalog) == WHOLE_IMPORT
    rabbitmq.start()
    with Listener(rabbitmq) as listener:
        received = until_received(listener, len(WHOLE_IMPORT))
    couriers.stop()
    assert [message["event_type"] for message in received] == WHOLE_IMPORT


def until_received(listener: Listener, number: int) -> Sequence[dict[str, Any]]:
    received: list[dict[str, Any]] = []

    def enough() -> bool:
        received.extend(listener.messages())
        return len(received) >= number

    until(enough, 180.0, f"{number} notifications")
    return received
