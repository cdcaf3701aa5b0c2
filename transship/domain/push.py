"""What keeper and runner of one machine say to each other over the runner's socket: one JSON object a line.

=================  =====================================  ======================================================
keeper to runner   ``{"reserve": "default"}``             a slot is wanted for a run of that work queue
runner to keeper   ``{"granted": true}``                  it is kept for this connection; closing it gives it back
runner to keeper   ``{"granted": false, "reason": "…"}``  the run has to be scheduled; the connection is over
keeper to runner   ``{"run": {…}}``                       the flow run, as Prefect answered its creation
runner to keeper   ``{"taken": true}``                    the slot is the run's now; the connection is over
=================  =====================================  ======================================================

Nothing here is needed for an import to run: a run that cannot be pushed is scheduled, and the worker finds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from transship.domain.errors import PushMessageInvalid

RUNNER_SOCKET: Final = "runner.sock"
"""Name of the runner's socket in the home directory's ``run``."""

LONGEST_LINE_BYTES: Final = 2 * 1024 * 1024
"""Prefect takes parameters of 512 KiB; four times that has room for the rest of a flow run, escaped."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """A slot is wanted.

    Attributes:
        queue: work queue that the run will belong to, e.g. ``default``.
    """

    queue: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A slot is kept for as long as the connection is open."""


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no slot, or the run must wait its turn.

    Attributes:
        reason: for the log.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """The run that the slot was wanted for.

    Attributes:
        flow_run: exactly what Prefect answered when it was made, in state Pending.
    """

    flow_run: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """The runner has the run."""


Message = Reserve | Granted | Refused | Run | Taken


def encode(message: Message) -> bytes:
    """Return a message as one line, with its end."""
    return json.dumps(_body(message), separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line.

    Raises:
        PushMessageInvalid: it is none.
    """
    try:
        body = json.loads(line)
    except ValueError as error:
        raise PushMessageInvalid(line[:40].decode("utf-8", "replace")) from error
    match body:
        case {"reserve": str(queue)}:
            return Reserve(queue)
        case {"granted": True}:
            return Granted()
        case {"granted": False, "reason": str(reason)}:
            return Refused(reason)
        case {"run": {"id": str(), **_rest}}:
            return Run(body["run"])
        case {"taken": True}:
            return Taken()
        case _:
            raise PushMessageInvalid(line[:40].decode("utf-8", "replace"))


def _body(message: Message) -> Mapping[str, Any]:
    match message:
        case Reserve(queue):
            return {"reserve": queue}
        case Granted():
            return {"granted": True}
        case Refused(reason):
            return {"granted": False, "reason": reason}
        case Run(flow_run):
            return {"run": dict(flow_run)}
        case Taken():
            return {"taken": True}
