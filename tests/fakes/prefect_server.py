"""A real Prefect server on loopback, with its own database, port and login."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from tests.fakes.ports import free_port
from tests.fakes.prefect_database import copy_prefect_database

SERVER = "transship.runner.prefect_server"
START_TIMEOUT_S = 540.0
STOP_TIMEOUT_S = 60.0

TUNING = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "2",
    "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
}

_ON_503 = Retry(total=8, backoff_factor=0.1, status_forcelist=(503,), allowed_methods=None)


class PrefectServer:
    """Start a server on entering and stop it on leaving.

    Attributes:
        url: of the API, without a trailing slash.
        auth_string: ``user:password`` of the API.
    """

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/api"
        self.auth_string = f"admin:{secrets.token_hex(16)}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables with which another process is a client of this server."""
        return {
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": self.auth_string,
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "DO_NOT_TRACK": "1",
        }

    @property
    def home(self) -> Path:
        """Where it keeps its database and its log."""
        return Path(self._directory.name)

    @contextmanager
    def as_client(self) -> Iterator[None]:
        """Make this process a client of the server for the duration of a block."""
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings  # noqa: PLC0415

        with temporary_settings({PREFECT_API_URL: self.url, PREFECT_API_AUTH_STRING: self.auth_string}):
            yield

    def apart(self, home: Path) -> dict[str, Any]:
        """Return settings with a work pool and a store that no other test has.

        A store block of a common name would send other tests' images into this one's directory.
        """
        unique = uuid4().hex[:8]
        return {
            "prefect": {"work_pool": f"pool-{unique}", "api_url": self.url},
            "stores": {f"store-{unique}": {"dir": str(home / "images")}},
            "default_store": f"store-{unique}",
        }

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send a request like the Prefect UI; return the JSON of the response; None without a body."""
        user, password = self.auth_string.split(":")
        with requests.Session() as session:
            # A server on SQLite answers 503 when two writes meet, and has done nothing then.
            session.mount(self.url, HTTPAdapter(max_retries=_ON_503))
            answer = session.request(method, self.url + path, json=body, auth=(user, password), timeout=120)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="prefect-")
        home = Path(self._directory.name)
        copy_prefect_database(home / "prefect.db")
        self._log = home / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    SERVER,
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self._port),
                ],
                env={**_inherited(), **TUNING, **self._server_environment(home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=home,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _server_environment(self, home: Path) -> Mapping[str, str]:
        return {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_API_PORT": str(self._port),
            "PREFECT_SERVER_API_AUTH_STRING": self.auth_string,
        }

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with urlopen(f"{self.url}/health", timeout=30):
                    return
            except (URLError, OSError):
                pass
            try:
                code = process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"the Prefect server ended with {code}:\n{self._log.read_text()[-4000:]}")
        raise RuntimeError(f"the Prefect server is not up after {START_TIMEOUT_S} s:\n{self._log.read_text()[-4000:]}")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end_group(process)
        if self._directory is not None:
            self._directory.cleanup()


def _inherited() -> dict[str, str]:
    """The environment without variables that would make the server a client of another one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
