"""``transship reload``: code and settings of now for what runs, without losing an import or a request."""

from __future__ import annotations

import signal
import time
from typing import Final

from config.settings import Settings
from transship.commands.configuration import print_warnings, refuse_what_cannot_start, refuse_what_fails_imports
from transship.commands.context import RED, Invocation, coloured
from transship.domain.errors import CommandRefused, ReloadFailed
from transship.processes import signal_process
from transship.runner_status import read_runner_status, runner_status_path
from transship.supervisor.home import Holder, is_locked, read_holder, signal_holder, status_path
from transship.supervisor.status import Phase, SupervisorStatus, read_status
from transship.supervisor.supervisor import RELOAD_SIGNAL

LOOK_EVERY_S: Final = 0.1


def reload(invocation: Invocation) -> int:
    """Reload what runs in the home directory; returns when that has ended, or, of a runner alone, has begun.

    Returns:
        0 when all of it has the settings of now; 1 when some has not.

    Raises:
        ConfigurationRefused: a setting cannot be used; nothing was reloaded.
        CommandRefused: nothing runs, or it cannot be reloaded now.
        ReloadFailed: the supervisor has ended meanwhile.
    """
    loaded = invocation.load()
    settings = loaded.settings
    if is_locked(settings):
        refuse_what_cannot_start(loaded)
        print_warnings(loaded)
        return _reload_everything(settings)
    refuse_what_fails_imports(loaded)
    print_warnings(loaded)
    return _reload_runner(settings)


def _reload_everything(settings: Settings) -> int:
    holder, before = read_holder(settings), read_status(status_path(settings))
    if holder is None or before is None or before.pid != holder.pid or before.phase is not Phase.READY:
        raise CommandRefused(f"what runs in {settings.home} is starting or stopping; try again when it is ready")
    if before.reloads is None:
        raise CommandRefused("what runs is of a former version; 'transship down' and 'transship up' start this one")
    signal_holder(holder, RELOAD_SIGNAL)
    print(f"process {holder.pid} reloads what it runs, one after the other", flush=True)
    after = _awaited(settings, holder, before.reloads)
    for line in after.last_reload.splitlines():
        print(coloured(line, RED) if after.reload_failed else line)
    return 1 if after.reload_failed else 0


def _awaited(settings: Settings, holder: Holder, reloads: int) -> SupervisorStatus:
    """Return the supervisor's account of the reload when it has ended."""
    while read_holder(settings) == holder:
        status = read_status(status_path(settings))
        if status is not None and (status.reloads or 0) > reloads:
            return status
        time.sleep(LOOK_EVERY_S)
    raise ReloadFailed(holder.pid)


def _reload_runner(settings: Settings) -> int:
    running = read_runner_status(runner_status_path(settings))
    if running is None:
        raise CommandRefused(f"nothing runs in {settings.home}; 'transship up' or 'transship worker' starts it")
    signal_process(running.pid, signal.SIGHUP)
    print(f"process {running.pid} reloads; 'transship status' shows its executors")
    return 0
