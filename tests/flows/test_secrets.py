"""Prefect stores no secrets of imports anywhere."""

from __future__ import annotations

import base64
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_RESULTS_PERSIST_BY_DEFAULT,
    get_current_settings,
    temporary_settings,
)

from tests.acceptance.conftest import api_server, imports
from tests.fakes.asked_imports import AskedImports
from tests.fakes.keystone import Keystone
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.remote_imports import RemoteImports
from tests.fakes.system import until
from tests.fakes.web_server import WebServer, answer, cut, whole

pytestmark = pytest.mark.real

__all__ = ["api_server", "imports"]

BODY = os.urandom(100_000)


@pytest.fixture(autouse=True)
def talkative() -> Iterator[None]:
    """Prefect gets all logs, and keeps results of whatever does not say that it must not."""
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True, PREFECT_RESULTS_PERSIST_BY_DEFAULT: True}):
        yield


def kept(server: PrefectServer, run_id: object, last: str) -> str:
    """Return all that Prefect holds, once it has heard of a run's last task."""

    def known() -> bool:
        wanted = {"flow_runs": {"id": {"any_": [str(run_id)]}}}
        runs = server.ask("POST", "/task_runs/filter", wanted)
        return any(run["name"] == last and run["state_type"] in ("COMPLETED", "FAILED") for run in runs)

    APILogHandler().flush()
    until(known, 120.0, f"the task {last} in Prefect")
    with closing(sqlite3.connect(f"file:{server.home / 'prefect.db'}?mode=ro", uri=True)) as database:
        dumped = "\n".join(database.iterdump())
    return dumped + (server.home / "server.log").read_text(errors="replace") + results()


def results() -> str:
    """Return what this process keeps of results."""
    storage = Path(get_current_settings().results.local_storage_path)
    files = [path for path in storage.rglob("*") if path.is_file()] if storage.exists() else []
    return "\n".join(path.read_text(errors="replace") for path in files)


def assert_unknown(found: str, *secrets: str) -> None:
    for secret in secrets:
        encoded = base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
        assert secret not in found
        assert encoded not in found


def run_id_of(state: State[Any]) -> object:
    return state.state_details.flow_run_id


def test_a_url_with_secrets_goes_nowhere_in_prefect_when_it_is_imported_or_refused(
    imports: AskedImports, server: WebServer, prefect_server: PrefectServer
) -> None:
    session, signature = f"session-{uuid4().hex}", f"signature-{uuid4().hex}"
    secret = f";id={session}"
    good = server.on(f"/good.img{secret}", cut(BODY, 50_000), whole(BODY)) + f"?signature={signature}"
    bad = server.on(f"/bad.img{secret}", answer(403)) + f"?signature={signature}"
    state, image_id = imports.bring(good)
    assert state.is_completed(), state.message
    refused, _ = imports.bring(bad)
    assert refused.is_failed()
    found = kept(prefect_server, run_id_of(state), "finish")
    found += kept(prefect_server, run_id_of(refused), f"stage {bad.partition(';')[0]}")
    assert image_id in found
    assert "Imported" in found
    assert_unknown(found, session, signature)


def test_a_callers_token_goes_nowhere_in_prefect(
    imports: AskedImports, server: WebServer, prefect_server: PrefectServer
) -> None:
    with Keystone() as keystone:
        remotes = RemoteImports(imports, keystone, server)
        token = remotes.imports.token
        remote_id = remotes.glance.image(BODY)
        state, image_id = remotes.bring(remote_id)
        assert state.is_completed(), state.message
        assert remotes.glance.asked_for_data(remote_id)[0].headers["x-auth-token"] == token
        found = kept(prefect_server, run_id_of(state), "finish")
    assert image_id in found
    assert_unknown(found, token)
