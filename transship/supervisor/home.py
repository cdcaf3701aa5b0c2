"""The home directory: created at the first start, and locked by the supervisor that runs in it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from config.private_files import write_private
from config.secrets import create_prefect_secrets
from config.settings import Settings
from transship.domain.errors import ConfigurationRefused
from transship.host.directories import make_directory
from transship.host.ports import require_free_port
from transship.host.processes import start_time

LOG: Final = "log"
PREFECT: Final = "prefect"
LOCK_FILE: Final = "supervisor.lock"
STATUS_FILE: Final = "status.json"
STOP_NOTE: Final = "stopped-by"
"""Names the sender of a stop signal that was sent on purpose, because the signal does not."""

HOME_MODE: Final = 0o700
"""It holds databases and logs, which no other account may read."""

CLEARED_WITHIN_S: Final = 15.0
"""A killed supervisor's guard gives the remaining processes some seconds to end before it kills them and unlocks."""


def log_dir(settings: Settings) -> Path:
    """Return the directory of the log files."""
    return settings.home / LOG


def prefect_dir(settings: Settings) -> Path:
    """Return the directory of the supervised Prefect server's database and of Prefect's profiles."""
    return settings.home / PREFECT


def status_path(settings: Settings) -> Path:
    """Return the path of the status file."""
    return settings.run_dir / STATUS_FILE


def lock_path(settings: Settings) -> Path:
    """Return the path of the lock file."""
    return settings.run_dir / LOCK_FILE


def first_start(settings: Settings) -> None:
    """Create the home directory, its subdirectories and secrets if they do not exist.

    The home directory is closed to other accounts because it holds databases and logs.

    Raises:
        ConfigurationRefused: the directory cannot be created, or belongs to another account.
    """
    try:
        for directory in (settings.home, log_dir(settings), settings.run_dir, prefect_dir(settings)):
            make_directory(directory, HOME_MODE)
            directory.chmod(HOME_MODE)
    except OSError as error:
        reason = f"{error.filename} cannot be used: {error.strerror}"
        raise ConfigurationRefused("settings", "home", reason, "set TRANSSHIP_HOME") from error
    create_prefect_secrets(settings)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a home directory's lock.

    Attributes:
        pid: process id.
        started: its start time in clock ticks since boot, so a reused pid is not mistaken for it.
    """

    pid: int
    started: int


class HomeLock:
    """An flock on a home directory, held as long as this process or a process forked from it is alive."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, settings: Settings, wait_s: float = CLEARED_WITHIN_S) -> Self:
        """Lock the home directory.

        Args:
            wait_s: longest wait for processes that a killed supervisor left; its guard ends them within seconds.

        Raises:
            ConfigurationRefused: a supervisor runs in it; it is not affected.
        """
        descriptor = os.open(lock_path(settings), os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + wait_s
        while not _locked(descriptor):
            holder = read_holder(settings)
            if holder is None and time.monotonic() < end:
                time.sleep(0.05)
                continue
            os.close(descriptor)
            who = f"process {holder.pid}" if holder else "what a killed supervisor left"
            reason, remedy = f"{settings.home} is in use by {who}", "stop it with 'transship down'"
            raise ConfigurationRefused("start", "home", reason, remedy)
        return cls(descriptor)

    def write_holder(self) -> None:
        """Record this process as the lock's holder."""
        pid = os.getpid()
        text = json.dumps({"pid": pid, "started": start_time(pid)}).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text, 0)

    def release(self) -> None:
        """Release the lock in this process."""
        os.close(self.descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(settings: Settings) -> bool:
    """Return whether a supervisor, or the guard that cleans up after it, holds the lock."""
    try:
        descriptor = os.open(lock_path(settings), os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_holder(settings: Settings) -> Holder | None:
    """Return the supervisor that runs in the home directory; None if there is none, or it is not known yet."""
    try:
        raw = json.loads(lock_path(settings).read_text(encoding="ascii"))
        holder = Holder(int(raw["pid"]), int(raw["started"]))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return holder if start_time(holder.pid) == holder.started else None


def signal_holder(holder: Holder, number: signal.Signals) -> bool:
    """Send a signal to exactly the process that holds the lock; return False if it is gone."""
    try:
        descriptor = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor always refers to the same process; the start time tells whether it is the right one.
        if start_time(holder.pid) != holder.started:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def write_stop_note(settings: Settings, sender: str) -> None:
    """Tell the supervisor who is about to send it a stop signal; a full disk hides only the name."""
    with suppress(OSError):
        write_private(settings.run_dir / STOP_NOTE, sender)


def take_stop_note(run_dir: Path) -> str:
    """Return the sender of a stop signal, and forget it; empty if nobody left a note."""
    path = run_dir / STOP_NOTE
    try:
        sender = path.read_text(encoding="utf-8")
        path.unlink()
    except (OSError, ValueError):
        return ""
    return sender


def _require_two_ports(settings: Settings) -> None:
    if settings.prefect.port == settings.api.port:
        reason = f"is {settings.api.port}, as api.port is"
        raise ConfigurationRefused("settings", "prefect.port", reason, "set one of them to another")


def prepare(settings: Settings) -> HomeLock:
    """Prepare a start, or refuse it before anything runs.

    Raises:
        ConfigurationRefused: the home directory is unusable or in use, or a port is taken.
    """
    first_start(settings)
    lock = HomeLock.take(settings)
    try:
        require_free_port(settings.api.host, settings.api.port, "api.port")
        if not settings.prefect.api_url:
            _require_two_ports(settings)
            require_free_port(settings.prefect.host, settings.prefect.port, "prefect.port")
    except ConfigurationRefused:
        lock.release()
        raise
    return lock
