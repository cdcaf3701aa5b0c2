"""``transship worker``: only the runner of a host."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import Final, NoReturn

from config.loading import SNAPSHOT_VARIABLE
from config.settings import Settings
from config.snapshot import remove_others, take_snapshot
from transship.commands.configuration import print_warnings, refuse_what_fails_imports
from transship.commands.context import Invocation, print_problems
from transship.commands.prefect_http import PrefectHttp
from transship.domain.errors import ConfigurationRefused, LoginRefused, ServiceRefused, ServiceUnreachable
from transship.host.runner_status import read_runner_status, runner_status_path
from transship.supervisor.environment import base_environment, client_environment
from transship.supervisor.home import first_start, is_locked

ELSEWHERE: Final = "a worker serves the services of another host, so it needs their addresses"


def worker(invocation: Invocation) -> NoReturn:
    """Become the runner of this host for services on another one; ends with its exit status.

    Raises:
        ConfigurationRefused: a setting cannot be used, or does not lead to the services; nothing was started.
    """
    loaded = invocation.load()
    refuse_what_fails_imports(loaded)
    print_warnings(loaded)
    settings = loaded.settings
    _require_services(settings)
    first_start(settings)
    running = read_runner_status(runner_status_path(settings))
    if running is not None:
        raise ConfigurationRefused("start", "home", f"process {running.pid} already is the runner of {settings.home}")
    # A worker that reaches only Prefect would take runs from the other hosts and fail all of them.
    _ask_prefect(settings)
    _look_at_directories(settings)
    snapshot = take_snapshot(loaded, invocation.sources, supervised=False)
    if not is_locked(settings):
        remove_others(snapshot)
    environment = client_environment(settings, base_environment(settings, {SNAPSHOT_VARIABLE: str(snapshot)}))
    # Prefect would read options from files in the caller's working directory.
    os.chdir(settings.home)
    # -P: a directory in the working directory must not shadow one of our packages.
    os.execve(sys.executable, (sys.executable, "-P", "-m", "transship.runner"), environment)  # noqa: S606 - no shell is meant


def _ask_prefect(settings: Settings) -> None:
    prefect, pool = PrefectHttp.of(settings), settings.prefect.work_pool
    try:
        there = prefect.pool_type(pool)
    except ServiceUnreachable as fault:
        remedy = "check that it is up, and that its prefect.host is an address that this host reaches"
        reason = f"Prefect at {fault.url} does not answer: {fault.reason}"
        raise ConfigurationRefused("start", "prefect.api_url", reason, remedy) from fault
    except LoginRefused as fault:
        remedy = "set it to the line in prefect-auth of the first host's home directory"
        raise ConfigurationRefused("start", "prefect.auth_string", f"{prefect.url} refuses it", remedy) from fault
    except ServiceRefused as fault:
        reason = f"{prefect.url} is not a Prefect API: {fault}"
        raise ConfigurationRefused("start", "prefect.api_url", reason, "its URL ends in /api") from fault
    if there is None:
        reason = f"{prefect.url} has no work pool {pool}"
        raise ConfigurationRefused("start", "prefect.work_pool", reason, "'transship deploy' there creates it")


def _look_at_directories(settings: Settings) -> None:
    """Warn about stores that this host cannot use: its imports into them fail, others work.

    Raises:
        ConfigurationRefused: the catalogue cannot be opened.
    """
    # Importing this takes half a second, which an earlier refusal saves.
    from transship.catalog.engine import Catalog  # noqa: PLC0415
    from transship.staging.opening import staging_problem  # noqa: PLC0415
    from transship.stores_in_force import store_problem, stores_in_force, stores_left  # noqa: PLC0415

    with closing(Catalog.open(settings)) as catalog:
        stores = stores_in_force(settings, catalog)
        print_problems(store_problem(catalog, store_id, store) for store_id, store in stores.items())
        left = [each.problem for each in stores_left(settings, catalog)]
        print_problems([*left, staging_problem(settings, catalog)])


def _require_services(settings: Settings) -> None:
    if not settings.prefect.api_url:
        raise ConfigurationRefused("start", "prefect.api_url", "is not set", ELSEWHERE)
    if not settings.database.url.get_secret_value():
        raise ConfigurationRefused("start", "database.url", "is not set", ELSEWHERE)
    if not settings.stores:
        reason = "is not set, and the store in the home directory exists only on this host"
        raise ConfigurationRefused("start", "stores", reason, "name stores that all hosts share")
