"""A file behind `WebServer` that serves ranges, counts what it sent, and slows down where asked.

file = RangedFile(body)
url = server.on("/x.img", file)
...
assert file.sent_bytes == len(body)
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.web_server import Talk

_PIECE_BYTES = 128 * 1024


@dataclass
class Sent:
    """What went out for one request: bytes from ``first`` on."""

    first: int
    size: int = 0


class RangedFile:
    """A behaviour: an honest server of ``body``, with Range and If-Range.

    Attributes:
        body: what it serves; may be replaced at any time, together with ``etag``.
        etag: the validator; empty: none.
        accepts: value of ``Accept-Ranges``; empty: not sent.
        bytes_per_s: limit for each connection, 0: none.
        on_piece: called before each piece of body with the talk and the bytes sent over all connections;
            may break the connection, wait, or replace the body.
        sent: one entry a request, in order.
        most_at_once: most connections that were being served at the same time.
    """

    def __init__(self, body: bytes | memoryview, *, etag: str = '"v1"', accepts: str = "bytes") -> None:
        self.body = memoryview(body)
        self.etag = etag
        self.accepts = accepts
        self.bytes_per_s = 0
        self.on_piece: Callable[[Talk, int], None] = lambda _talk, _sent: None
        self.sent: list[Sent] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    @property
    def sent_bytes(self) -> int:
        """Bytes of body that were handed to the kernel, over all requests."""
        return sum(one.size for one in self.sent)

    def replace(self, body: bytes, etag: str) -> None:
        """Serve another version from the next request on."""
        self.body, self.etag = memoryview(body), etag

    def __call__(self, talk: Talk) -> None:
        """Answer one request."""
        body, etag = self.body, self.etag
        headers = {"ETag": etag} if etag else {}
        if self.accepts:
            headers["Accept-Ranges"] = self.accepts
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", talk.request.headers.get("range", ""))
        first, last = 0, len(body) - 1
        if asked is not None and talk.request.headers.get("if-range", etag) == etag:
            first, last = int(asked[1]), min(int(asked[2] or last), last)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        headers["Content-Length"] = str(last - first + 1)
        one = Sent(first)
        with self._lock:
            self.sent.append(one)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            talk.head(206 if "Content-Range" in headers else 200, headers)
            self._send(talk, body[first : last + 1], one)
        finally:
            with self._lock:
                self._now -= 1

    def _send(self, talk: Talk, rest: memoryview, one: Sent) -> None:
        began = time.monotonic()
        for start in range(0, len(rest), _PIECE_BYTES):
            self.on_piece(talk, self.sent_bytes)
            piece = rest[start : start + _PIECE_BYTES]
            talk.send(piece)
            one.size += len(piece)
            if self.bytes_per_s:
                talk.pause_until(began + one.size / self.bytes_per_s)
