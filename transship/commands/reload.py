"""``transship reload``: apply the current code and settings without losing an import or a request."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Final

from config.options import CONFIG_VARIABLE
from config.settings import Settings
from config.snapshot import Snapshot, take_snapshot
from transship.commands.configuration import print_warnings
from transship.commands.context import RED, Invocation, coloured
from transship.commands.take_settings import validated_anew
from transship.domain.errors import CommandRefused, ConfigurationRefused, ReloadFailed
from transship.host.processes import signal_process
from transship.host.runner_status import RunnerStatus, read_runner_status, runner_status_path
from transship.supervisor.home import Holder, is_locked, read_holder, signal_holder, status_path
from transship.supervisor.status import Phase, SupervisorStatus, read_status
from transship.supervisor.supervisor import RELOAD_SIGNAL

LOOK_EVERY_S: Final = 0.1
RESTART: Final = "stop and start it"


def reload(invocation: Invocation) -> int:
    """Reload what runs in the home directory; return when the reload has ended, or for a lone runner has begun.

    The settings come from the same sources as at the start, not from the environment of this command.

    Returns:
        0 if all components have the new settings; 1 if some do not, or nothing was reloaded because they are unusable.

    Raises:
        CommandRefused: nothing runs, it cannot be reloaded now, or it was started from other sources.
        ReloadFailed: the supervisor ended during the reload.
    """
    before = invocation.snapshot()
    settings = before.loaded.settings if before is not None else invocation.settings
    holder = _reloadable_supervisor(settings) if is_locked(settings) else None
    running = read_runner_status(runner_status_path(settings))
    if holder is None and running is None:
        raise CommandRefused(f"nothing runs in {settings.home}", "'transship up' or 'transship worker' starts it")
    if before is None:
        raise CommandRefused("an older version is running", RESTART)
    _refuse_other_sources(invocation, before)
    try:
        loaded = validated_anew(before)
    except ConfigurationRefused as refused:
        print(coloured(f"nothing was reloaded: {refused}", RED))
        return 1
    print_warnings(loaded)
    if holder is not None:
        take_snapshot(loaded, before.sources, supervised=True)
        return _reload_everything(settings, *holder)
    return _reload_runner(running)


def _refuse_other_sources(invocation: Invocation, before: Snapshot) -> None:
    asked, sources = invocation.sources, before.sources
    named = sources.config or Path(sources.environ.get(CONFIG_VARIABLE, ""))
    known = {**sources.overrides, "home": asked.overrides.get("home")}
    others = [name for name, value in asked.overrides.items() if known.get(name) != value]
    if others or asked.config not in (None, sources.directory / named):
        raise CommandRefused("a reload reads the settings from the same sources as the start", RESTART)


def _reloadable_supervisor(settings: Settings) -> tuple[Holder, int]:
    """Return the supervisor and how many reloads it has done.

    Raises:
        CommandRefused: it cannot be reloaded now.
    """
    holder, before = read_holder(settings), read_status(status_path(settings))
    if holder is None or before is None or before.pid != holder.pid or before.phase is not Phase.READY:
        raise CommandRefused(f"what runs in {settings.home} is starting or stopping", "try again when it is ready")
    if before.reloads is None:
        raise CommandRefused("an older version is running", RESTART)
    return holder, before.reloads


def _reload_everything(settings: Settings, holder: Holder, reloads: int) -> int:
    signal_holder(holder, RELOAD_SIGNAL)
    print(f"process {holder.pid} reloads its components one by one", flush=True)
    after = _awaited(settings, holder, reloads)
    for line in after.last_reload.splitlines():
        print(coloured(line, RED) if after.reload_failed else line)
    return 1 if after.reload_failed else 0


def _awaited(settings: Settings, holder: Holder, reloads: int) -> SupervisorStatus:
    """Return the supervisor's report of the reload when it has ended."""
    while read_holder(settings) == holder:
        status = read_status(status_path(settings))
        if status is not None and (status.reloads or 0) > reloads:
            return status
        time.sleep(LOOK_EVERY_S)
    raise ReloadFailed(holder.pid)


def _reload_runner(running: RunnerStatus | None) -> int:
    assert running is not None  # noqa: S101 - one of both runs; tells the type checker
    signal_process(running.pid, signal.SIGHUP)
    print(f"process {running.pid} reloads; 'transship status' shows its executors")
    return 0
