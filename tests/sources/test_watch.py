"""Limits on waiting, with time as the caller tells it."""

from __future__ import annotations

import pytest

from config.settings import DownloadSettings
from transship.domain.errors import SourceTooSlow
from transship.domain.stop import StopToken
from transship.sources.watch import Watch

LIMITS = DownloadSettings(idle_timeout_s=30, min_speed_bytes_per_s=1000, min_speed_window_s=60)


def flow(watch: Watch, seconds: int, bytes_per_s: int) -> None:
    for _ in range(seconds):
        watch.heard(bytes_per_s)
        watch.waited(1.0)


def test_a_speed_above_the_minimum_may_last() -> None:
    flow(Watch("u", LIMITS, StopToken()), 600, 1000)


def test_a_slow_beginning_is_forgiven_within_the_window() -> None:
    watch = Watch("u", LIMITS, StopToken())
    flow(watch, 50, 1)
    flow(watch, 60, 7000)


def test_a_fast_beginning_does_not_pay_for_a_slow_rest() -> None:
    watch = Watch("u", LIMITS, StopToken())
    flow(watch, 600, 1_000_000)
    with pytest.raises(SourceTooSlow) as slow:
        flow(watch, 80, 10)
    assert slow.value.rate < 1000


def test_silence_is_counted_from_the_last_byte() -> None:
    watch = Watch("u", LIMITS.model_copy(update={"min_speed_bytes_per_s": 0}), StopToken())
    watch.waited(29)
    watch.heard(1)
    watch.waited(29)
    with pytest.raises(SourceTooSlow):
        watch.waited(2)


def test_time_that_was_not_spent_waiting_is_not_held_against_the_source() -> None:
    watch = Watch("u", LIMITS, StopToken())
    watch.waited(1)
    watch.heard(1)
    watch.check()
    watch.waited(1)
