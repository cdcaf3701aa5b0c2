"""Environments of the supervised processes. Secrets travel here, never in arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from config.secrets import prefect_auth_string, prefect_encryption_key
from config.settings import Settings
from transship.host.caller_environment import inherited
from transship.host.logs import FLOW_ROOMS
from transship.supervisor.home import prefect_dir

NOBODY: Final = Path(__file__).with_name("nobody.pem")
"""A certificate that signs nothing: its key was thrown away."""


def base_environment(settings: Settings, overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that every process gets: allowed variables of the caller, and where to find the settings.

    Args:
        settings: in force.
        overrides: ``TRANSSHIP_…`` variables; names the snapshot of these settings.
    """
    return {
        # With one heap a thread, what a thread has freed stays with it.
        "MALLOC_ARENA_MAX": "2",
        **inherited(os.environ),
        **overrides,
        "TRANSSHIP_HOME": str(settings.home),
        # Unbuffered, so lines appear in the log when they are written.
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


def client_environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that talks to Prefect: the worker, its runs, deploy.

    Raises:
        ConfigurationRefused: the Prefect login cannot be read.
    """
    forced = {"PREFECT_HOME": str(prefect_dir(settings)), "PREFECT_API_URL": settings.prefect_api_url}
    if settings.prefect_api_url.startswith("http:"):
        # There is nothing to verify, yet each client would load all trusted certificates: a megabyte, and 50 ms.
        forced["PREFECT_API_SSL_CERT_FILE"] = str(NOBODY)
    auth_string = prefect_auth_string(settings)
    if auth_string:
        forced["PREFECT_API_AUTH_STRING"] = auth_string
    return {**_client_tuning(settings), **base, **forced}


def asynchronous(database_url: str) -> str:
    """Return a PostgreSQL URL with the only driver that Prefect's server supports; return other URLs unchanged."""
    scheme, separator, rest = database_url.partition("://")
    if scheme.split("+")[0] in ("postgresql", "postgres"):
        return f"postgresql+asyncpg{separator}{rest}"
    return database_url


def server_environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the supervised Prefect server.

    An operator's own ``PREFECT_…`` variables override the tuning, but not address and secrets.

    Raises:
        ConfigurationRefused: a secret cannot be read.
    """
    auth_string = prefect_auth_string(settings)
    forced = {
        "PREFECT_HOME": str(prefect_dir(settings)),
        # Not --port: the UI would then still request port 4200.
        "PREFECT_SERVER_API_HOST": settings.prefect.host,
        "PREFECT_SERVER_API_PORT": str(settings.prefect.port),
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_ENCRYPTION_KEY": prefect_encryption_key(settings),
        # The server's own services are clients of its API.
        "PREFECT_API_AUTH_STRING": auth_string,
    }
    database_url = settings.prefect.database_url.get_secret_value()
    if database_url:
        forced["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = asynchronous(database_url)
    return {**_server_tuning(settings), **base, **forced}


def fork_server_environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for importing Prefect in the fork server: no addresses, no secrets.

    Each forked component gets its own environment before it runs; this one is for what Prefect reads at import.
    """
    tuning = {**_server_tuning(settings), **_client_tuning(settings)}
    # Handlers for our loggers would stay in components that do not use Prefect.
    del tuning["PREFECT_LOGGING_EXTRA_LOGGERS"]
    return {**tuning, **base, "PREFECT_HOME": str(prefect_dir(settings))}


def _client_tuning(settings: Settings) -> dict[str, str]:
    return {
        "PREFECT_WORKER_QUERY_SECONDS": str(settings.prefect.poll_interval_s),
        # The runner watches for cancelled runs itself.
        "PREFECT_WORKER_ENABLE_CANCELLATION": "false",
        # The minimum that Prefect accepts: a lost run is noticed after a few missed heartbeats.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(FLOW_ROOMS),
        # What an executor logs between two runs belongs to no run.
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_LOGGING_LEVEL": settings.log.level,
        "PREFECT_LOGGING_COLORS": "false",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
    }


def _server_tuning(settings: Settings) -> dict[str, str]:
    return {
        # Without it, slots held by a run that died with the server would never be given back.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # Batches: with the default sizes Prefect writes one row at a time, which locks SQLite against new runs.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "2",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        # ISO 8601: one of the two periods does not accept plain seconds.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": f"P{settings.prefect.retention_days}D",
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"PT{settings.prefect.event_retention_h}H",
        # Events are kept at most this much longer than configured; Prefect's default is an hour.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "600",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # By default the server copies its UI into the installation, which may be read-only.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(prefect_dir(settings) / "ui"),
        "PREFECT_LOGGING_COLORS": "false",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
    }
