"""An HTTP proxy on loopback: CONNECT and absolute URIs. It finds hosts by its own table and notes what it is asked."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class ProxyServer:
    """A proxy. Use as a context manager.

    Args:
        hosts: address and port behind each ``host:port`` that it knows; others give 502.
        status: answer every request with this status instead; 0: serve.
        interim: sent before the answer to a CONNECT.

    Attributes:
        port: where it listens on 127.0.0.1.
        asked: the head of each request, as text.
    """

    def __init__(self, hosts: Mapping[str, tuple[str, int]], *, status: int = 0, interim: bytes = b"") -> None:
        self._hosts = hosts
        self._status = status
        self._interim = interim
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(16)
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[str] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    @property
    def url(self) -> str:
        """Value for ``download.proxy_url``."""
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                self._talk(client)
            except OSError:
                pass  # one of the two went away

    def _talk(self, client: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = client.recv(65536)
            if not piece:
                return
            received += piece
        head = received.decode("latin-1")
        self.asked.append(head)
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        key = target if method == "CONNECT" else target.split("/")[2]
        behind = self._hosts.get(key if ":" in key else f"{key}:80")
        if self._status or behind is None:
            client.sendall(f"HTTP/1.1 {self._status or 502} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        with socket.create_connection(behind) as server:
            if method == "CONNECT":
                client.sendall(self._interim + b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                server.sendall(received.replace(target.encode("latin-1"), path.encode("latin-1"), 1))
            _pump(client, server)


def _pump(one: socket.socket, other: socket.socket) -> None:
    with selectors.DefaultSelector() as waiting:
        for source, sink in ((one, other), (other, one)):
            waiting.register(source, selectors.EVENT_READ, sink)
        while True:
            for key, _ in waiting.select():
                source = one if key.fileobj is one else other
                data = source.recv(65536)
                if not data:
                    return
                key.data.sendall(data)
