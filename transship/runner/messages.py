"""What dispatcher, template and executors tell each other, as JSON.

Between dispatcher and template each message is one datagram; a fork request carries the executor's end
of a socket pair. Between dispatcher and executor each message is one line.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Self

CANCEL_SIGNAL: Final = signal.SIGUSR1
"""Tells an executor to stop its run."""

MESSAGE_BYTES: Final = 64 * 1024
"""Room for one datagram; the longest one lists the problems of a self-test."""

LINE_BYTES: Final = 16 * 1024 * 1024
"""Longest line: a flow run, whose parameters Prefect limits to 512 KiB."""


class Outcome(StrEnum):
    """How an executor's work on a run came to its end."""

    ENDED = "ended"
    """The engine told Prefect the run's state."""
    CANCELLED = "cancelled"
    """The run was stopped because the dispatcher asked for it; its state is left to the dispatcher."""
    ABORTED = "aborted"
    """It has no state to report: Prefect did not let it begin or go on, or another process carries the run now."""
    BROKEN = "broken"
    """The engine itself failed; the run has no final state."""


class _Message:
    """Turns a dataclass into JSON and back."""

    def encode(self) -> bytes:
        """Return the message as one line without its end."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()  # type: ignore[call-overload]  # dataclasses all

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Return a message that `encode` wrote.

        Raises:
            ValueError: it is no such message.
        """
        try:
            return cls(**json.loads(raw))
        except TypeError as error:
            raise ValueError(f"not a {cls.__name__}: {raw[:80]!r}") from error


@dataclass(frozen=True, slots=True)
class Ready(_Message):
    """The template has imported everything.

    Attributes:
        pid: the template.
        seconds: how long the imports took.
        problems: what keeps executors from being used; empty if they can be.
    """

    pid: int
    seconds: float
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Fork(_Message):
    """Make an executor; its end of the socket comes along.

    Attributes:
        number: names it until its pid is known.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Forked(_Message):
    """An executor runs."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed(_Message):
    """An executor could not be made, for lack of memory or process numbers; the others go on.

    Attributes:
        reason: what the operating system says.
    """

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended(_Message):
    """An executor has ended, and nothing of its process group is left.

    Attributes:
        status: as of `subprocess`: negative for the signal that killed it.
    """

    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class Job(_Message):
    """Carry out a flow run.

    Attributes:
        run: the flow run as Prefect's API shows it.
        entrypoint: module path of its flow.
        dry: answer for Prefect: nothing is sent to it.
    """

    run: Mapping[str, Any]
    entrypoint: str
    dry: bool = False


@dataclass(frozen=True, slots=True)
class Done(_Message):
    """An executor has done a job, or, with an empty outcome, is ready for its first.

    Attributes:
        outcome: an `Outcome`.
        state_type: of the run's last state as far as the executor knows it.
        message: what went wrong, for an outcome other than `Outcome.ENDED`.
        rss_bytes: its resident memory now.
    """

    pid: int
    outcome: str
    state_type: str
    message: str
    rss_bytes: int


TemplateMessage = Ready | Forked | ForkFailed | Ended

_TEMPLATE_SAYS: Final[Mapping[str, type[TemplateMessage]]] = {
    kind.__name__.lower(): kind for kind in (Ready, Forked, ForkFailed, Ended)
}


def tell_dispatcher(message: TemplateMessage) -> bytes:
    """Return the datagram of a message of the template."""
    return type(message).__name__.lower().encode() + b" " + message.encode()


def told_by_template(datagram: bytes) -> TemplateMessage:
    """Return the message of a datagram of the template.

    Raises:
        ValueError: it is none.
    """
    kind, _, raw = datagram.partition(b" ")
    try:
        return _TEMPLATE_SAYS[kind.decode("ascii", "replace")].decode(raw)
    except KeyError as error:
        raise ValueError(f"unknown message of the template: {kind[:20]!r}") from error
