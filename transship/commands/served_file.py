"""Serve one local file over HTTP on loopback, for one import."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final, cast
from urllib.parse import quote

from transship.domain.errors import CommandRefused

LOOPBACK: Final = "127.0.0.1"
CHUNK_BYTES: Final = 1024 * 1024
RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file as it was when it was looked at first.

    Attributes:
        path: absolute.
        size: bytes.
        tag: strong entity tag; changes with size, time of change and inode.
    """

    path: Path
    size: int
    tag: str

    @classmethod
    def at(cls, path: Path) -> LocalFile:
        """Look at a file.

        Raises:
            CommandRefused: it cannot be read, or is no regular file.
        """
        path = path.absolute()
        try:
            with path.open("rb") as stream:
                found = os.fstat(stream.fileno())
        except OSError as error:
            raise CommandRefused(f"{path} cannot be read: {error.strerror}") from error
        if not path.is_file():
            raise CommandRefused(f"{path} is not a file")
        return cls(path, found.st_size, f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"')

    def digest(self, algorithm: str) -> str:
        """Return the digest of the contents, lower-case hex; reads the whole file."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()


@contextmanager
def served(file: LocalFile) -> Iterator[tuple[str, int]]:
    """Serve a file as long as the block runs.

    Only one path answers, and nobody who does not know the import can guess it.

    Yields:
        The file's URL and the port; the host is `LOOPBACK`.
    """
    server = _Server(file)
    thread = Thread(target=server.serve_forever, name="served-file", daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}{server.file_path}", server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return first byte and length that a Range header asks for.

    Args:
        header: its value; empty, several ranges and other units are answered with the whole file.
        size: of the file, bytes.

    Returns:
        None for the whole file.

    Raises:
        ValueError: no byte of the file is in the range.

    Source: RFC 9110, section 14.
    """
    match = RANGE.fullmatch(header.strip())
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        start, end = size - length, size
    else:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise ValueError(f"no byte of {size} in {header}")
    return start, end - start


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, file: LocalFile) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.file = file
        # The name at the end lets the import speak of the file by its name.
        self.file_path = f"/{secrets.token_urlsafe(16)}/{quote(file.path.name)}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "transship"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        """Send the file or a part of it."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send the headers that GET would send."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
        """Say nothing: the progress stands on the console."""

    def _answer(self, *, with_body: bool) -> None:
        server = cast("_Server", self.server)
        if self.path != server.file_path:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        file = server.file
        # A range of a file that has changed would be glued to a part of the old one.
        current = self.headers.get("If-Range", file.tag) == file.tag
        try:
            part = parse_range(self.headers.get("Range", ""), file.size) if current else None
        except ValueError:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{file.size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, length = part or (0, file.size)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK)
        if part:
            self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{file.size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", file.tag)
        self.end_headers()
        if with_body:
            self._send(file.path, start, length)

    def _send(self, path: Path, start: int, length: int) -> None:
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                while length > 0 and (piece := stream.read(min(CHUNK_BYTES, length))):
                    self.wfile.write(piece)
                    length -= len(piece)
        except OSError:
            # The reader went away or the file did; the import sees a short answer and says so.
            self.close_connection = True
            return
        if length:
            self.close_connection = True
