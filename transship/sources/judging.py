"""Ask the URI gate within a time, whatever the resolver does; one judgement for all who ask during an import."""

from __future__ import annotations

from collections.abc import Callable

from config.settings import DownloadSettings
from transship.domain.errors import NamesUnanswered, SourceUnreachable, TransferFailed, UriRefused
from transship.domain.stop import StopToken
from transship.domain.uri_filter import display_uri
from transship.sources.aside import TookTooLong, run_aside
from transship.sources.gate import NAMES_UNANSWERED, NOT_RESOLVABLE, Admitted, UriGate, Verdict
from transship.sources.watch import Waiting, Watch

FinalError = Callable[[str, str, str], TransferFailed]
"""Makes the error for a refusal that time does not lift, of URI, rule and reason."""


def judged(
    judge: Callable[[], Admitted], display: str, timeout_s: float, watch: Waiting, final: FinalError
) -> Admitted:
    """Return what the gate says within a time.

    Args:
        judge: asks the gate.
        display: what it is asked about, for people.
        timeout_s: longest wait for the resolver.
        watch: ends the wait.
        final: the error for a refusal that time does not lift.

    Raises:
        SourceUnreachable: the name has no address, or nobody says one; that may pass.
        TransferFailed, LockLost: ``final``, or the watch ended the wait.
    """
    try:
        return run_aside(judge, timeout_s, watch)
    except TookTooLong as error:
        raise SourceUnreachable(display, not_in_time(display).reason) from error
    except UriRefused as refused:
        if refused.rule in (NOT_RESOLVABLE, NAMES_UNANSWERED):
            raise SourceUnreachable(refused.uri, refused.reason) from refused
        raise final(refused.uri, refused.rule, refused.reason) from refused


def explained(gate: UriGate, text: str, limits: DownloadSettings) -> Verdict:
    """Return the gate's verdict on a URI; undecided when the resolver does not answer in time."""
    display = display_uri(text)
    try:
        return run_aside(lambda: gate.explain(text), limits.connect_timeout_s, Watch(display, limits, StopToken()))
    except TookTooLong:
        return Verdict.of_refusal(not_in_time(display))


def not_in_time(display: str) -> NamesUnanswered:
    """Return the error for a name that nobody resolved in time."""
    return NamesUnanswered(display, NAMES_UNANSWERED, "its name could not be resolved in time; try again later")
