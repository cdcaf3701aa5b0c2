"""Fixtures for the tests of all rooms."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import certifi
import hypothesis
import pytest
from sqlalchemy import Connection, Engine, event
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.fakes.ceph import Ceph
from tests.fakes.databases import DATABASES, POSTGRESQL, SQLITE
from tests.fakes.images import settings_in
from tests.fakes.postgres import postgres_binaries
from tests.fakes.prefect_database import share_prefect_database
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.rabbitmq import RabbitServer, rabbitmq_is_installed
from transship.catalog.engine import Catalog

REPOSITORY = Path(__file__).parents[1]
PEERS = frozenset({"ceph", "cloud"})
"""Fixtures that start what only ``--peers`` installs."""

Run = tuple[str, int]
"""A directory that all processes of a test run share, and the pid of the one that lives as long as the run."""

RUN = pytest.StashKey[Run]()

LONGEST = (
    "tests/system/shared",
    "tests/system/plugins",
    "tests/system/clouds",
    "tests/system/postgresql",
    "tests/system/retries",
    "tests/system/kills",
    "tests/system/test_stopped_processes.py",
    "tests/system/test_settings_in_force.py",
    "tests/system/test_host.py",
    "tests/peers",
    "tests/contract",
    "tests/faults/test_every_step.py",
    "tests/runner/test_runs.py",
    "tests/runner/test_life.py",
)
"""Units that take longest, the longest first. Workers begin with them, so that none is left alone at the end."""


def _isolate_prefect() -> None:
    """Keep Prefect away from the profile of whoever runs the tests, and from starting servers unasked.

    Prefect reads its settings when it is first imported, so this cannot wait for a fixture.
    """
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="prefect-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    # Each client of Prefect loads all trusted certificates, even for HTTP. No test speaks HTTPS to it, so one will do.
    certificate = Path(home, "certificate.pem")
    certificate.write_text(certifi.contents().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    os.environ.update(
        PREFECT_HOME=home,
        PREFECT_API_SSL_CERT_FILE=str(certificate),
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
    )


_isolate_prefect()
share_prefect_database()


@event.listens_for(Engine, "before_cursor_execute")
def _refuse_second_statement(connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
    """Refuse a second statement where the product promised one: nothing would make them one transaction."""
    if connection.get_execution_options().get("transship_one"):
        first = ONLY_STATEMENTS.setdefault(connection, statement)
        assert first == statement, f"not in one transaction:\n{first}\n{statement}"


ONLY_STATEMENTS: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()

# No test asserts times: on a loaded machine both limits fail what is right.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=(SQLITE, POSTGRESQL),
        default=SQLITE,
        help="where catalogues live: in SQLite files, or in a PostgreSQL server that the tests start",
    )

    parser.addoption(
        "--peers", action="store_true", help="also run what needs a real Keystone, Glance and Ceph: they are installed"
    )
    parser.addoption("--pictures", metavar="DIRECTORY", help="keep screenshots of Prefect's UI there")


def pytest_configure(config: pytest.Config) -> None:
    """Begin a run: install what Ceph's clients need before modules of tests import it."""
    if config.getoption("--peers") and not hasattr(config, "workerinput"):
        subprocess.run([REPOSITORY / "scripts" / "ceph-environment"], check=True, stdin=subprocess.DEVNULL)
        importlib.invalidate_caches()
        config.stash[RUN] = (tempfile.mkdtemp(prefix="transship-tests-"), os.getpid())


def pytest_configure_node(node: WorkerController) -> None:
    """Tell a worker which run it belongs to."""
    if node.config.getoption("--peers"):
        node.workerinput["run"] = node.config.stash[RUN]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what the processes of the run share."""
    if RUN in config.stash:
        Ceph.end_shared(Path(config.stash[RUN][0]))
        shutil.rmtree(config.stash[RUN][0])


@cache
def unit_of(file: str) -> str:
    """Return the unit that one worker runs: a file, or a package whose files share a system."""
    directory = file.rpartition("/")[0]
    return directory if Path(REPOSITORY, directory, "__init__.py").exists() else file


class UnitScheduling(LoadScopeScheduling):
    """Give each unit to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> UnitScheduling:
    return UnitScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs peers, and start the longest units first when several workers run."""
    for item in items:
        if isinstance(item, pytest.Function) and not PEERS.isdisjoint(item.fixturenames):
            item.add_marker("peers")
    if hasattr(config, "workerinput"):
        rank = {unit: number for number, unit in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(unit_of(item.nodeid.partition("::")[0]), len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs peers, unless they may be installed."""
    if item.get_closest_marker("peers") and not item.config.getoption("--peers"):
        pytest.skip("installs and starts a real Keystone, Glance or Ceph; run make test-peers")


@pytest.fixture(scope="session")
def ceph(request: pytest.FixtureRequest) -> Iterator[Ceph]:
    """The real Ceph that all processes of this run share; a test that stops a daemon must start it again.

    A test that gets it another way than by this name has to carry the marker ``peers``.
    """
    worker = getattr(request.config, "workerinput", None)
    directory, owner = worker["run"] if worker else request.config.stash[RUN]
    running = Ceph.shared(Path(directory), owner)
    yield running
    if request.session.testsfailed:
        print(running.last_words())


@pytest.fixture(scope="session", autouse=True)
def database_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """The PostgreSQL server of this test session, if it uses one."""
    if request.config.getoption("--database") == SQLITE:
        yield
        return
    if postgres_binaries() is None:
        pytest.skip("PostgreSQL's server programs are not installed (apt-get install postgresql)")
    DATABASES.start()
    yield
    DATABASES.stop()


@pytest.fixture(autouse=True)
def databases_of_test(database_server: None) -> Iterator[None]:
    """Remove a test's databases from the server, but not those of the whole session."""
    with DATABASES.dropped_afterwards():
        yield


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[PrefectServer]:
    """A real Prefect server for this test session; tests distinguish their objects by name."""
    with PrefectServer() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitServer]:
    """A real RabbitMQ for this test session; a test that stops it must restart it."""
    if not rabbitmq_is_installed():
        pytest.skip("RabbitMQ is not installed (apt-get install rabbitmq-server)")
    with RabbitServer() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory whose catalogue is migrated and empty; copying it is faster than migrating again."""
    home = tmp_path_factory.mktemp("migrated")
    Catalog.open(settings_in(home)).close()
    return home


@pytest.fixture
def notification_drivers() -> tuple[str, ...]:
    """Sinks of the catalogue's notifications; without any none are written. Rooms that look at them have others."""
    return ()


@pytest.fixture
def catalog(migrated_home: Path, tmp_path: Path, notification_drivers: tuple[str, ...]) -> Iterator[Catalog]:
    shutil.copytree(migrated_home, tmp_path, dirs_exist_ok=True)
    opened = Catalog.open(settings_in(tmp_path, notifications={"drivers": notification_drivers}))
    yield opened
    opened.close()
