"""Whole flows in this process, on a real Prefect server: a real source, real stores, the real catalogue."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import threading
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry
from sqlalchemy import func, select

from flows.housekeeping import housekeeping
from flows.web_download import web_download
from tasks.progress import ProgressBoard, artifact_key
from tests.fakes.disk_images import MIB, raw_disk
from tests.fakes.images import NOW, asked, queued_image, read_image, web_order
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.running_import import location, staging_names
from tests.fakes.system import until
from tests.fakes.web_imports import assert_nothing_left, newest_task, run
from tests.fakes.web_server import WebServer, answer, cut, whole
from tests.flows.conftest import Site
from transship.catalog.engine import Catalog
from transship.catalog.imports import Caller, ask_import
from transship.catalog.schema import IMAGES
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("prefect_client")]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return raw_disk(tmp_path_factory.mktemp("disk") / "disk.raw", 3 * MIB).read_bytes()


def two_stores(site: Site) -> None:
    """Configure a store that works and one below a regular file, where no directory can be made."""
    (site.home / "blocked").touch()
    stores = {"good": {"dir": str(site.home / "good")}, "bad": {"dir": str(site.home / "blocked" / "bad")}}
    site.set(stores=json.dumps(stores), default_store="good")
    site.deploy()


# --- success -----------------------------------------------------------------------------------


def test_an_image_at_a_url_becomes_active(site: Site, server: WebServer, disk: bytes) -> None:
    state, image_id = run(server.serve("/disk.raw", disk), project_id="p1")
    assert (state.type, state.name, state.message) == ("COMPLETED", "Imported", "imported to local")
    image = read_image(site.catalog, image_id)
    assert (image.status, image.name, image.owner) == (ImageStatus.ACTIVE, "disk.raw", "p1")
    assert (image.size, image.virtual_size) == (len(disk), len(disk))
    assert image.checksum == hashlib.md5(disk, usedforsecurity=False).hexdigest()
    assert image.os_hash_value == hashlib.sha512(disk).hexdigest()
    assert site.stored() == {image_id: disk}
    assert staging_names(site.settings) == set()
    assert newest_task(site.catalog, image_id).status is TaskStatus.SUCCESS


def test_a_broken_download_is_tried_again_and_goes_on(site: Site, server: WebServer, disk: bytes) -> None:
    state, image_id = run(server.on("/disk.raw", cut(disk, MIB), whole(disk)))
    assert state.is_completed()
    assert server.requests("/disk.raw")[1].headers["range"] == f"bytes={MIB}-"
    assert site.stored() == {image_id: disk}


def test_a_compressed_image_is_unpacked(site: Site, server: WebServer, disk: bytes) -> None:
    site.set(imports__plugins="image_decompression")
    state, image_id = run(server.serve("/disk.raw.gz", gzip.compress(disk)))
    assert state.is_completed()
    assert site.stored() == {image_id: disk}
    assert read_image(site.catalog, image_id).virtual_size == len(disk)
    assert staging_names(site.settings) == set()


def test_several_stores_are_written_one_after_the_other_if_told_so(
    site: Site, server: WebServer, disk: bytes, prefect_server: PrefectServer
) -> None:
    names = ("c", "a", "b")
    stores = {name: {"dir": str(site.home / name)} for name in names}
    site.set(stores=json.dumps(stores), default_store="a", imports__max_parallel_stores="1")
    site.deploy()
    state, image_id = run(server.serve("/disk.raw", disk), stores=list(names))
    assert state.message == "imported to c, a, b"
    assert [site.stored(name) for name in names] == [{image_id: disk}] * 3
    rows = [location(site.catalog, image_id, name) for name in names]
    assert [row.id for row in rows if row] == sorted(row.id for row in rows if row)
    task = newest_task(site.catalog, image_id)
    key = artifact_key("stores", read_image(site.catalog, image_id).name or "", image_id)
    found = prefect_server.ask("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}})
    [table] = found
    assert [(row["store"], row["state"]) for row in json.loads(table["data"])] == [(name, "done") for name in names]
    assert table["flow_run_id"] == task.flow_run_id


# --- failure -----------------------------------------------------------------------------------


def test_an_answer_for_good_is_not_tried_again(site: Site, server: WebServer) -> None:
    state, image_id = run(server.on("/disk.raw", answer(404)))
    assert state.is_failed()
    assert "answered HTTP 404" in str(state.message)
    assert len(server.requests("/disk.raw")) == 1
    assert_nothing_left(site, image_id, str(state.message))


def test_data_of_another_format_are_refused(site: Site, server: WebServer, disk: bytes) -> None:
    state, image_id = run(server.serve("/disk.raw", disk), disk_format="qcow2")
    assert "the image declares disk_format qcow2 but its data are raw" in str(state.message)
    assert_nothing_left(site, image_id, str(state.message))


def test_an_address_that_is_not_allowed_any_more_is_refused(site: Site, server: WebServer, disk: bytes) -> None:
    site.set(uri__allowed_hosts="")
    state, image_id = run(server.serve("/disk.raw", disk))
    assert "is not accepted" in str(state.message)
    assert server.requests("/disk.raw") == []
    assert_nothing_left(site, image_id, str(state.message))


def test_one_store_that_fails_fails_all_when_all_must_succeed(site: Site, server: WebServer, disk: bytes) -> None:
    two_stores(site)
    state, image_id = run(server.serve("/disk.raw", disk), stores=["good", "bad"])
    assert state.is_failed()
    assert str(state.message).startswith("store bad is unavailable")
    assert site.stored("good") == {}
    image = read_image(site.catalog, image_id)
    assert (image.status, image.import_message) == (ImageStatus.QUEUED, state.message)
    # The store may come back, so what was downloaded waits for a rerun.
    assert len(staging_names(site.settings)) == 1
    (site.home / "blocked").unlink()
    asked(site.catalog, image, "good", "bad")


@pytest.mark.parametrize(
    ("strict", "ends"),
    [(True, [("good", "taken back"), ("bad", "failed")]), (False, [("good", "done"), ("bad", "failed")])],
    ids=["all must succeed", "some may fail"],
)
def test_run_and_task_show_where_each_store_stood_in_the_end(
    site: Site,
    server: WebServer,
    disk: bytes,
    prefect_server: PrefectServer,
    strict: bool,
    ends: list[tuple[str, str]],
) -> None:
    two_stores(site)
    site.set(imports__max_parallel_stores="1")
    uri = server.serve("/disk.raw", disk)
    _, image_id = run(uri, stores=["good", "bad"], all_stores_must_succeed=strict)
    task = newest_task(site.catalog, image_id)
    assert task.progress is not None
    assert (task.progress.phase == "done", task.progress.percent == 100.0) == (not strict, not strict)
    assert [(store.store, store.phase) for store in task.progress.stores] == ends
    name = read_image(site.catalog, image_id).name or ""
    keys = [artifact_key(kind, name, image_id) for kind in ("stores", "progress")]
    found = prefect_server.ask("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": keys}}})
    ended = f"{0 if strict else 1} of 2 stores hold the image"
    assert {artifact["type"]: artifact["description"] for artifact in found} == {"progress": ended, "table": ended}
    [table] = [json.loads(artifact["data"]) for artifact in found if artifact["type"] == "table"]
    assert [(row["store"], row["state"]) for row in table] == ends
    assert ["store bad is unavailable" in row["reason"] for row in table] == [False, True]


def test_what_a_late_publisher_has_to_say_does_not_replace_the_end(
    prefect_server: PrefectServer, catalog: Catalog
) -> None:
    image_id = str(uuid4())
    board = ProgressBoard(catalog, str(uuid4()), 1, image_id, ("good",))

    @flow
    def ends_before_its_publisher() -> None:
        closed = threading.Event()
        board.enter("place", 10)
        board.write_end()
        publisher = threading.Thread(target=copy_context().run, args=(board.publish_until, closed))
        publisher.start()
        until(lambda: board._published is not None, what="a look of the publisher")
        closed.set()
        publisher.join()

    ends_before_its_publisher()
    key = artifact_key("progress", "", image_id)
    [shown] = prefect_server.ask("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}})
    assert shown["description"] == "0 of 1 stores hold the image"


def test_a_store_that_is_not_mounted_fails_an_import_that_must_write_all(
    site: Site, server: WebServer, disk: bytes
) -> None:
    stores = {store: {"dir": str(site.home / store)} for store in ("good", "far")}
    site.set(stores=json.dumps(stores), default_store="good")
    site.deploy()
    mount, elsewhere = site.home / "far", site.home / "elsewhere"
    mount.rename(elsewhere)
    mount.mkdir()
    uri = server.serve("/disk.raw", disk)
    state, image_id = run(uri, stores=["good", "far"], all_stores_must_succeed=True)
    assert (state.type, read_image(site.catalog, image_id).status) == ("FAILED", ImageStatus.QUEUED)
    assert "store far is unavailable: its directory is not mounted" in str(state.message)
    assert str(site.home) not in str(state.message)
    assert (list(mount.iterdir()), site.stored("good")) == ([], {})
    mount.rmdir()
    elsewhere.rename(mount)
    state, image_id = run(uri, stores=["good", "far"], all_stores_must_succeed=True)
    assert state.name == "Imported"
    assert (mount / image_id).read_bytes() == disk


def test_one_store_that_fails_is_named_when_it_may(site: Site, server: WebServer, disk: bytes) -> None:
    two_stores(site)
    uri = server.serve("/disk.raw", disk)
    state, image_id = run(uri, stores=["bad", "good"], all_stores_must_succeed=False)
    assert (state.type, state.name) == ("FAILED", "Imported in part")
    assert str(state.message).startswith("imported to good; failed: store bad is unavailable")
    image = read_image(site.catalog, image_id)
    assert (image.status, image.failed_import) == (ImageStatus.ACTIVE, ("bad",))
    assert [each.store for each in image.locations] == ["good"]
    assert staging_names(site.settings) == set()


def test_an_object_that_is_not_ours_survives_the_failure(site: Site, server: WebServer, disk: bytes) -> None:
    image_id = str(uuid4())
    directory = site.settings.all_stores["local"].dir
    directory.mkdir(exist_ok=True)
    (directory / image_id).write_bytes(b"somebody else's")
    state, _ = run(server.serve("/disk.raw", disk), image_id=UUID(image_id))
    assert "already holds an object named" in str(state.message)
    assert site.stored() == {image_id: b"somebody else's"}


# --- runs --------------------------------------------------------------------------------------


def begin_run(flow: Flow[..., Any], **parameters: Any) -> UUID:
    with get_client(sync_client=True) as client:
        return client.create_flow_run(flow, parameters=parameters).id


def go_on(flow: Flow[..., Any], run_id: UUID) -> State[Any]:
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(run_id)
    state: State[Any] = run_flow(flow, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")  # type: ignore[assignment]  # the flow is sync
    return state


def test_a_run_that_is_retried_goes_on_with_its_one_image(site: Site, server: WebServer, disk: bytes) -> None:
    site.set(download__retries="0")
    run_id = begin_run(web_download, uri=server.on("/disk.raw", cut(disk, MIB), whole(disk)))
    assert go_on(web_download, run_id).is_failed()
    assert len(staging_names(site.settings)) == 1
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, AwaitingRetry(), force=True)
    assert go_on(web_download, run_id).name == "Imported"
    with site.catalog.read() as connection:
        assert connection.execute(select(func.count()).select_from(IMAGES)).scalar_one() == 1
    assert server.requests("/disk.raw")[1].headers["range"] == f"bytes={MIB}-"
    assert list(site.stored().values()) == [disk]
    assert staging_names(site.settings) == set()


class Away:
    """Stands before this machine's resolver: mirror.example is this machine, but of the first questions nobody knows.

    Attributes:
        left: further questions that get no answer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._system = socket.getaddrinfo
        self.left = 0
        monkeypatch.setattr("transship.sources.gate.socket.getaddrinfo", self._find)

    def _find(self, host: Any, *arguments: Any, **options: Any) -> Any:
        if host != "mirror.example":
            return self._system(host, *arguments, **options)
        if self.left:
            self.left -= 1
            raise socket.gaierror(socket.EAI_AGAIN, "as the test wants")
        return self._system("127.0.0.1", *arguments, **options)


@pytest.fixture
def away(site: Site, monkeypatch: pytest.MonkeyPatch) -> Away:
    site.set(uri__allowed_hosts="mirror.example")
    return Away(monkeypatch)


def test_name_servers_that_answer_at_the_second_attempt_are_enough(
    away: Away, site: Site, server: WebServer, disk: bytes
) -> None:
    server.serve("/disk.raw", disk)
    away.left = 1
    state, image_id = run(server.url("/disk.raw", "mirror.example"))
    assert (state.name, away.left) == ("Imported", 0)
    assert site.stored() == {image_id: disk}


def test_an_import_that_finds_no_name_server_keeps_its_partial_download(
    away: Away, site: Site, server: WebServer, disk: bytes
) -> None:
    site.set(download__retries="0")
    server.on("/disk.raw", cut(disk, MIB), whole(disk))
    run_id = begin_run(web_download, uri=server.url("/disk.raw", "mirror.example"))
    assert go_on(web_download, run_id).is_failed()
    for left, end in ((1, "Failed"), (0, "Imported")):
        away.left = left
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, AwaitingRetry(), force=True)
        state = go_on(web_download, run_id)
        assert state.name == end
        if left:
            assert "the name servers do not answer for host mirror.example now" in str(state.message)
            assert len(staging_names(site.settings)) == 1
    assert [request.headers.get("range") for request in server.requests("/disk.raw")] == [None, f"bytes={MIB}-"]
    assert list(site.stored().values()) == [disk]


def test_a_second_run_of_one_import_does_nothing(site: Site, server: WebServer, disk: bytes) -> None:
    image = queued_image(site.catalog)
    uri = server.serve("/disk.raw", disk)
    task = ask_import(site.catalog, image.id, web_order(uri), Caller(), NOW)
    ends = [run(uri, image_id=UUID(image.id), task_id=UUID(task.id))[0] for _ in range(2)]
    assert [(end.type, end.name) for end in ends] == [("COMPLETED", "Imported"), ("COMPLETED", "Superseded")]
    assert len(server.requests("/disk.raw")) == 1


def test_a_private_url_is_refused_before_anything_is_made(site: Site) -> None:
    state, image_id = run("http://user:pw@127.0.0.1/x.img")
    assert state.is_failed()
    with site.catalog.read() as connection:
        assert connection.execute(select(IMAGES.c.id).where(IMAGES.c.id == image_id)).first() is None


def test_housekeeping_says_what_it_did(site: Site, tmp_path: Path) -> None:
    assert housekeeping(return_state=True).message == "removed 0, kept for later 0, not ours 0"
    (site.settings.staging_dir / "stray.part").touch()
    swept = housekeeping(return_state=True)
    assert swept.message == "removed 0, kept for later 0, not ours 1"
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(swept.state_details.flow_run_id)
    assert run.name == f"housekeeping on {site.settings.host_name}: {swept.message}"
