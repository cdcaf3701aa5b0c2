"""An S3 service in memory, which refuses to replace objects as AWS does, and fails as told.

    with S3Server() as server:
        server.then("UploadPart", error(503, "SlowDown"))       # the next part is refused, later ones are not
        server.then("CompleteMultipartUpload", lost)            # done, but nobody hears of it
        ...
        assert server.history.count("UploadPart") == 4

The store contract runs against it. It does not look at signatures: the tests with a real radosgw do.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4
from xml.sax.saxutils import escape

SMALL_BYTES = 5 << 20
"""Objects that are not larger can only be copied whole, as with AWS."""


@dataclass
class Answer:
    """What a client gets; after ``cut`` bytes of the body, if set, the connection breaks."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


Mishap = Callable[[Callable[[], Answer]], Answer | None]
"""Gets what would answer a request, and returns what does; None breaks the connection."""


def error(status: int, code: str) -> Mishap:
    """Answer with an error, and do nothing."""
    return lambda _proceed: _error(status, code)


def lost(proceed: Callable[[], Answer]) -> None:
    """Do as asked, and break the connection instead of answering."""
    proceed()


def cut(after: int) -> Mishap:
    """Break the connection after some bytes of the answer's body."""

    def behave(proceed: Callable[[], Answer]) -> Answer:
        answer = proceed()
        answer.cut = after
        return answer

    return behave


@dataclass
class Upload:
    """An unfinished upload, and the bytes and ETag of its parts."""

    key: str
    parts: dict[int, tuple[bytes, str]] = field(default_factory=dict)


class S3Server:
    """The service, on a free port of loopback.

    Attributes:
        buckets: objects and their ETags, by bucket and key.
        uploads: unfinished uploads, by bucket and id.
        regions: of the buckets that were created by request, where one was named.
        history: names of the operations that were asked for.
        page: most entries of a list in one answer.
        encrypts: whether ETags are no MD5s, as with keys of a key service.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.buckets: dict[str, dict[str, tuple[bytes, str]]] = {}
        self.uploads: dict[str, dict[str, Upload]] = {}
        self.regions: dict[str, str] = {}
        self.history: list[str] = []
        self.page = 1000
        self.encrypts = False
        self._mishaps: dict[str, list[Mishap]] = {}
        self._lock = threading.RLock()
        self._http = _Listener(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self._http.server_address[1]}"
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def new_bucket(self) -> str:
        """Make a bucket; return its name."""
        name = f"images-{uuid4().hex[:12]}"
        self.buckets[name], self.uploads[name] = {}, {}
        return name

    def then(self, operation: str, *mishaps: Mishap) -> None:
        """Let mishaps happen to the next requests for an operation, one to each."""
        self._mishaps.setdefault(operation, []).extend(mishaps)

    def cancel(self, operation: str) -> None:
        """Forget mishaps that did not happen yet."""
        self._mishaps.pop(operation, None)

    def answer(self, asked: Asked) -> Answer | None:
        """Answer a request; None breaks the connection."""
        with self._lock:
            self.history.append(asked.operation)
            waiting = self._mishaps.get(asked.operation)
            mishap = waiting.pop(0) if waiting else None
        if mishap is not None:
            return mishap(lambda: self._do(asked))
        return self._do(asked)

    def _do(self, asked: Asked) -> Answer:
        with self._lock:
            if asked.operation != "CreateBucket" and asked.bucket not in self.buckets:
                return _error(404, "NoSuchBucket")
            answer: Answer = getattr(self, f"_{asked.operation}")(asked)
            return answer

    @property
    def _encryption(self) -> dict[str, str]:
        return {"x-amz-server-side-encryption": "aws:kms"} if self.encrypts else {}

    # The operations, named as in the API.

    def _CreateBucket(self, asked: Asked) -> Answer:  # noqa: N802
        self.buckets.setdefault(asked.bucket, {})
        self.uploads.setdefault(asked.bucket, {})
        region = re.search(b"<LocationConstraint>(.*)</LocationConstraint>", asked.body)
        self.regions[asked.bucket] = region[1].decode() if region else ""
        return Answer(200)

    def _HeadBucket(self, _asked: Asked) -> Answer:  # noqa: N802
        return Answer(200)

    def _ListObjectsV2(self, asked: Asked) -> Answer:  # noqa: N802
        after = asked.query.get("start-after", "")
        keys = [key for key in sorted(self.buckets[asked.bucket]) if key.startswith(asked.prefix) and key > after]
        entries = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys[: self.page])
        more = str(len(keys) > self.page).lower()
        return _xml("ListBucketResult", f"<IsTruncated>{more}</IsTruncated>{entries}")

    def _ListMultipartUploads(self, asked: Asked) -> Answer:  # noqa: N802
        after = (asked.query.get("key-marker", ""), asked.query.get("upload-id-marker", ""))
        found = sorted((each.key, name) for name, each in self.uploads[asked.bucket].items())
        found = [each for each in found if each[0].startswith(asked.prefix) and each > after]
        page = found[: self.page]
        entries = "".join(f"<Upload><Key>{escape(key)}</Key><UploadId>{name}</UploadId></Upload>" for key, name in page)
        key, name = page[-1] if page else ("", "")
        more = str(len(found) > self.page).lower()
        return _xml(
            "ListMultipartUploadsResult",
            f"<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{name}</NextUploadIdMarker>"
            f"<IsTruncated>{more}</IsTruncated>{entries}",
        )

    def _PutObject(self, asked: Asked) -> Answer:  # noqa: N802
        etag = hashlib.md5(asked.body, usedforsecurity=False).hexdigest()
        self.buckets[asked.bucket][asked.key] = asked.body, etag
        return Answer(200, headers={"ETag": f'"{etag}"'})

    def _HeadObject(self, asked: Asked) -> Answer:  # noqa: N802
        found = self.buckets[asked.bucket].get(asked.key)
        if found is None:
            return _error(404, "NoSuchKey")
        return Answer(200, found[0], {"ETag": f'"{found[1]}"', **self._encryption})

    def _GetObject(self, asked: Asked) -> Answer:  # noqa: N802
        found = self.buckets[asked.bucket].get(asked.key)
        if found is None:
            return _error(404, "NoSuchKey")
        content, etag = found
        if asked.headers.get("If-Match", f'"{etag}"') != f'"{etag}"':
            return _error(412, "PreconditionFailed")
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range", ""))
        if span is None:
            return Answer(200, content, {"ETag": f'"{etag}"'})
        first, last = int(span[1]), int(span[2] or len(content) - 1)
        if first >= len(content):
            return _error(416, "InvalidRange")
        return Answer(206, content[first : last + 1], {"ETag": f'"{etag}"'})

    def _DeleteObject(self, asked: Asked) -> Answer:  # noqa: N802
        self.buckets[asked.bucket].pop(asked.key, None)
        return Answer(204)

    def _CreateMultipartUpload(self, asked: Asked) -> Answer:  # noqa: N802
        name = uuid4().hex
        self.uploads[asked.bucket][name] = Upload(asked.key)
        return _xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")

    def _UploadPart(self, asked: Asked) -> Answer:  # noqa: N802
        upload = self.uploads[asked.bucket].get(asked.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload")
        md5 = hashlib.md5(asked.body, usedforsecurity=False)
        if asked.headers["Content-MD5"] != base64.b64encode(md5.digest()).decode():
            return _error(400, "BadDigest")
        etag = uuid4().hex if self.encrypts else md5.hexdigest()
        upload.parts[int(asked.query["partNumber"])] = asked.body, etag
        return Answer(200, headers={"ETag": f'"{etag}"', **self._encryption})

    def _UploadPartCopy(self, asked: Asked) -> Answer:  # noqa: N802
        upload = self.uploads[asked.bucket].get(asked.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload")
        bucket, _, key = unquote(asked.headers["x-amz-copy-source"]).partition("/")
        if key not in self.buckets.get(bucket, {}):
            return _error(404, "NoSuchKey")
        content, source_etag = self.buckets[bucket][key]
        if asked.headers["x-amz-copy-source-if-match"] != f'"{source_etag}"':
            return _error(412, "PreconditionFailed")
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("x-amz-copy-source-range", ""))
        if span is not None and (len(content) <= SMALL_BYTES or int(span[2]) >= len(content)):
            return _error(400, "InvalidRequest")
        part = content if span is None else content[int(span[1]) : int(span[2]) + 1]
        etag = uuid4().hex if self.encrypts else hashlib.md5(part, usedforsecurity=False).hexdigest()
        upload.parts[int(asked.query["partNumber"])] = part, etag
        answer = _xml("CopyPartResult", f"<ETag>&quot;{etag}&quot;</ETag>")
        answer.headers |= self._encryption
        return answer

    def _ListParts(self, asked: Asked) -> Answer:  # noqa: N802
        upload = self.uploads[asked.bucket].get(asked.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload")
        after = int(asked.query.get("part-number-marker", 0))
        found = [(number, *upload.parts[number]) for number in sorted(upload.parts) if number > after]
        page = found[: self.page]
        entries = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><Size>{len(body)}</Size></Part>"
            for number, body, etag in page
        )
        more = str(len(found) > self.page).lower()
        last = page[-1][0] if page else 0
        return _xml(
            "ListPartsResult",
            f"<NextPartNumberMarker>{last}</NextPartNumberMarker><IsTruncated>{more}</IsTruncated>{entries}",
        )

    def _AbortMultipartUpload(self, asked: Asked) -> Answer:  # noqa: N802
        found = self.uploads[asked.bucket].pop(asked.query["uploadId"], None)
        return Answer(204) if found else _error(404, "NoSuchUpload")

    def _CompleteMultipartUpload(self, asked: Asked) -> Answer:  # noqa: N802
        objects, upload = self.buckets[asked.bucket], self.uploads[asked.bucket].get(asked.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload")
        if asked.headers.get("If-None-Match") == "*" and asked.key in objects:
            return _error(412, "PreconditionFailed")
        numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", asked.body)]
        parts = [upload.parts[number] for number in numbers]
        together = hashlib.md5(b"".join(bytes.fromhex(etag) for _, etag in parts), usedforsecurity=False).hexdigest()
        etag = f"{uuid4().hex if self.encrypts else together}-{len(parts)}"
        objects[asked.key] = b"".join(body for body, _ in parts), etag
        del self.uploads[asked.bucket][asked.query["uploadId"]]
        return _xml("CompleteMultipartUploadResult", f"<ETag>&quot;{etag}&quot;</ETag>")


@dataclass
class Asked:
    """A request."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: Any
    body: bytes

    @property
    def prefix(self) -> str:
        return self.query.get("prefix", "")

    @property
    def operation(self) -> str:
        """Its name in the API."""
        for method, on_key, marks, name in _OPERATIONS:
            if (self.method, bool(self.key)) == (method, on_key) and marks <= self.query.keys():
                return f"{name}Copy" if "x-amz-copy-source" in self.headers else name
        raise AssertionError(f"unknown: {self.method} {self.key} {self.query}")


_OPERATIONS: Iterable[tuple[str, bool, set[str], str]] = (
    ("PUT", False, set(), "CreateBucket"),
    ("HEAD", False, set(), "HeadBucket"),
    ("GET", False, {"uploads"}, "ListMultipartUploads"),
    ("GET", False, set(), "ListObjectsV2"),
    ("PUT", True, {"partNumber"}, "UploadPart"),
    ("PUT", True, set(), "PutObject"),
    ("HEAD", True, set(), "HeadObject"),
    ("GET", True, {"uploadId"}, "ListParts"),
    ("GET", True, set(), "GetObject"),
    ("DELETE", True, {"uploadId"}, "AbortMultipartUpload"),
    ("DELETE", True, set(), "DeleteObject"),
    ("POST", True, {"uploads"}, "CreateMultipartUpload"),
    ("POST", True, {"uploadId"}, "CompleteMultipartUpload"),
)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about clients that left; errors of the service end a test anyway."""


class _Handler(BaseHTTPRequestHandler):
    service: S3Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            return  # the client left in the middle
        answer = self.service.answer(Asked(self.command, bucket, key, query, self.headers, body))
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut])
        self.close_connection |= answer.cut is not None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing."""


def _error(status: int, code: str) -> Answer:
    return _xml("Error", f"<Code>{code}</Code>", status)


def _xml(root: str, inner: str, status: int = 200) -> Answer:
    return Answer(status, f'<?xml version="1.0"?><{root}>{inner}</{root}>'.encode(), {"Content-Type": "text/xml"})
