"""What is supervised: a command, its environment, and its place in the order of start and stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from config.loading import SNAPSHOT_VARIABLE


class Condition(StrEnum):
    """What a component is doing."""

    WAITING = "waiting"
    """Its turn has not come, or it waits to be restarted."""
    STARTING = "starting"
    """Runs and has not yet answered its health check."""
    UP = "up"
    """Runs, and answers its health check if it has one."""
    UNHEALTHY = "unhealthy"
    """Runs, was up, and does not answer its health check."""
    DONE = "done"
    """Has ended well and was meant to."""
    STOPPED = "stopped"
    """Has ended and is not started again."""


class Renewal(StrEnum):
    """What a reload does with a component."""

    RESTART = "restart"
    """It is ended and started again."""
    REPLACE = "replace"
    """A second one is started; when that is up the first gets SIGHUP, and ends when it has done what it was asked."""
    SIGNAL = "signal"
    """It gets SIGHUP, and says `ready_text` when it is done; restarted when its command or environment has changed."""
    KEEP = "keep"
    """It is restarted when its command or environment has changed, and else goes on."""


@dataclass(frozen=True, slots=True)
class Component:
    """One process of the machine.

    Attributes:
        name: short name, without spaces; also the name of its log file.
        argv: command and arguments. Never holds a secret: everybody on the machine can read it.
        environment: the whole environment of the process.
        stage: it is started when every component of a lower stage is up.
        stop_rank: it is stopped when every component of a lower rank has ended.
        health_url: plain HTTP URL that answers 200 when the component is up; empty: up when it has run
            for `settle_s`.
        settle_s: life after which a component without a health check counts as up.
        ready_text: a line that holds this says that it is up, earlier than `settle_s` does and before `health_url` is
            asked; what follows in that line is what is wrong nevertheless. Empty: no line says so.
        listen: host and port that the supervisor listens on for it; the sockets are inherited, and each one's number
            is the argument ``--socket=NUMBER``. None: it has none.
        once: runs to its end, which must be exit status 0, and is not restarted.
        kill_after_s: at a stop, how long it has to end itself.
        renewal: what a reload does with it; one that runs `once` is run again.
        module: what `argv` runs with ``python -m``, for one that the fork server can fork; empty: none.
        arguments: of the module.
        imports: modules that it needs, for the fork server.
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
        """Whether a process of this component and one of another would be started alike.

        Which snapshot of the settings it is handed does not count: one that goes on is told of the new one, or needs
        no more of the settings than its command and its environment hold.
        """
        return (self.argv, _without_snapshot(self.environment)) == (other.argv, _without_snapshot(other.environment))


def _without_snapshot(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name != SNAPSHOT_VARIABLE}


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between restarts: doubling, bounded, and short again after a long life.

    Attributes:
        first_s, longest_s: first and longest wait.
        reset_after_s: a life of this length makes the next wait the first one.
    """

    first_s: float = 1.0
    longest_s: float = 30.0
    reset_after_s: float = 60.0

    def wait_s(self, short_lives: int) -> float:
        """Return the wait before the next start.

        Args:
            short_lives: lives in a row shorter than `reset_after_s`, the last one included; 1 or more.
        """
        return float(min(self.longest_s, self.first_s * 2 ** (max(1, short_lives) - 1)))
