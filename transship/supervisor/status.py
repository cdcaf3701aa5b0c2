"""The supervisor's status file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from config.private_files import write_private
from transship.supervisor.component import Condition


class Phase(StrEnum):
    """The state of the supervisor as a whole."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """One component.

    Attributes:
        pid: None while it does not run.
        since: ISO 8601 time in UTC of the last change of condition.
        restarts: how often it was started again.
        last_exit: how it last ended; empty if it never did.
        log: path of its log file.
    """

    name: str
    condition: Condition
    pid: int | None
    since: str
    restarts: int
    last_exit: str
    log: str


@dataclass(frozen=True, slots=True)
class SupervisorStatus:
    """The supervisor and all its components.

    Attributes:
        pid: the supervisor.
        started_at: ISO 8601 time in UTC.
        reloads: number of completed reloads; None: a former version without reloads.
        last_reload: the result of the last one, a line per component.
        reload_failed: the last one did not reach every component.
    """

    phase: Phase
    pid: int
    started_at: str
    components: tuple[ComponentStatus, ...]
    reloads: int | None = None
    last_reload: str = ""
    reload_failed: bool = False


def write_status(path: Path, status: SupervisorStatus) -> None:
    """Replace the status file atomically."""
    write_private(path, json.dumps(asdict(status), indent=1))


def read_status(path: Path) -> SupervisorStatus | None:
    """Return the last status written; None if there is none, or it cannot be parsed."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        components = tuple(
            ComponentStatus(**{**one, "condition": Condition(one["condition"])}) for one in raw.pop("components")
        )
        return SupervisorStatus(**{**raw, "phase": Phase(raw["phase"]), "components": components})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
