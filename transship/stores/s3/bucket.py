"""One bucket of an S3 service: boto3's client, with retries that obey the stop token, and errors that are ours."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from transship.domain.errors import StoreUnavailable
from transship.domain.stop import StopToken
from transship.stores.s3.body import PartBody
from transship.stores.s3.faults import code_of, may_pass, own_error_in, store_error

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CreateBucketRequestTypeDef,
        GetObjectRequestTypeDef,
        ListMultipartUploadsRequestTypeDef,
        ListObjectsV2RequestTypeDef,
        UploadPartCopyRequestTypeDef,
        UploadPartOutputTypeDef,
    )

PAUSES_S: Final = (0.2, 1.0)
"""Short, because whoever copies an image tries again too (``imports.store_retries``)."""

PIECE_BYTES: Final = 1024 * 1024
"""Size of the pieces of an object that is read."""

LONGEST_TEXT: Final = 4096
"""Bytes of a small object that are read."""

_NO_UPLOAD: Final = ("NoSuchUpload", "NoSuchKey")
"""How services answer about an upload that is gone; radosgw says NoSuchKey when its parts are asked for."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """An object in a bucket.

    Attributes:
        size: bytes.
        etag: without quotes; of an uploaded object ``<md5 of the parts' md5s>-<parts>`` unless ``encrypted``.
        encrypted: whether a key service encrypts it.
    """

    size: int
    etag: str
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part of an upload, as the service has it.

    Attributes:
        size: bytes.
        etag: without quotes; the MD5 of its bytes unless ``encrypted``.
        encrypted: whether a key service encrypts it, so its ETag is no MD5.
    """

    size: int
    etag: str
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Bytes of an object of the same service.

    Attributes:
        etag: that the object must have, without quotes; radosgw 16 does not look at it.
        start, end: of the bytes.
        whole: whether they are all of it. AWS takes no range of a small object.
    """

    bucket: str
    key: str
    etag: str
    start: int
    end: int
    whole: bool


class UploadGone(Exception):
    """The service does not know the upload: it was completed or aborted."""


class NameTaken(Exception):
    """The service refuses to complete an upload because an object has its name."""


class StreamCut(Exception):
    """The connection broke while an object was read."""


class ObjectStream:
    """The bytes of an object as they arrive. Close it, or its connection is not used again."""

    def __init__(self, etag: str, body: IO[bytes] | None) -> None:
        self.etag = etag
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        """Yield pieces of 1 MiB; the last may be shorter.

        Raises:
            StreamCut: the connection broke.
        """
        if self._body is None:
            return
        try:
            while piece := self._body.read(PIECE_BYTES):
                if len(piece) < PIECE_BYTES:
                    self._body.read(1)  # raises unless the piece is the last one
                yield piece
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StreamCut(str(error)) from error

    def close(self) -> None:
        """Drop what was not read."""
        if self._body is not None:
            self._body.close()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of an S3 service.

    All methods raise StoreDenied, StoreFull, StoreMisconfigured and StoreUnavailable, and the errors of ``wait``.

    Attributes:
        store: id of the store, for messages.
        client: of boto3; makes no attempts of its own.
        name: of the bucket.
        needed_bytes: of the object that is written, for messages.
        wait: called between two attempts with the seconds to wait.
        pauses_s: seconds before each further attempt of a request that failed for a passing reason.
    """

    store: str
    client: S3Client
    name: str
    needed_bytes: int = 1
    wait: Callable[[float], object] = time.sleep
    pauses_s: Sequence[float] = PAUSES_S

    def until(self, stop: StopToken) -> Bucket:
        """Return the same bucket, whose pauses ``stop`` ends."""
        return replace(self, wait=stop.wait)

    def impatient(self) -> Bucket:
        """Return the same bucket, making one attempt."""
        return replace(self, pauses_s=())

    def filled_by(self, needed_bytes: int) -> Bucket:
        """Return the same bucket, for an object of that size."""
        return replace(self, needed_bytes=needed_bytes)

    def create(self, region: str) -> None:
        """Create the bucket unless it exists."""
        try:
            self._call(lambda: self.client.head_bucket(Bucket=self.name), "404")
        except _Answered:
            asked: CreateBucketRequestTypeDef = {"Bucket": self.name}
            if region and region != "us-east-1":  # AWS refuses that one as a location
                asked["CreateBucketConfiguration"] = {
                    "LocationConstraint": cast("BucketLocationConstraintType", region)
                }
            self._call(lambda: self.client.create_bucket(**asked))

    def head(self, key: str) -> ObjectFacts | None:
        """Return the facts of an object; None if it, or the bucket, does not exist."""
        try:
            found = self._call(lambda: self.client.head_object(Bucket=self.name, Key=key), "404", "403")
        except _Answered as answer:
            if answer.code == "404":
                return None
            # An answer to HEAD has no text; that to GET names the reason.
            self._call(lambda: self.client.get_object(Bucket=self.name, Key=key, Range="bytes=0-0"))
            raise StoreUnavailable(self.store, "the service answered 403 to HeadObject") from answer
        return ObjectFacts(found["ContentLength"], found["ETag"].strip('"'), _is_encrypted(found))

    def text(self, key: str) -> str | None:
        """Return the text of a small object; None if it does not exist."""
        try:
            found = self._call(lambda: self.client.get_object(Bucket=self.name, Key=key), "NoSuchKey")
            return found["Body"].read(LONGEST_TEXT).decode("utf-8", errors="replace").strip()
        except _Answered:
            return None
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StoreUnavailable(self.store, "the connection broke") from error

    def read(self, key: str, offset: int, end: int | None, etag: str) -> ObjectStream | None:
        """Open an object from ``offset``, to ``end`` or its own end; None if it does not exist.

        Args:
            etag: that it must have; empty: any.

        Raises:
            StoreUnavailable: it has another ETag now.
        """
        asked: GetObjectRequestTypeDef = {"Bucket": self.name, "Key": key}
        if offset or end is not None:
            asked["Range"] = f"bytes={offset}-{'' if end is None else end - 1}"
        if etag:
            asked["IfMatch"] = f'"{etag}"'
        try:
            found = self._call(
                lambda: self.client.get_object(**asked), "NoSuchKey", "InvalidRange", "PreconditionFailed"
            )
        except _Answered as answer:
            match answer.code:
                case "NoSuchKey":
                    return None
                case "InvalidRange":  # nothing is there from that offset
                    return ObjectStream(etag, None)
            raise StoreUnavailable(self.store, "the object changed while it was read") from answer
        return ObjectStream(found["ETag"].strip('"'), cast(IO[bytes], found["Body"]))

    def write(self, key: str, content: bytes) -> None:
        """Write a small object, in place of any other."""
        self._call(lambda: self.client.put_object(Bucket=self.name, Key=key, Body=content))

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is not an error."""
        self._call(lambda: self.client.delete_object(Bucket=self.name, Key=key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys of all objects with that prefix, in order."""
        asked: ListObjectsV2RequestTypeDef = {"Bucket": self.name, "Prefix": prefix}
        while True:
            page = self._call(partial(self.client.list_objects_v2, **asked))
            found = [each["Key"] for each in page.get("Contents", ())]
            yield from found
            if not page["IsTruncated"] or not found:
                return
            asked["StartAfter"] = found[-1]

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yield key and id of all unfinished uploads to keys with that prefix, in order."""
        asked: ListMultipartUploadsRequestTypeDef = {"Bucket": self.name, "Prefix": prefix}
        while True:
            page = self._call(partial(self.client.list_multipart_uploads, **asked))
            yield from ((each["Key"], each["UploadId"]) for each in page.get("Uploads", ()))
            if not page["IsTruncated"]:
                return
            asked["KeyMarker"], asked["UploadIdMarker"] = page["NextKeyMarker"], page["NextUploadIdMarker"]

    def begin(self, key: str) -> str:
        """Begin an upload; return its id."""
        return self._call(lambda: self.client.create_multipart_upload(Bucket=self.name, Key=key))["UploadId"]

    def abort(self, key: str, upload: str) -> bool:
        """Give an upload up, with all its parts; return whether it existed."""
        ask = partial(self.client.abort_multipart_upload, Bucket=self.name, Key=key, UploadId=upload)
        try:
            self._call(ask, *_NO_UPLOAD)
        except _Answered:
            return False
        return True

    def parts(self, key: str, upload: str) -> Mapping[int, SentPart]:
        """Return the parts that an upload has, by number.

        Raises:
            UploadGone: there is no such upload.
        """
        found: dict[int, SentPart] = {}
        after = 0
        while True:
            ask = partial(self.client.list_parts, Bucket=self.name, Key=key, UploadId=upload, PartNumberMarker=after)
            try:
                page = self._call(ask, *_NO_UPLOAD)
            except _Answered as answer:
                raise UploadGone from answer
            parts = page.get("Parts", ())
            found |= {each["PartNumber"]: SentPart(each["Size"], each["ETag"].strip('"')) for each in parts}
            if not page["IsTruncated"]:
                return found
            after = page["NextPartNumberMarker"]

    def send(self, key: str, upload: str, number: int, size: int, md5: bytes, body: Callable[[], PartBody]) -> SentPart:
        """Send one part, which the service compares with its MD5.

        Args:
            size: bytes in it.
            md5: of its bytes, 16 bytes.
            body: makes the part's bytes for an attempt. What it raises while it is read is raised here.

        Raises:
            UploadGone: there is no such upload.
        """

        def attempt() -> UploadPartOutputTypeDef:
            return self.client.upload_part(
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                ContentLength=size,
                ContentMD5=base64.b64encode(md5).decode(),
                Body=cast(IO[bytes], body()) if size else b"",
            )

        try:
            answer = self._call(attempt, *_NO_UPLOAD)
        except _Answered as gone:
            raise UploadGone from gone
        return SentPart(size, answer["ETag"].strip('"'), _is_encrypted(answer))

    def copy(self, key: str, upload: str, number: int, source: SourceRange) -> SentPart | None:
        """Make one part of another object's bytes; None if that object is gone or has another ETag.

        Raises:
            UploadGone: there is no such upload.
        """
        asked: UploadPartCopyRequestTypeDef = {
            "Bucket": self.name,
            "Key": key,
            "UploadId": upload,
            "PartNumber": number,
            "CopySource": {"Bucket": source.bucket, "Key": source.key},
            "CopySourceIfMatch": f'"{source.etag}"',
        }
        if not source.whole:
            asked["CopySourceRange"] = f"bytes={source.start}-{source.end - 1}"
        try:
            answer = self._call(
                lambda: self.client.upload_part_copy(**asked), "NoSuchUpload", "NoSuchKey", "PreconditionFailed"
            )
        except _Answered as refusal:
            if refusal.code == "NoSuchUpload":
                raise UploadGone from refusal
            return None
        etag = answer["CopyPartResult"]["ETag"].strip('"')
        return SentPart(source.end - source.start, etag, _is_encrypted(answer))

    def complete(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Make an object of an upload's parts.

        Sent again after its answer was lost, it raises UploadGone or NameTaken though it has succeeded. A service that
        knows ``If-None-Match`` here (AWS) never replaces an object. radosgw 16 does not know it.

        Raises:
            UploadGone: there is no such upload.
            NameTaken: an object has the name.
        """
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)
        ]
        ask = partial(
            self.client.complete_multipart_upload,
            Bucket=self.name,
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )
        try:
            try:
                self._call(partial(ask, IfNoneMatch="*"), *_NO_UPLOAD, "PreconditionFailed", "NotImplemented")
            except _Answered as answer:
                if answer.code != "NotImplemented":  # some services refuse what they do not know
                    raise
                self._call(ask, *_NO_UPLOAD)
        except _Answered as answer:
            raise (NameTaken if answer.code == "PreconditionFailed" else UploadGone) from answer

    def _call(self, request: Callable[[], _Answer], *expected: str) -> _Answer:
        """Send a request, again after passing failures; raise `_Answered` for an error code that is expected."""
        for pause_s in (*self.pauses_s, None):
            try:
                return request()
            except (BotoCoreError, ClientError, OSError) as error:
                own = own_error_in(error)
                if own is not None:
                    raise own from None
                if code_of(error) in expected:
                    raise _Answered(code_of(error)) from error
                if pause_s is None or not may_pass(error):
                    raise store_error(self.store, error, self.needed_bytes) from error
            self.wait(pause_s)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _is_encrypted(answer: Mapping[str, Any]) -> bool:
    """Return whether a key service encrypts what an answer is about, so that its ETag is no MD5."""
    return str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")


class _Answered(Exception):
    """A service answered with an error code that its caller handles."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
