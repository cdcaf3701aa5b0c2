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
    """The bytes sent for one request, starting at ``first``."""

    first: int
    size: int = 0


class RangedFile:
    """A behaviour: an honest server of ``body``, with Range and If-Range.

    Attributes:
        body: what it serves; may be replaced at any time, together with ``etag``.
        etag: the validator; empty: none.
        accepts: value of ``Accept-Ranges``; empty: not sent.
        bytes_per_s: limit for each connection, 0: none.
        company: the first answer stops at its half until so many requests have come, itself included; for tests
            of connections side by side, of which a fast first one would need none.
        on_piece: called before each piece of body with the talk and the bytes sent over all connections;
            may break the connection, wait, or replace the body.
        sent: one entry a request, in order.
        most_at_once: most connections that were open at the same time while one of them was being answered.
    """

    def __init__(self, body: bytes | memoryview, *, etag: str = '"v1"', accepts: str = "bytes") -> None:
        self.body = memoryview(body)
        self.etag = etag
        self.accepts = accepts
        self.bytes_per_s = 0
        self.company = 0
        self.on_piece: Callable[[Talk, int], None] = lambda _talk, _sent: None
        self.sent: list[Sent] = []
        self.most_at_once = 0
        self._served: set[Talk] = set()
        self._changed = threading.Condition()

    @property
    def sent_bytes(self) -> int:
        """Bytes of body that were sent, over all requests, those that are being sent now included."""
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
        with self._changed:
            self.sent.append(one)
            # Whom the client has left is not served any more, though the thread that does it may not know yet.
            self._served = {talk, *(each for each in self._served if not each.hung_up)}
            self.most_at_once = max(self.most_at_once, len(self._served))
            self._changed.notify_all()
        try:
            talk.head(206 if "Content-Range" in headers else 200, headers)
            self._send(talk, body[first : last + 1], one)
        finally:
            with self._changed:
                self._served.discard(talk)

    def _send(self, talk: Talk, rest: memoryview, one: Sent) -> None:
        began = time.monotonic()
        for start in range(0, len(rest), _PIECE_BYTES):
            self.on_piece(talk, self.sent_bytes)
            if one is self.sent[0] and start >= len(rest) // 2:
                self._await_company()
            piece = rest[start : start + _PIECE_BYTES]
            # Counted first: whoever has the last piece may look at once.
            one.size += len(piece)
            talk.send(piece)
            if self.bytes_per_s:
                talk.pause_until(began + one.size / self.bytes_per_s)

    def _await_company(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self.sent) >= self.company, 60)


class StopsAtHalf(RangedFile):
    """A file of which only half is served until `go_on` is set; connections that waited until then are cut off."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.half, self.go_on = threading.Event(), threading.Event()
        self.on_piece = self._stop_at_half

    def _stop_at_half(self, _talk: Talk, sent: int) -> None:
        if sent >= len(self.body) // 2:
            self.half.set()
        if self.half.is_set() and not self.go_on.is_set():
            self.go_on.wait(300)
            raise ConnectionAbortedError("the client is gone")
