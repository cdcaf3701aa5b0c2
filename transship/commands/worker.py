"""``transship worker``: the runner of a host alone."""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

from config.settings import Settings
from transship.commands.configuration import print_warnings, refuse_what_fails_imports
from transship.commands.context import Invocation
from transship.domain.errors import ConfigurationRefused
from transship.runner_status import read_runner_status, runner_status_path
from transship.supervisor.environment import base_environment, client_environment
from transship.supervisor.home import first_start

ELSEWHERE: Final = "a worker alone works for another host's services, so it has to be told where they are"


def worker(invocation: Invocation) -> NoReturn:
    """Become the runner of this host, for services that run elsewhere; ends with its exit status.

    Raises:
        ConfigurationRefused: a setting cannot be used, or does not say where the services are; nothing was started.
    """
    loaded = invocation.load()
    refuse_what_fails_imports(loaded)
    print_warnings(loaded)
    settings = loaded.settings
    _require_services(settings)
    first_start(settings)
    running = read_runner_status(runner_status_path(settings))
    if running is not None:
        raise ConfigurationRefused("start", "home", f"process {running.pid} is the runner of {settings.home} already")
    environment = client_environment(settings, base_environment(settings, invocation.variables()))
    # -P: a directory named like one of our packages in the working directory must not hide it.
    os.execve(sys.executable, (sys.executable, "-P", "-m", "transship.runner"), environment)  # noqa: S606 - no shell is meant


def _require_services(settings: Settings) -> None:
    if not settings.prefect.api_url:
        raise ConfigurationRefused("start", "prefect.api_url", f"is not set; {ELSEWHERE}")
    if not settings.database.url.get_secret_value():
        raise ConfigurationRefused("start", "database.url", f"is not set; {ELSEWHERE}")
    if not settings.stores:
        reason = "is not set, and the store under the home directory is this host's alone; name the stores of all hosts"
        raise ConfigurationRefused("start", "stores", reason)
