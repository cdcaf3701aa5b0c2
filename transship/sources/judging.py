"""Ask the URI gate with a time limit, because a resolver may hang."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from config.settings import DownloadSettings
from transship.domain.errors import NamesUnanswered, SourceUnreachable, TransferFailed, UriRefused
from transship.domain.stop import StopToken
from transship.domain.uri_filter import display_uri
from transship.sources.dialling import STEP_S
from transship.sources.gate import NAMES_UNANSWERED, NOT_RESOLVABLE, Admitted, UriGate, Verdict
from transship.sources.watch import Waiting, Watch

Answer = TypeVar("Answer")


class TookTooLong(Exception):
    """No answer in time; the thread that waits for it is abandoned."""


def run_within(question: Callable[[], Answer], timeout_s: float, watch: Waiting) -> Answer:
    """Run ``question`` in another thread, because a resolver cannot be interrupted, and return its result.

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


FinalError = Callable[[str, str, str, str], TransferFailed]
"""Makes the error for a permanent refusal from URI, rule, reason and remedy."""


def judged(
    judge: Callable[[], Admitted], display: str, timeout_s: float, watch: Waiting, final: FinalError
) -> Admitted:
    """Return the gate's decision, within a time limit.

    Args:
        judge: asks the gate.
        display: the judged URI, for display.
        timeout_s: longest wait for the resolver.
        watch: ends the wait.
        final: makes the error for a permanent refusal.

    Raises:
        SourceUnreachable: the name has no address or could not be resolved; a later attempt may succeed.
        TransferFailed, LockLost: ``final``, or the watch ended the wait.
    """
    try:
        return run_within(judge, timeout_s, watch)
    except TookTooLong as error:
        raise SourceUnreachable(display, resolver_timed_out(display).reason) from error
    except UriRefused as refused:
        if refused.rule in (NOT_RESOLVABLE, NAMES_UNANSWERED):
            raise SourceUnreachable(refused.uri, refused.reason) from refused
        raise final(refused.uri, refused.rule, refused.reason, refused.remedy or "use another address") from refused


def explained(gate: UriGate, text: str, limits: DownloadSettings) -> Verdict:
    """Return the gate's verdict on a URI; undecided when the resolver does not answer in time."""
    display = display_uri(text)
    try:
        return run_within(lambda: gate.explain(text), limits.connect_timeout_s, Watch(display, limits, StopToken()))
    except TookTooLong:
        return Verdict.of_refusal(resolver_timed_out(display))


def resolver_timed_out(display: str) -> NamesUnanswered:
    """Return the error for a name that could not be resolved in time."""
    return NamesUnanswered(display, NAMES_UNANSWERED, "its name could not be resolved in time")
