"""Limits while waiting for a source: stop, silence, speed and total time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from config.settings import DownloadSettings
from transship.domain.errors import SourceTookTooLong, SourceTooSlow
from transship.domain.stop import StopToken

_SAMPLES = 16
"""Number of samples in the speed window, which makes its edge exact to one sixteenth."""


class Waiting(Protocol):
    """Receives a connection's waiting times, and ends it.

    Attributes:
        uri: the current URI, for display.
        stop: checked ten times a second.
    """

    uri: str
    stop: StopToken

    def check(self) -> None:
        """Raise if the download must end."""

    def heard(self, size_bytes: int) -> None:
        """Note bytes that the source sent."""

    def waited(self, seconds: float) -> None:
        """Note time that was spent waiting for the source; raise if a limit is passed."""


class Watch:
    """Ends a download that breaks a limit; any number of threads may share one.

    Speed is bytes over the time *spent waiting for the source*, so a slow local disk is not blamed on the server. Time
    during which several connections wait in parallel counts once; limits apply to their sum. The speed is not judged
    before two windows have passed: a scanning proxy may pass on little or nothing until it has seen the whole file.
    """

    def __init__(self, uri: str, limits: DownloadSettings, stop: StopToken) -> None:
        self.uri = uri
        self.stop = stop
        self._limits = limits
        self._ends_at = time.monotonic() + limits.total_timeout_s
        self._silent_s = 0.0
        self._waited_s = 0.0
        self._heard_bytes = 0
        self._samples: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._lock = threading.Lock()
        self._connections = 0

    def check(self) -> None:
        """End the download if it was stopped or has lasted too long.

        Raises:
            LockLost, ImportStopped: the reason of the stop token.
            SourceTookTooLong: the time for the whole download is over.
        """
        self.stop.check()
        if time.monotonic() > self._ends_at:
            raise SourceTookTooLong(self.uri, self._limits.total_timeout_s)

    def heard(self, size_bytes: int) -> None:
        """Note bytes that the source sent."""
        with self._lock:
            self._heard_bytes += size_bytes
            self._silent_s = 0.0

    @contextmanager
    def one_of_several(self) -> Iterator[None]:
        """Count a connection among the parallel ones until the block ends."""
        with self._lock:
            self._connections += 1
        try:
            yield
        finally:
            with self._lock:
                self._connections -= 1

    def waited(self, seconds: float) -> None:
        """Note time that was spent waiting for the source.

        Raises:
            SourceTooSlow: it was silent for too long, or sends too slowly.
            LockLost, ImportStopped, SourceTookTooLong: as `check`.
        """
        self.check()
        with self._lock:
            share_s = seconds / max(1, self._connections)
            self._silent_s += share_s
            self._waited_s += share_s
            if self._silent_s > self._limits.idle_timeout_s:
                raise self.silent()
            self._check_speed()

    def silent(self) -> SourceTooSlow:
        """Return the error for a source that was silent for too long."""
        limits = self._limits
        return SourceTooSlow(self.uri, 0, max(1, limits.min_speed_bytes_per_s), limits.idle_timeout_s)

    @property
    def idle_timeout_s(self) -> float:
        """Longest silence allowed, in seconds."""
        return self._limits.idle_timeout_s

    def _check_speed(self) -> None:
        window_s, minimum = self._limits.min_speed_window_s, self._limits.min_speed_bytes_per_s
        samples = self._samples
        if self._waited_s - samples[-1][0] >= window_s / _SAMPLES:
            samples.append((self._waited_s, self._heard_bytes))
        while len(samples) > 1 and samples[1][0] <= self._waited_s - window_s:
            samples.popleft()
        if self._waited_s < 2 * window_s:
            return
        since_s, heard_bytes = samples[0]
        span_s = self._waited_s - since_s
        rate = int((self._heard_bytes - heard_bytes) / span_s)
        if rate < minimum:
            raise SourceTooSlow(self.uri, rate, minimum, window_s)
