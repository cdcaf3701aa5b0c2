"""`transship worker` checks its settings before it takes runs that another host could carry out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from config.loading import load_settings
from tests.fakes.images import prepare_stores
from tests.fakes.ports import free_port
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner
from transship.catalog.engine import Catalog
from transship.cli import main
from transship.commands.doctor import Level, check_prefect
from transship.commands.status import _gathered, _worker


class Started(Exception):
    """The command has become the runner."""


@pytest.fixture
def told(
    prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    """Tell a worker where the services are, all of them as they should be."""
    home = tmp_path / "first"
    home.mkdir()
    runner = Runner(prefect_server, home)
    runner.make_pool()
    variables: Mapping[str, str] = {
        "HOME": str(tmp_path / "second"),
        "HOST_NAME": "second",
        "PREFECT__API_URL": prefect_server.url,
        "PREFECT__AUTH_STRING": prefect_server.auth_string,
        "PREFECT__WORK_POOL": runner.pool,
        "DATABASE__URL": f"sqlite:///{tmp_path}/shared.db",
        "DATABASE__SECRET_KEY": Fernet.generate_key().decode(),
        "STORES": f'{{"local": {{"dir": "{tmp_path}/images"}}}}',
        "DEFAULT_STORE": "local",
    }
    for name, text in variables.items():
        monkeypatch.setenv(f"TRANSSHIP_{name}", text)
    with closing(Catalog.open(load_settings(environ=os.environ).settings)):
        yield monkeypatch


def started(monkeypatch: pytest.MonkeyPatch) -> bool:
    def become(*_: object) -> None:
        raise Started

    monkeypatch.setattr("os.execve", become)
    monkeypatch.setattr("sys.argv", ["transship", "worker"])
    try:
        main()
    except Started:
        return True
    except SystemExit:
        pass
    return False


def test_a_worker_that_reaches_everything_starts(
    told: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(environ=os.environ).settings
    with closing(Catalog.open(settings)) as catalog:
        prepare_stores(settings, catalog)
    assert started(told)
    assert "warning" not in capsys.readouterr().err


def test_a_worker_names_a_store_that_its_host_has_not_mounted(
    told: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started(told)
    said = capsys.readouterr().err
    assert "warning: store local is unavailable: its directory is not mounted" in said
    assert f"Mount {tmp_path}/images" in said
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PREFECT__API_URL", f"http://127.0.0.1:{free_port()}/api", "prefect.api_url: Prefect at"),
        ("PREFECT__AUTH_STRING", "admin:wrong", "prefect.auth_string: "),
        ("PREFECT__WORK_POOL", "another", "has no work pool another; 'transship deploy' there creates it"),
        ("DATABASE__URL", "sqlite:////proc/none/catalog.db", "database.url: "),
        ("DATABASE__SECRET_KEY", Fernet.generate_key().decode(), "database.secret_key: "),
    ],
    ids=["address", "password", "pool", "catalogue", "key"],
)
def test_a_worker_that_was_told_something_wrong_takes_no_run(
    told: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, said: str
) -> None:
    told.setenv(f"TRANSSHIP_{variable}", value)
    assert not started(told)
    assert said in capsys.readouterr().err


def test_status_and_doctor_say_how_to_mend_a_refused_log_in(told: pytest.MonkeyPatch) -> None:
    told.setenv("TRANSSHIP_PREFECT__AUTH_STRING", "admin:wrong")
    settings = load_settings(environ=os.environ).settings
    (found,) = check_prefect(settings)
    assert found.level is Level.FAIL
    assert found.text.startswith("Prefect refuses the log-in (HTTP 401); set prefect.auth_string to that server's")
    shown = _gathered(_worker, settings)
    assert not shown.good
    assert found.text in "".join(shown.lines)
