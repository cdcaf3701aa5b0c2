"""A DNS server on loopback with configurable answers, and a resolver that uses it.

    with DnsServer() as dns:
        dns.say("mirror.example", ("93.184.215.14", "2606:4700::1"), ("127.0.0.1",))
        resolver = DnsResolver(dns.port)
        resolver.resolve("mirror.example", 80)   # the first answer, then the second for ever

Answers live 0 seconds. A name that was never told of does not exist.
"""

from __future__ import annotations

import socket
import struct
import threading
from ipaddress import ip_address
from types import TracebackType
from typing import Self

TYPE_A, TYPE_AAAA = 1, 28
_HEADER = "!HHHHHH"
_NO_SUCH_NAME = 3


class DnsServer:
    """Answers A and AAAA questions over UDP. Use as a context manager.

    Attributes:
        port: where it listens on 127.0.0.1.
        asked: name and type of each question, in order.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._answers: dict[tuple[str, int], list[list[bytes]]] = {}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.asked: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An empty datagram tells the thread to end; closing a socket does not wake who waits on it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._socket.close()

    def say(self, name: str, *answers: tuple[str, ...]) -> None:
        """Give these answers for ``name`` in order, repeating the last one; families may be mixed."""
        for kind, version in ((TYPE_A, 4), (TYPE_AAAA, 6)):
            self._answers[name, kind] = [
                [ip_address(one).packed for one in answer if ip_address(one).version == version] for answer in answers
            ]

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(4096)
            if not question:
                return
            self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        number = struct.unpack("!H", question[:2])[0]
        name, end = _name(question, 12)
        (kind,) = struct.unpack("!H", question[end : end + 2])
        self.asked.append((name, kind))
        turns = self._answers.get((name, kind))
        found = [] if turns is None else turns.pop(0) if len(turns) > 1 else turns[0]
        flags = 0x8180 | (_NO_SUCH_NAME if turns is None else 0)
        records = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(one)) + one for one in found)
        head = struct.pack(_HEADER, number, flags, 1, len(found), 0, 0)
        return head + question[12 : end + 4] + records


class DnsResolver:
    """Asks one server for A, then AAAA, or the other way round; takes what the gate's `Resolver` takes."""

    def __init__(self, port: int, *, ipv6_first: bool = False) -> None:
        self._port = port
        self._kinds = (TYPE_AAAA, TYPE_A) if ipv6_first else (TYPE_A, TYPE_AAAA)

    def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """Return the addresses; empty when there are none."""
        return tuple(address for kind in self._kinds for address in self._ask(host, kind))

    def _ask(self, host: str, kind: int) -> list[str]:
        labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in host.split("."))
        question = struct.pack(_HEADER, kind, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(60)
            asking.sendto(question, ("127.0.0.1", self._port))
            answer = asking.recv(4096)
        count = struct.unpack(_HEADER, answer[:12])[3]
        place = _name(answer, 12)[1] + 4
        found = []
        for _ in range(count):
            (length,) = struct.unpack("!H", answer[place + 10 : place + 12])
            found.append(str(ip_address(answer[place + 12 : place + 12 + length])))
            place += 12 + length
        return found


def _name(message: bytes, place: int) -> tuple[str, int]:
    labels = []
    while length := message[place]:
        labels.append(message[place + 1 : place + 1 + length].decode("ascii"))
        place += 1 + length
    return ".".join(labels).lower(), place + 1
