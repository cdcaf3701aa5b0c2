"""A web server on loopback with configurable misbehaviour, which records its requests.

    with WebServer() as server:
        url = server.serve("/x.img", b"data")                    # an honest file with ranges
        url = server.on("/y.img", cut(data, 100), whole(data))   # first request, then every later one
        ...
        assert server.requests("/y.img")[1].headers["range"] == "bytes=100-"

A behaviour is a function that gets a `Talk`: the request and the raw connection. When it returns
the connection is closed.
"""

from __future__ import annotations

import itertools
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Request:
    """What a client sent; header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]


class Talk:
    """One request and the connection to answer it on."""

    def __init__(self, request: Request, connection: socket.socket, closing: threading.Event) -> None:
        self.request = request
        self._connection = connection
        self._closing = closing

    def send(self, data: bytes | memoryview) -> None:
        """Send raw bytes; ends the behaviour when the client is gone."""
        self._connection.sendall(data)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send a status line and headers."""
        lines = [f"HTTP/1.1 {status} Words", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.send("\r\n".join(lines).encode("latin-1"))

    def pause(self, seconds: float | None = None) -> None:
        """Send nothing until the server closes."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError("the server closes")

    def pause_until(self, moment: float) -> None:
        """Send nothing until a time of the monotonic clock."""
        left_s = moment - time.monotonic()
        if left_s > 0:
            self.pause(left_s)

    @property
    def hung_up(self) -> bool:
        """Whether the client has closed the connection, or it is closed here."""
        if self._connection.fileno() < 0:
            return True
        look = select.poll()
        look.register(self._connection, select.POLLRDHUP)
        return bool(look.poll(0))

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


Behaviour = Callable[[Talk], None]


# --- behaviours --------------------------------------------------------------------------------


def whole(
    body: bytes, *, etag: str = '"v1"', ranges: bool = True, headers: Mapping[str, str] | None = None
) -> Behaviour:
    """An honest server; with ``ranges`` it knows Range and If-Range."""

    def behave(talk: Talk) -> None:
        extra = {**({"ETag": etag} if etag else {}), **(headers or {})}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", talk.request.headers.get("range", ""))
        condition = talk.request.headers.get("if-range", "")
        fits = condition in ("", etag, (headers or {}).get("Last-Modified", ""))
        if asked is None or not ranges or not fits:
            talk.head(200, {"Content-Length": str(len(body)), **extra})
            talk.send(body)
            return
        first = int(asked[1])
        last = min(int(asked[2] or len(body) - 1), len(body) - 1)
        if first > last:
            talk.head(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        span = f"bytes {first}-{last}/{len(body)}"
        talk.head(206, {"Content-Range": span, "Content-Length": str(last - first + 1), **extra})
        talk.send(body[first : last + 1])

    return behave


def answer(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Behaviour:
    """A fixed answer with a right length."""

    def behave(talk: Talk) -> None:
        talk.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        talk.send(body)

    return behave


def only_sized(body: bytes) -> Behaviour:
    """Say how long the body is, by its first byte; answer 500 to everything else."""
    sized, refused = whole(body), answer(500)
    return lambda talk: (sized if talk.request.headers.get("range") == "bytes=0-0" else refused)(talk)


def raw(data: bytes) -> Behaviour:
    """Exactly these bytes, then close."""
    return lambda talk: talk.send(data)


def cut(body: bytes, after: int, *, etag: str = '"v1"', reset: bool = False) -> Behaviour:
    """Announce all, send ``after`` bytes, break the connection."""

    def behave(talk: Talk) -> None:
        talk.head(200, {"Content-Length": str(len(body)), **({"ETag": etag} if etag else {})})
        talk.send(body[:after])
        if reset:
            talk.reset()

    return behave


def redirect(location: str | None, status: int = 302) -> Behaviour:
    """Send elsewhere."""
    return answer(status, {} if location is None else {"Location": location})


def silent(first: bytes = b"") -> Behaviour:
    """Send ``first``, then nothing, and keep the connection."""

    def behave(talk: Talk) -> None:
        talk.send(first)
        talk.pause()

    return behave


def drip(first: bytes, body: bytes, every_s: float) -> Behaviour:
    """Send ``first`` at once and ``body`` one byte at a time, over and over."""

    def behave(talk: Talk) -> None:
        talk.send(first)
        while True:
            for byte in body:
                talk.send(bytes([byte]))
                talk.pause(every_s)

    return behave


def endless(first: bytes, piece: bytes) -> Behaviour:
    """Send ``first``, then ``piece`` for ever, as fast as the client takes it."""

    def behave(talk: Talk) -> None:
        talk.send(first)
        while True:
            talk.send(piece)

    return behave


# --- the server --------------------------------------------------------------------------------


class WebServer:
    """A threaded server on a free port; see the module's text. Use as a context manager."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind((host, 0))
        self._listener.listen(16)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._tls = tls
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._behaviours: dict[str, list[Behaviour]] = {}
        self._requests: dict[str, list[tuple[int, Request]]] = {}
        self._connections: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.server_names: list[str] = []
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: self.server_names.append(name or "")

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for connection in self._connections:
                _quietly_shut(connection)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def url(self, path: str, host: str | None = None) -> str:
        """The address of ``path``, under another name of this host if given."""
        name = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{'http' if self._tls is None else 'https'}://{name}:{self.port}{path}"

    def serve(self, path: str, body: bytes, **how: object) -> str:
        """Serve a file correctly; return its URL. Keywords as for `whole`."""
        return self.on(path, whole(body, **how))  # type: ignore[arg-type]  # the keywords are whole()'s own

    def on(self, path: str, *behaviours: Behaviour) -> str:
        """Answer the requests for ``path`` in this order, the last behaviour for all further ones."""
        self._behaviours[path] = list(behaviours)
        return self.url(path)

    def requests(self, path: str) -> list[Request]:
        """What was asked of ``path`` (without query) so far, in the order of the connections."""
        with self._lock:
            return [request for _, request in sorted(self._requests.get(path, []), key=lambda asked: asked[0])]

    def _accept(self) -> None:
        for number in itertools.count():
            if self._closing.is_set():
                return
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._talk, args=(number, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, number: int, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
        secured = connection
        try:
            if self._tls is not None:
                secured = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._connections.add(secured)
            request = _read_request(secured)
            if request is not None:
                self._next_behaviour(number, request)(Talk(request, secured, self._closing))
            if isinstance(secured, ssl.SSLSocket):
                secured = secured.unwrap()
        except (OSError, ValueError):
            pass  # the client went away, or the behaviour wanted exactly this
        finally:
            with self._lock:
                self._connections -= {connection, secured}
                _quietly_shut(secured)
            secured.close()
            connection.close()

    def _next_behaviour(self, number: int, request: Request) -> Behaviour:
        path = request.target.partition("?")[0]
        with self._lock:
            asked = self._requests.setdefault(path, [])
            asked.append((number, request))
            behaviours = self._behaviours.get(path, [answer(404)])
            return behaviours[min(len(asked), len(behaviours)) - 1]


def _read_request(connection: socket.socket) -> Request | None:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return None
        received += piece
    first, *lines = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, target, headers)


def _quietly_shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_WR if not isinstance(connection, ssl.SSLSocket) else socket.SHUT_RDWR)
    except OSError:
        pass
