"""``transship up`` and ``transship down``."""

from __future__ import annotations

import os
import pickle
import sys
from typing import NoReturn

from config.loading import SNAPSHOT_VARIABLE, LoadedSettings
from config.options import CONFIG_VARIABLE
from config.reading import REMEMBERED
from config.remembered import remember
from config.secrets import prefect_auth_file
from config.settings import Settings
from config.snapshot import newest_snapshot, read_snapshot, remove_others, take_snapshot
from transship.commands.api_address import api_address
from transship.commands.context import RED, Invocation, coloured
from transship.domain.errors import ConfigurationRefused
from transship.host.processes import describe_exit
from transship.supervisor.component import Component
from transship.supervisor.home import log_dir, prepare
from transship.supervisor.launch import Launch, run_in_background, run_in_foreground, stop_running
from transship.supervisor.output import Console
from transship.supervisor.reloading import refuse_fixed_changes
from transship.supervisor.table import fork_server, process_table


def up(invocation: Invocation, *, detach: bool) -> int:
    """Start everything and keep it running, here or in the background.

    Returns:
        0 after an orderly stop or, in the background, when everything is up; 1 if the start failed.

    Raises:
        ConfigurationRefused: a setting, a port or the home directory cannot be used; nothing was started.
    """
    loaded = invocation.load()
    _check_apart(loaded)
    settings = loaded.settings
    lock = prepare(settings)
    remove_others(take_snapshot(loaded, invocation.sources, supervised=True))

    def plan() -> tuple[Component, ...]:
        path = newest_snapshot(settings.run_dir)
        if path is None:
            raise ConfigurationRefused(str(settings.run_dir), "settings in force", "were removed", "start again")
        now = read_snapshot(path).loaded.settings
        refuse_fixed_changes(settings, now)
        return process_table(now, {SNAPSHOT_VARIABLE: str(path)})

    launch = Launch(settings, lock, plan(), plan, fork_server(settings, {}))
    if not detach:
        return run_in_foreground(launch, lambda: _print_ready(invocation, loaded))
    console = Console()
    code = run_in_background(launch, console)
    if code == 0:
        _print_ready(invocation, loaded)
    else:
        print(coloured(f"not started; logs: {log_dir(settings)}", RED))
    return code


def _check_apart(loaded: LoadedSettings) -> None:
    """Check the settings in a child process, so that the supervisor does not keep the libraries that checks load.

    Raises:
        ConfigurationRefused: as `refuse_what_cannot_start`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _check(loaded, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        refused = answer.read()
    _, status = os.waitpid(pid, 0)
    if refused:
        raise pickle.loads(refused)  # noqa: S301 - our own child wrote it
    if status:
        raise ChildProcessError(f"the check of the settings ended: {describe_exit(os.waitstatus_to_exitcode(status))}")


def _check(loaded: LoadedSettings, answer: int) -> NoReturn:
    """Check the settings and end this process; what refuses them is written as a pickle."""
    status = 1
    try:
        from transship.commands.configuration import print_warnings, refuse_what_cannot_start  # noqa: PLC0415 - as said

        refuse_what_cannot_start(loaded)
        print_warnings(loaded)
        sys.stderr.flush()
        status = 0
    except Exception as error:  # noqa: BLE001 - the parent raises it
        os.write(answer, pickle.dumps(error))
    finally:
        os._exit(status)


def down(invocation: Invocation, *, now: bool) -> int:
    """Stop everything that `up` started, and return when it has ended.

    Raises:
        StopFailed: it has not ended in time.
    """
    snapshot = invocation.snapshot()
    settings = snapshot.loaded.settings if snapshot is not None else invocation.settings

    def tell(pid: int) -> None:
        print(f"stopping process {pid} and all its children", flush=True)

    print("stopped" if stop_running(settings, now, tell) else f"nothing runs in {settings.home}")
    return 0


def prefect_ui_url(settings: Settings) -> str:
    """Return the URL of Prefect's UI, as this machine reaches it."""
    return settings.prefect_api_url.removesuffix("/api")


def address_rows(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return the addresses and directories to print."""
    rows: tuple[tuple[str, str], ...] = (("Images API", api_address(settings)),)
    if settings.api.public_endpoint:
        rows = (*rows, ("for clients", settings.api.public_endpoint))
    rows = (*rows, ("Prefect UI", prefect_ui_url(settings)))
    if secret := _prefect_secret(settings):
        rows = (*rows, ("Prefect log-in", f"paste {secret} into its one field, user name and colon included"))
    return (*rows, ("logs", str(log_dir(settings))))


def _prefect_secret(settings: Settings) -> str:
    """Return where the user and password of Prefect's UI are; empty if it asks for none that we know."""
    if settings.prefect.auth_string.get_secret_value():
        return "the value of prefect.auth_string"
    return "" if settings.prefect.api_url else f"the line in {prefect_auth_file(settings)}"


def _print_ready(invocation: Invocation, loaded: LoadedSettings) -> None:
    """Print addresses and directories, and remember the options of the command line: a start with them succeeded."""
    rows, file = address_rows(loaded.settings), loaded.settings.home / REMEMBERED
    # A configuration file that is named is read instead of those in the home directory.
    if invocation.config is None and not os.environ.get(CONFIG_VARIABLE):
        try:
            remembered = ", ".join(remember(loaded))
        except ConfigurationRefused as refused:
            remembered = f"nothing: {refused}"
        if remembered:
            rows = (*rows, ("remembered", f"{remembered} (to forget an option, remove its line from {file})"))
    for label, value in rows:
        print(f"{label:<15} {value}", flush=True)
