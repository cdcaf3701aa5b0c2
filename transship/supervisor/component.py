"""A supervised component: its command, its environment, and its place in the order of start and stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from config.loading import SNAPSHOT_VARIABLE


class Condition(StrEnum):
    """The state of a component."""

    WAITING = "waiting"
    """Its turn has not come, or it waits to be restarted."""
    STARTING = "starting"
    """Runs and has not yet answered its health check."""
    UP = "up"
    """Runs, and answers its health check if it has one."""
    UNHEALTHY = "unhealthy"
    """Runs, was up, and does not answer its health check."""
    DONE = "done"
    """Has ended successfully, as intended."""
    STOPPED = "stopped"
    """Has ended and is not restarted."""


class Renewal(StrEnum):
    """What a reload does with a component."""

    RESTART = "restart"
    """It is stopped and started again."""
    REPLACE = "replace"
    """A second one is started; when it is up, the first one gets SIGHUP, finishes its requests and ends."""
    SIGNAL = "signal"
    """It gets SIGHUP, and prints `ready_text` when done; it is restarted if its command or environment has changed."""
    KEEP = "keep"
    """It is restarted if its command or environment has changed; otherwise it keeps running."""


@dataclass(frozen=True, slots=True)
class Component:
    """One process of the machine.

    Attributes:
        name: short name, without spaces; also the name of its log file.
        argv: command and arguments; never secrets, because every user of the machine can read it.
        environment: the whole environment of the process.
        stage: it is started when every component of a lower stage is up.
        stop_rank: it is stopped when every component of a lower rank has ended.
        health_url: plain HTTP URL that answers 200 when the component is up; empty: up when it has run
            for `settle_s`.
        settle_s: seconds after which a component without a health check counts as up.
        ready_text: an output line with this text means that it is up, without waiting for `settle_s` and before
            `health_url` is requested; the rest of the line is a problem to show. Empty: there is no such line.
        listen: host and port on which the supervisor listens for it; it inherits the sockets, each as an argument
            ``--socket=NUMBER``. None: it has none.
        once: runs to its end, which must be exit status 0, and is not restarted.
        kill_after_s: seconds that it has to end before it is killed.
        renewal: what a reload does with it; a component with `once` is run again.
        module: the module that `argv` runs with ``python -m``, if the fork server can fork it; empty: none.
        arguments: of the module.
        imports: modules that the fork server imports for it.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    stage: int = 0
    stop_rank: int = 0
    health_url: str = ""
    settle_s: float = 0.0
    ready_text: str = ""
    listen: tuple[str, int] | None = None
    once: bool = False
    kill_after_s: float = 10.0
    renewal: Renewal = Renewal.RESTART
    module: str = ""
    arguments: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()

    def starts_as(self, other: Component) -> bool:
        """Whether this component and another one start processes in the same way.

        The snapshot of the settings is ignored: a process that keeps running is told about the new one, or needs
        no settings beyond its command and its environment.
        """
        return (self.argv, _without_snapshot(self.environment)) == (other.argv, _without_snapshot(other.environment))


def _without_snapshot(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name != SNAPSHOT_VARIABLE}


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between restarts: they double up to a limit, and start over after a long life.

    Attributes:
        first_s, longest_s: first and longest wait.
        reset_after_s: after a life of this length the waits start over.
    """

    first_s: float = 1.0
    longest_s: float = 30.0
    reset_after_s: float = 60.0

    def wait_s(self, short_lives: int) -> float:
        """Return the wait before the next start.

        Args:
            short_lives: consecutive lives shorter than `reset_after_s`, including the last one; 1 or more.
        """
        return float(min(self.longest_s, self.first_s * 2 ** (max(1, short_lives) - 1)))
