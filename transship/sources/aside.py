"""Run beside this thread what can block for long and cannot be interrupted: a resolver."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from transship.domain.errors import UriRefused
from transship.sources.watch import Waiting
from transship.sources.wire import STEP_S

Answer = TypeVar("Answer")


class TookTooLong(Exception):
    """No answer came in time; the thread that waits for it is left behind."""


def run_aside(question: Callable[[], Answer], timeout_s: float, watch: Waiting) -> Answer:
    """Return what ``question`` returns.

    Raises:
        UriRefused: ``question`` raised it; it must raise nothing else.
        TookTooLong: no answer in time.
        TransferFailed, LockLost: the watch ended the wait.
    """
    answers: list[Answer] = []
    refusals: list[UriRefused] = []
    done = threading.Event()

    def run() -> None:
        try:
            answers.append(question())
        except UriRefused as refused:
            refusals.append(refused)
        finally:
            done.set()

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="resolve", daemon=True).start()
    ends_at = time.monotonic() + timeout_s
    while not done.wait(STEP_S):
        watch.check()
        if time.monotonic() > ends_at:
            break
    if refusals:
        raise refusals[0]
    if not answers:
        raise TookTooLong
    return answers[0]
