"""Bounds on the costs of one import and on the files that an addition touches; lower them after improvements.

`make bench ARGS='economy'` measures the same of a running system.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import statistics
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from sqlalchemy import Engine, event

from bench.probe import READS, WRITES, below_the_task, watch_reads, watch_writes
from bench.touched import files_of_a_kind, files_of_a_method, files_of_endpoints
from deployments.apply import apply
from flows.web_download import web_download
from tests.acceptance.conftest import api_server, imports
from tests.fakes.asked_imports import AskedImports
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.statements import Statements as Sent
from tests.fakes.web_server import WebServer
from tests.flows.conftest import prefect_client, server, site
from transship.catalog.hosts import HEARD_EVERY_S
from transship.domain.image import ImageStatus
from transship.keeper.__main__ import LEASE_RENEWED_S, Duties
from transship.keeper.courier import Couriers
from transship.keeper.dispatch import send_outbox
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi

__all__ = ["api_server", "imports", "prefect_client", "server", "site"]

TREE: Final = Path(__file__).parents[2]

STATEMENTS: Final = 54
"""Statements to the catalogue from creating an image to its active state, of all processes together."""
STATEMENTS_A_SECOND: Final = 0.5
"""Statements that an idle system sends: the keeper's duties and its lease, and the worker's sign of life."""
FRAMES_AT_THE_READ: Final = 5
"""Our own functions between the Prefect task and the socket that a download is read from."""
FRAMES_AT_THE_WRITE: Final = 7
"""Our own functions between the Prefect task and the system call that writes into a store."""
FILES_THAT_NAME_A_KIND: Final = 5
"""Files of the product that name the file store: what a further kind would touch or bring."""
FILES_THAT_NAME_A_METHOD: Final = 4
"""Files of the product that name the import method that most of them name."""
FILES_OF_AN_ENDPOINT: Final = 4
"""Route, handler, and the files that an operation of the API alone asks something of; the median of all operations."""

TIMED: Final = ("transship-lease", "transship-progress")
"""Threads of an import that write whenever their time comes."""
IDLE_S: Final = 600.0
"""As long as the longest pause between two equal duties; the clock is the test's."""
BODY: Final = os.urandom(1 << 20)
MODES: Final = {"first": "0640", "second": "0600"}
"""Modes of the files of two stores."""


class Statements:
    """Counts the statements of all catalogues of this process by sender."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.texts: list[str] = []
        self._sender = ""

    @contextmanager
    def of(self, sender: str) -> Iterator[None]:
        """Count within the block."""
        self._sender = sender
        yield
        self._sender = ""

    def before(self, _connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if self._sender and threading.current_thread().name not in TIMED:
            self.sent[self._sender] += 1
            self.texts.append(f"{self._sender}: {' '.join(statement.split())[:120]}")


@pytest.fixture
def statements() -> Iterator[Statements]:
    counted = Statements()
    event.listen(Engine, "before_cursor_execute", counted.before)
    yield counted
    event.remove(Engine, "before_cursor_execute", counted.before)


@pytest.fixture
def keeper(imports: AskedImports, prefect_server: PrefectServer) -> Keeper:
    """A keeper with its own deployments, pool and store."""
    # A directory of its own: `images` has the mark of another store.
    apart = prefect_server.apart(imports.site.home / "apart")
    imports.site.set(
        prefect__work_pool=apart["prefect"]["work_pool"],
        prefect__api_url=prefect_server.url,
        prefect__auth_string=prefect_server.auth_string,
        stores=json.dumps(apart["stores"]),
        default_store=apart["default_store"],
        lease__renew_s="1200",
        lease__ttl_s="3600",
    )
    apply(imports.site.settings)
    prefect = PrefectApi(prefect_server.url, prefect_server.auth_string)
    return Keeper(imports.site.settings, imports.site.catalog, prefect, "the only one")


def import_one(imports: AskedImports, keeper: Keeper, uri: str, statements: Statements) -> None:
    """Import an image as in a running system, one process after another."""
    with statements.of("api"):
        image_id = imports.create()
        assert imports.ask(image_id, uri).status_code == 202
    with statements.of("keeper"):
        assert send_outbox(keeper) == 1
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(imports.task(image_id).flow_run_id)  # type: ignore[arg-type]  # a UUID as text
    with statements.of("flow"):
        run_flow(web_download, flow_run=run, parameters=run.parameters, return_type="state")
    assert imports.image(image_id).status is ImageStatus.ACTIVE


@pytest.mark.real
def test_the_second_import_of_a_process_sends_few_statements(
    imports: AskedImports, keeper: Keeper, server: WebServer, statements: Statements
) -> None:
    uri = server.serve("/disk.img", BODY)
    import_one(imports, keeper, uri, statements)
    statements.sent.clear()
    statements.texts.clear()
    import_one(imports, keeper, uri, statements)
    print("\n".join([*statements.texts, f"{statements.sent.total()}: {dict(statements.sent)}"]))
    assert statements.sent.total() <= STATEMENTS


@pytest.mark.real
def test_an_idle_system_sends_few_statements(keeper: Keeper) -> None:
    duties = Duties(keeper, Couriers(keeper.catalog, [], 1))
    now = 1000.0
    with Sent(keeper.catalog.engine) as sent:
        while now < 1000.0 + IDLE_S:
            duties.do(now)
            now = max(now, duties.next_at)
    print("\n".join(sent.made))
    by_duties = (len(sent.made) + sent.transactions) / IDLE_S
    assert 0.0 < by_duties + 1 / LEASE_RENEWED_S + 1 / HEARD_EVERY_S <= STATEMENTS_A_SECOND


@pytest.fixture
def deepest(monkeypatch: pytest.MonkeyPatch, imports: AskedImports, server: WebServer) -> dict[str, Sequence[str]]:
    """Most of our own frames at a read from the source and at a write to the store."""
    found: dict[str, Sequence[str]] = {}

    def record(what: str, frames: Sequence[str]) -> None:
        found[what] = max(found.get(what, ()), below_the_task(frames), key=len)

    for name in READS:
        monkeypatch.setattr(socket.socket, name, getattr(socket.socket, name))
    for name in WRITES:
        monkeypatch.setattr(os, name, getattr(os, name))
    monkeypatch.setattr(fcntl, "ioctl", fcntl.ioctl)
    watch_reads(TREE, server.port, record)
    watch_writes(TREE, imports.site.home / "second", record)
    return found


@pytest.mark.real
def test_few_functions_stand_between_a_task_and_the_bytes(
    imports: AskedImports, server: WebServer, deepest: dict[str, Sequence[str]]
) -> None:
    # A file that another store has too is copied where its mode differs: the bytes are written, not linked.
    stores = {name: {"dir": str(imports.site.home / name), "file_mode": mode} for name, mode in MODES.items()}
    imports.site.set(stores=json.dumps(stores), default_store="first", imports__max_parallel_stores="1")
    image_id = imports.create()
    assert imports.ask(image_id, server.serve("/disk.img", BODY), stores=["first", "second"]).status_code == 202
    assert imports.carry(image_id).is_completed()
    print("\n".join(f"{what}\n  " + "\n  ".join(frames) for what, frames in deepest.items()))
    assert 0 < len(deepest["read"]) <= FRAMES_AT_THE_READ
    assert 0 < len(deepest["write"]) <= FRAMES_AT_THE_WRITE


def test_few_files_name_a_kind_of_store() -> None:
    files = files_of_a_kind(TREE)
    assert 0 < len(files) <= FILES_THAT_NAME_A_KIND, sorted(files)


def test_few_files_name_an_import_method() -> None:
    files = files_of_a_method(TREE)
    assert 0 < len(files) <= FILES_THAT_NAME_A_METHOD, sorted(files)


def test_few_files_are_of_one_endpoint_alone() -> None:
    files = files_of_endpoints(TREE)
    print("\n".join(f"{len(found):>3} {name}: {', '.join(sorted(found))}" for name, found in files.items()))
    assert len(files) > 20
    assert statistics.median(map(len, files.values())) <= FILES_OF_AN_ENDPOINT
