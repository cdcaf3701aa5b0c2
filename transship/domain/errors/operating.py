"""Starting, stopping and asking the service: what the command and the processes say."""

from __future__ import annotations

from pathlib import Path

from transship.domain.errors.base import TransshipError


class WarmEngineUnavailable(TransshipError):
    """Runs cannot be carried by warm processes; a slower engine takes them meanwhile."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the warm engine cannot be used: {self.reason}"


class StartFailed(TransshipError):
    """A component did not come up; everything that was started has been stopped again.

    Args:
        component: name of the component, or of several.
        reason: how it ended, or how long it was waited for.
        log_dir: directory of the log files.
    """

    def __init__(self, component: str, reason: str, log_dir: Path) -> None:
        super().__init__(component, reason, log_dir)
        self.component, self.reason, self.log_dir = component, reason, log_dir

    def __str__(self) -> str:
        return f"{self.component} did not start: {self.reason}; see its log in {self.log_dir}"


class NotTakenUp(TransshipError):
    """A component that was told to take up code and settings of now did not, or not as it should.

    Args:
        component: its name; it goes on.
        reason: what it said.
        log_dir: directory of the log files.
    """

    def __init__(self, component: str, reason: str, log_dir: Path) -> None:
        super().__init__(component, reason, log_dir)
        self.component, self.reason, self.log_dir = component, reason, log_dir

    def __str__(self) -> str:
        return f"{self.component} did not take them up: {self.reason}; see its log in {self.log_dir}"


class ReloadFailed(TransshipError):
    """The supervisor has ended before a reload had."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pid = pid

    def __str__(self) -> str:
        return f"process {self.pid} has ended meanwhile; 'transship up' starts everything with the settings of now"


class StopFailed(TransshipError):
    """The supervisor did not end in time; it goes on stopping."""

    def __init__(self, pid: int, limit_s: float) -> None:
        super().__init__(pid, limit_s)
        self.pid, self.limit_s = pid, limit_s

    def __str__(self) -> str:
        return f"process {self.pid} has not ended after {self.limit_s:g} s; 'transship down --now' kills everything"


class ServiceUnreachable(TransshipError):
    """A service of this product does not answer.

    Args:
        service: ``Images API`` or ``Prefect``.
        url: where it was asked.
        reason: why it does not answer.
    """

    def __init__(self, service: str, url: str, reason: str) -> None:
        super().__init__(service, url, reason)
        self.service, self.url, self.reason = service, url, reason

    def __str__(self) -> str:
        return f"{self.service} at {self.url} does not answer: {self.reason}; 'transship status' shows what runs"


class NotificationUndelivered(TransshipError):
    """A notification could not be handed over; it waits, and is tried again by itself.

    Args:
        sink: where it was to go.
    """

    def __init__(self, sink: str, reason: str) -> None:
        super().__init__(sink, reason)
        self.sink, self.reason = sink, reason

    def __str__(self) -> str:
        return f"notifications to {self.sink} cannot be sent now: {self.reason}"


class ServiceRefused(TransshipError):
    """A service of this product answered a request with an error.

    Args:
        service: ``Images API`` or ``Prefect``.
        status: HTTP status.
        reason: text of the answer.
    """

    def __init__(self, service: str, status: int, reason: str) -> None:
        super().__init__(service, status, reason)
        self.service, self.status, self.reason = service, status, reason

    def __str__(self) -> str:
        return f"{self.service}: {self.reason} (HTTP {self.status})"


class CommandRefused(TransshipError):
    """A command line cannot be carried out as it is; nothing was changed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class PushGarbled(TransshipError):
    """What came over the runner's socket is no message of ours; the connection is closed, and the run is scheduled.

    Args:
        beginning: first characters of the line.
    """

    def __init__(self, beginning: str) -> None:
        super().__init__(beginning)
        self.beginning = beginning

    def __str__(self) -> str:
        return f"no message of keeper or runner: {self.beginning!r}; do both run the same release?"
