"""The messages between dispatcher, template and executors, in JSON.

Between dispatcher and template each message is one datagram; a fork request also passes the executor's end
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
"""Size limit of a datagram; the longest one lists the problems of a self-test."""

LINE_BYTES: Final = 16 * 1024 * 1024
"""Longest line: a flow run, whose parameters Prefect limits to 512 KiB."""


class Outcome(StrEnum):
    """How an executor's work on a run ended."""

    ENDED = "ended"
    """The engine reported the run's state to Prefect."""
    CANCELLED = "cancelled"
    """The run was stopped at the dispatcher's request; the dispatcher reports its state."""
    ABORTED = "aborted"
    """There is no state to report: Prefect did not let the run begin or continue, or another process has it now."""
    BROKEN = "broken"
    """The engine itself failed; the run has no final state."""


class _Message:
    """Converts a dataclass to JSON and back."""

    def encode(self) -> bytes:
        """Return the message as one line without the newline."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()  # type: ignore[call-overload]  # dataclasses all

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Parse the output of `encode`.

        Raises:
            ValueError: it is not such a message.
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
        problems: why executors cannot be used; empty if they can.
    """

    pid: int
    seconds: float
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Fork(_Message):
    """Fork an executor; its end of the socket pair is passed along.

    Attributes:
        number: identifies it until its pid is known.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Forked(_Message):
    """An executor runs."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed(_Message):
    """An executor could not be forked, for lack of memory or process ids; the others are not affected.

    Attributes:
        reason: the operating system's message.
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
        dry: send nothing to Prefect.
    """

    run: Mapping[str, Any]
    entrypoint: str
    dry: bool = False


@dataclass(frozen=True, slots=True)
class Done(_Message):
    """An executor has finished a job or, with an empty outcome, is ready for its first one.

    Attributes:
        outcome: an `Outcome`.
        state_type: of the run's last state known to the executor.
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


def encode_template_message(message: TemplateMessage) -> bytes:
    """Return the datagram for a message from the template."""
    return type(message).__name__.lower().encode() + b" " + message.encode()


def decode_template_message(datagram: bytes) -> TemplateMessage:
    """Return the message in a datagram from the template.

    Raises:
        ValueError: it is not a message.
    """
    kind, _, raw = datagram.partition(b" ")
    try:
        return _TEMPLATE_SAYS[kind.decode("ascii", "replace")].decode(raw)
    except KeyError as error:
        raise ValueError(f"unknown message of the template: {kind[:20]!r}") from error
