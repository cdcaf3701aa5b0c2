"""Limits on waiting, with simulated time."""

from __future__ import annotations

import itertools
import socket
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace

import pytest

from config.settings import DownloadSettings
from transship.domain.errors import SourceTooSlow
from transship.domain.stop import StopToken
from transship.domain.uri_filter import UriRules, parse_uri
from transship.sources import connection
from transship.sources.gate import Admitted
from transship.sources.watch import Watch

LIMITS = DownloadSettings(idle_timeout_s=30, min_speed_bytes_per_s=1000, min_speed_window_s=60)
DEFAULTS = DownloadSettings()


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


@pytest.mark.parametrize("slow_s", [60, 75, 110])
def test_a_slow_first_minute_is_forgiven(slow_s: int) -> None:
    """As behind a proxy that scans what it passes on, and lets a byte through now and then until it is done."""
    watch = Watch("u", LIMITS, StopToken())
    for second in range(slow_s):
        watch.heard(second % 10 == 0)
        watch.waited(1.0)
    flow(watch, 600, 1_000_000)


def test_a_silent_first_minute_is_forgiven_by_default() -> None:
    watch = Watch("u", DEFAULTS, StopToken())
    for _ in range(75):
        watch.waited(1.0)
    flow(watch, 600, 1_000_000)


def test_slowness_that_stays_ends_a_download_after_two_windows() -> None:
    watch = Watch("u", LIMITS, StopToken())
    flow(watch, 119, 10)
    with pytest.raises(SourceTooSlow) as slow:
        flow(watch, 2, 10)
    assert slow.value.rate == 10


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


@pytest.mark.parametrize(("bytes_per_s", "enough"), [(400, True), (200, False)])
def test_connections_that_wait_side_by_side_are_judged_by_their_sum(bytes_per_s: int, enough: bool) -> None:
    watch = Watch("u", LIMITS, StopToken())
    with ExitStack() as connections:
        for _ in range(4):
            connections.enter_context(watch.one_of_several())
        with nullcontext() if enough else pytest.raises(SourceTooSlow):
            flow(watch, 4 * 600, bytes_per_s)


def test_connections_that_are_silent_side_by_side_are_silent_once() -> None:
    watch = Watch("u", LIMITS.model_copy(update={"min_speed_bytes_per_s": 0}), StopToken())
    with watch.one_of_several(), watch.one_of_several():
        for _ in range(59):
            watch.waited(1.0)
        with pytest.raises(SourceTooSlow):
            watch.waited(2.0)


def test_time_in_which_we_were_not_there_is_not_the_sources_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the machine slept, or others had its processors: hours go by between two looks at the clock."""
    hours = itertools.count(step=3600.0)
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: next(hours)))
    ours, theirs = socket.socketpair()

    class Sending(Watch):
        def waited(self, seconds: float) -> None:
            super().waited(seconds)
            theirs.sendall(b"there")

    with ours, theirs:
        source = Admitted(parse_uri("http://source/x", UriRules()), (), "default")
        buffer = memoryview(bytearray(5))
        with connection.Connection(ours, source, Sending("u", LIMITS, StopToken())) as watched:
            assert (watched.read_into(buffer), bytes(buffer)) == (5, b"there")


def test_time_that_was_not_spent_waiting_is_not_held_against_the_source() -> None:
    watch = Watch("u", LIMITS, StopToken())
    watch.waited(1)
    watch.heard(1)
    watch.check()
    watch.waited(1)
