from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.secrets import prefect_auth_string, prefect_encryption_key
from config.settings import Settings
from transship.supervisor.component import Component
from transship.supervisor.home import first_start
from transship.supervisor.table import process_table

READ_BACK = """
import json, sys
from prefect.settings import get_current_settings
from prefect.settings.models.root import Settings
def names(model, found):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            names(field.annotation, found)
        else:
            found.add((model.model_config.get("env_prefix", "") + name).upper())
    return found
s = get_current_settings()
print(json.dumps({
    "known": sorted(names(Settings, set())),
    "port": s.server.api.port,
    "auth": s.server.api.auth_string.get_secret_value() if s.server.api.auth_string else "",
    "client": s.api.auth_string.get_secret_value() if s.api.auth_string else "",
    "url": s.api.url,
    "home": str(s.home),
    "vacuum": sorted(s.server.services.db_vacuum.enabled_vacuum_types),
    "retention_h": [
        period.total_seconds() / 3600
        for period in (s.server.services.db_vacuum.retention_period, s.server.events.retention_period)
    ],
    "vacuum_s": s.server.services.db_vacuum.loop_seconds,
    "leases": s.server.concurrency.lease_storage,
    "analytics": s.server.analytics_enabled,
    "ui": s.server.ui.static_directory,
    "query": s.worker.query_seconds,
    "loggers": s.logging.extra_loggers,
}))
"""


def table_of(home: Path, overrides: dict[str, str] | None = None, **prefect: object) -> dict[str, Component]:
    settings = settings_of(home, **prefect)
    first_start(settings)
    return {component.name: component for component in process_table(settings, overrides or {})}


def settings_of(home: Path, **prefect: object) -> Settings:
    return Settings.model_validate({"home": home, "host_name": "h1", "prefect": prefect})


def read_back(component: Component) -> dict[str, Any]:
    command = [sys.executable, "-c", READ_BACK]
    done = subprocess.run(command, env=component.environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", ["prefect-server", "worker"])
def test_prefect_knows_every_variable_that_it_is_given(tmp_path: Path, name: str) -> None:
    component = table_of(tmp_path)[name]
    given = {variable for variable in component.environment if variable.startswith("PREFECT_")}
    # Read from the environment by prefect.server.utilities.encryption, and the switch of tests/conftest.py.
    elsewhere = {"PREFECT_SERVER_ENCRYPTION_KEY", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"}
    assert given - elsewhere <= set(read_back(component)["known"])


def test_the_server_reads_address_secrets_and_tuning(tmp_path: Path) -> None:
    found = read_back(table_of(tmp_path, port=14299, retention_days=12, event_retention_h=36)["prefect-server"])
    settings = settings_of(tmp_path)
    assert found["auth"] == prefect_auth_string(settings)
    assert (found["port"], found["home"]) == (14299, str(tmp_path / "prefect"))
    assert found["retention_h"] == [12 * 24, 36]
    assert found["vacuum_s"] <= 600
    assert {"events", "flow_runs"} <= set(found["vacuum"])
    assert found["leases"] == "prefect.server.concurrency.lease_storage.filesystem"
    assert found["analytics"] is False
    # Not below the installation, which may be read-only.
    assert found["ui"] == str(tmp_path / "prefect" / "ui")


def test_the_worker_reads_where_prefect_is(tmp_path: Path) -> None:
    found = read_back(table_of(tmp_path, port=14299, poll_interval_s=7)["worker"])
    assert (found["url"], found["query"]) == ("http://127.0.0.1:14299/api", 7)
    assert found["client"] == prefect_auth_string(settings_of(tmp_path))
    assert {"transship", "tasks", "flows"} <= set(found["loggers"])


def test_no_secret_stands_in_an_argument(tmp_path: Path) -> None:
    table = table_of(tmp_path, database_url="postgresql+asyncpg://prefect:hush@db/prefect")
    settings = settings_of(tmp_path)
    secrets = (prefect_auth_string(settings).partition(":")[2], prefect_encryption_key(settings), "hush")
    arguments = " ".join(argument for component in table.values() for argument in component.argv)
    assert not [secret for secret in secrets if secret in arguments]
    assert "hush" in table["prefect-server"].environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"]


@pytest.mark.parametrize(
    ("configured", "given"),
    [
        ("postgresql://p:hush@db/prefect", "postgresql+asyncpg://p:hush@db/prefect"),
        ("postgres://p@db/prefect", "postgresql+asyncpg://p@db/prefect"),
        ("postgresql+psycopg://p@db/prefect", "postgresql+asyncpg://p@db/prefect"),
        ("postgresql+asyncpg://p@db/prefect?ssl=require", "postgresql+asyncpg://p@db/prefect?ssl=require"),
        ("sqlite+aiosqlite:////data/prefect.db", "sqlite+aiosqlite:////data/prefect.db"),
    ],
)
def test_prefects_server_gets_its_database_with_the_driver_that_it_can_use(
    tmp_path: Path, configured: str, given: str
) -> None:
    table = table_of(tmp_path, database_url=configured)
    assert table["prefect-server"].environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == given


def test_api_and_keeper_get_no_secret_of_prefect_in_their_environment(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    for name in ("api", "keeper"):
        assert not [variable for variable in table[name].environment if variable.endswith("AUTH_STRING")]


def test_an_operators_own_tuning_wins_and_another_prefect_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere.example/api")
    monkeypatch.setenv("PREFECT_API_KEY", "another")
    worker = table_of(tmp_path)["worker"].environment
    assert worker["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert worker["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert "PREFECT_API_KEY" not in worker


def test_overrides_of_the_command_line_reach_every_process(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"TRANSSHIP_API__PORT": "9393"})
    assert {component.environment["TRANSSHIP_API__PORT"] for component in table.values()} == {"9393"}
    assert {component.environment["TRANSSHIP_HOME"] for component in table.values()} == {str(tmp_path)}


def test_a_prefect_run_by_others_is_not_supervised(tmp_path: Path) -> None:
    table = table_of(tmp_path, api_url="http://prefect.example:4200/api/", auth_string="a:b")
    assert list(table) == ["deploy", "keeper", "worker", "api"]
    assert table["worker"].environment["PREFECT_API_URL"] == "http://prefect.example:4200/api"
    assert table["worker"].environment["PREFECT_API_AUTH_STRING"] == "a:b"


def test_what_reports_to_another_stops_before_it(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    by_rank = sorted(("worker", "api", "keeper", "prefect-server"), key=lambda name: table[name].stop_rank)
    assert by_rank == ["worker", "api", "keeper", "prefect-server"]
    assert table["prefect-server"].stage < table["deploy"].stage < table["keeper"].stage
    assert table["deploy"].stage < table["worker"].stage
