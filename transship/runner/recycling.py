"""Decides when to replace an executor. A pure decision."""

from __future__ import annotations

from dataclasses import dataclass

from transship.runner.messages import Outcome


@dataclass(frozen=True, slots=True)
class Wear:
    """The history of an executor.

    Attributes:
        runs: number of runs it has had.
        first_rss_bytes: resident memory when it was ready for its first run.
        rss_bytes: resident memory after its last run.
        outcome, state_type: how that run ended.
    """

    runs: int
    first_rss_bytes: int
    rss_bytes: int
    outcome: Outcome
    state_type: str


@dataclass(frozen=True, slots=True)
class WearLimits:
    """How long executors are used.

    Attributes:
        runs: most runs per executor.
        growth_bytes: most growth of its memory.
    """

    runs: int
    growth_bytes: int


def worn_out(wear: Wear, limits: WearLimits) -> str:
    """Return why to replace an executor; empty if it can be reused."""
    if wear.outcome is not Outcome.ENDED or wear.state_type != "COMPLETED":
        # After a failed run, threads, locks and C libraries may be in any state.
        return f"its run ended {wear.state_type.lower() or wear.outcome}"
    if wear.runs >= limits.runs:
        return f"it has carried {wear.runs} runs"
    grown = wear.rss_bytes - wear.first_rss_bytes
    if grown > limits.growth_bytes:
        return f"it has grown by {grown >> 20} MiB"
    return ""
