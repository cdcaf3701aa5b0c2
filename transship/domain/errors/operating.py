"""Errors of the command and the processes: starting, stopping and querying the service."""

from __future__ import annotations

from pathlib import Path

from transship.domain.errors.base import TransshipError


class WarmEngineUnavailable(TransshipError):
    """Runs cannot use warm processes; a slower engine is used meanwhile."""

    reason: str

    BRIEF = "the warm engine cannot be used: {reason}"


class StartFailed(TransshipError):
    """A component did not start; everything that was started has been stopped again.

    Attributes:
        component: name of the component.
        reason: how it ended, or how long we waited for it.
        log_dir: directory of the log files.
    """

    component: str
    reason: str
    log_dir: Path

    BRIEF = "{component} did not start: {reason}"
    REMEDY = "see {log_dir}/{component}.log, and what 'transship doctor' finds"


class NotReloaded(TransshipError):
    """A component did not apply the current code and settings, or not completely; it keeps running.

    Attributes:
        component: its name.
        reason: what it reported.
        log_dir: directory of the log files.
    """

    component: str
    reason: str
    log_dir: Path

    BRIEF = "{component} did not apply the current code and settings: {reason}"
    REMEDY = "see its log in {log_dir}"


class ReloadFailed(TransshipError):
    """The supervisor ended before the reload did."""

    pid: int

    BRIEF = "process {pid} ended during the reload"
    REMEDY = "'transship up' starts everything with the current settings"


class StopFailed(TransshipError):
    """The supervisor did not end in time; it is still stopping."""

    pid: int
    limit_s: float

    BRIEF = "process {pid} has not ended after {limit_s:g} s"
    REMEDY = "'transship down --now' kills everything"


class ServiceUnreachable(TransshipError):
    """A service of this product does not answer.

    Attributes:
        service: ``Images API`` or ``Prefect``.
        url: its address.
        reason: why it does not answer.
    """

    service: str
    url: str
    reason: str

    BRIEF = "{service} at {url} does not answer: {reason}"
    REMEDY = "'transship status' shows what runs"


class NothingListens(ServiceUnreachable):
    """The connection to a service of this product was refused: no process listens at its address."""

    BRIEF = "nothing listens at {url} ({service})"
    REMEDY = "'transship up' starts everything on this machine"


class ServiceRefused(TransshipError):
    """A service of this product answered a request with an error.

    Attributes:
        service: ``Images API`` or ``Prefect``.
        status: HTTP status.
        reason: text of the response.
    """

    service: str
    status: int
    reason: str

    BRIEF = "{service}: {reason} (HTTP {status})"


class LoginRefused(ServiceRefused):
    """Prefect's server refused the user and password."""

    BRIEF = "{service} refuses the log-in (HTTP {status})"
    REMEDY = (
        "set prefect.auth_string to that server's user:password; without it, prefect-auth in the home directory is used"
    )


class NotificationUndelivered(TransshipError):
    """A notification could not be sent; it is kept, and sent again automatically.

    Attributes:
        sink: its destination.
    """

    sink: str
    reason: str

    BRIEF = "notifications to {sink} cannot be sent now: {reason}"


class CommandRefused(TransshipError):
    """A command is invalid; nothing was changed."""

    reason: str
    remedy: str = ""

    BRIEF = "{reason}"
