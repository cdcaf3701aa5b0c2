"""Copies that an S3 service makes from one bucket to another: of a service in memory, and of a real radosgw."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from config.settings.stores.s3 import S3StoreSettings
from tests.contract.cases.s3 import client_of, names_in, opened, settings_in
from tests.fakes.ceph import Ceph
from tests.fakes.s3_server import S3Server, error
from transship.domain.errors import (
    AlreadyStored,
    CopyDiffers,
    ImportCancelled,
    LockLost,
    StoreUnavailable,
)
from transship.domain.staged import StagedFile, StoredSource
from transship.domain.stop import StopToken
from transship.stores.base import StoredObject, Unfinished
from transship.stores.s3.driver import S3Store
from transship.stores.s3.names import Marker
from transship.stores.s3.upload import MIB

IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"
DATA = os.urandom(22 * MIB + 1)
"""Five parts."""
BUCKETS_DATA = "default.rgw.buckets.data"


class Moment:
    """A rate that calls ``at`` before some part is copied, and counts the bytes that it has let pass."""

    def __init__(self, at: Callable[[], object] | None = None, part: int = 3) -> None:
        self.parts = 0
        self._at, self._part = at, part

    def __call__(self, _bytes: int) -> None:
        self.parts += 1
        if self.parts == self._part and self._at is not None:
            self._at()


@dataclass
class Service:
    """A service with two stores in it.

    Attributes:
        origin, target: their settings.
        rot: change the last byte of an object in the first one, and nothing that the service says about it.
        server: the service in memory; None: it is a radosgw.
    """

    origin: S3StoreSettings
    target: S3StoreSettings
    rot: Callable[[str], None]
    server: S3Server | None

    def names(self) -> set[str]:
        """Return the names of everything in the second store."""
        client = client_of(self.target)
        found = names_in(client, self.target.bucket)
        client.close()
        return found


def in_memory(server: S3Server) -> Service:
    origin = settings_in(server.endpoint, server.new_bucket())
    objects = server.buckets[origin.bucket]

    def rot(key: str) -> None:
        content, etag = objects[key]
        objects[key] = content[:-1] + bytes([content[-1] ^ 1]), etag

    return Service(origin, settings_in(server.endpoint, server.new_bucket(), parts_in_flight=1), rot, server)


def in_radosgw(ceph: Ceph, tmp_path: Path) -> Service:
    buckets = [ceph.new_bucket(), ceph.new_bucket()]
    origin, target = (settings_in(ceph.endpoint, each, ceph.keys(), parts_in_flight=1) for each in buckets)

    def rot(key: str) -> None:
        marker = json.loads(ceph.run("radosgw-admin", "bucket", "stats", "--bucket", origin.bucket))["marker"]
        names = ceph.run("rados", "-p", BUCKETS_DATA, "ls").splitlines()
        (last,) = [each for each in names if each.startswith(f"{marker}__multipart_{key}.") and each.endswith(".5")]
        piece = tmp_path / "piece"
        ceph.run("rados", "-p", BUCKETS_DATA, "get", last, str(piece))
        content = piece.read_bytes()
        piece.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        ceph.run("rados", "-p", BUCKETS_DATA, "put", last, str(piece))

    return Service(origin, target, rot, None)


@pytest.fixture(
    params=["memory", pytest.param("radosgw", marks=[pytest.mark.real, pytest.mark.peers])],
)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    if request.param == "radosgw":
        yield in_radosgw(request.getfixturevalue("ceph"), tmp_path)
        return
    with S3Server() as server:
        yield in_memory(server)


@pytest.fixture
def origin(service: Service) -> Iterator[S3Store]:
    with opened(service.origin) as store:
        yield store


@pytest.fixture
def target(service: Service) -> Iterator[S3Store]:
    with opened(service.target) as store:
        yield store


def written(store: S3Store, tmp_path: Path, data: bytes = DATA) -> StoredSource:
    """Write an object; return it as it is copied."""
    file = tmp_path / "staged"
    file.write_bytes(data)
    made = store.put(IMAGE, StagedFile(file, len(data), 1), ignore, StopToken())
    return StoredSource("origin", made.url, made.size, made.proof, 3)


def ignore(_done: int) -> None:
    """Progress that is ignored."""


def copy(store: S3Store, source: StoredSource, stop: StopToken | None = None, **kept: object) -> StoredObject:
    unfinished = Unfinished(kept.get("token"), kept.get("keep", lambda _token: None))  # type: ignore[arg-type]
    return store.copy(IMAGE, source, ignore, stop or StopToken(), unfinished)


@pytest.mark.spec("ST-026")
@pytest.mark.parametrize("size", [1, 5 * MIB, 5 * MIB + 1, len(DATA)])
def test_a_copy_has_exactly_the_bytes_of_its_source(
    service: Service, origin: S3Store, target: S3Store, tmp_path: Path, size: int
) -> None:
    source = written(origin, tmp_path, DATA[:size])
    done: list[int] = []
    assert target.can_copy(source)

    made = target.copy(IMAGE, source, done.append, StopToken())

    assert made == StoredObject(target.url_of(IMAGE), size, source.proof)
    assert b"".join(target.read(made.url)) == DATA[:size]
    assert (done[-1], done) == (size, sorted(done))
    assert service.names() == {IMAGE}


@pytest.mark.spec("ST-026")
def test_a_source_that_is_not_what_was_written_is_not_copied(
    service: Service, origin: S3Store, target: S3Store, tmp_path: Path
) -> None:
    source = written(origin, tmp_path)
    service.rot(IMAGE)
    assert target.can_copy(source)  # the service itself has not noticed

    with pytest.raises(CopyDiffers, match="the data in origin are not the image's: the ETag is"):
        copy(target, source)

    assert service.names() == set()


@pytest.mark.spec("ST-026")
def test_what_cannot_be_proven_or_read_is_not_copied(
    service: Service, origin: S3Store, target: S3Store, tmp_path: Path
) -> None:
    source = written(origin, tmp_path)
    client = client_of(service.origin)
    client.put_object(Bucket=service.origin.bucket, Key="whole", Body=DATA)
    etag = client.head_object(Bucket=service.origin.bucket, Key="whole")["ETag"].strip('"')
    client.close()
    for other in (
        replace(source, url="file:///images/" + IMAGE),
        replace(source, url=source.url.replace("127.0.0.1", "127.0.0.2")),
        replace(source, url=source.url.replace(service.origin.bucket, "no-bucket")),
        replace(source, url=source.url[:-1] + "2"),
        replace(source, size=source.size - 1),
        replace(source, proof=""),
        replace(source, proof="link"),
        replace(source, url=origin.url_of("whole"), proof=f"etag:{etag}"),
    ):
        assert not target.can_copy(other), other
    assert target.can_copy(replace(source, url=source.url.replace("s3://", "s3://access:sec/ret@")))
    with opened(service.target.model_copy(update={"part_mib": 6}), prepared=False) as larger_parts:
        assert not larger_parts.can_copy(source)


@pytest.mark.spec("ST-026")
def test_an_object_without_bytes_is_not_copied(origin: S3Store, target: S3Store, tmp_path: Path) -> None:
    assert not target.can_copy(written(origin, tmp_path, b""))


@pytest.mark.spec("ST-026")
def test_an_object_that_is_there_or_appears_is_not_replaced(
    service: Service, origin: S3Store, target: S3Store, tmp_path: Path
) -> None:
    source = written(origin, tmp_path)
    client = client_of(service.target)
    appear = partial(client.put_object, Bucket=service.target.bucket, Key=IMAGE, Body=b"another's")

    for pace in (Moment(appear), Moment()):
        with pytest.raises(AlreadyStored):
            copy(target, replace(source, pace=pace))

    assert b"".join(target.read(target.url_of(IMAGE))) == b"another's"
    assert service.names() == {IMAGE}
    client.close()


@pytest.mark.spec("ST-026")
@pytest.mark.parametrize("reason", [ImportCancelled("enough"), LockLost(IMAGE, 3)], ids=repr)
def test_a_copy_that_must_end_leaves_nothing(
    service: Service, origin: S3Store, target: S3Store, tmp_path: Path, reason: Exception
) -> None:
    stop = StopToken()
    moment = Moment(lambda: stop.stop(reason))  # type: ignore[arg-type]

    with pytest.raises(type(reason)):
        copy(target, replace(written(origin, tmp_path), pace=moment), stop)

    assert moment.parts < 5
    assert service.names() == set()


@pytest.mark.spec("ST-026")
def test_a_copy_whose_temporary_was_discarded_publishes_nothing(
    service: Service, origin: S3Store, target: S3Store, tmp_path: Path
) -> None:
    moment = Moment(lambda: target.discard_temporaries(IMAGE, 4))

    with pytest.raises(StoreUnavailable, match="removed by another process"):
        copy(target, replace(written(origin, tmp_path), pace=moment))

    assert service.names() == set()


@pytest.mark.spec("ST-026")
def test_a_copy_goes_on_where_its_writer_was_killed(
    service: Service, origin: S3Store, target: S3Store, tmp_path: Path
) -> None:
    source = written(origin, tmp_path)
    client = client_of(service.target)
    token = client.create_multipart_upload(Bucket=service.target.bucket, Key=IMAGE)["UploadId"]
    client.put_object(Bucket=service.target.bucket, Key=Marker(IMAGE, 2, token).key)
    for number in (1, 4):
        client.upload_part_copy(
            Bucket=service.target.bucket,
            Key=IMAGE,
            UploadId=token,
            PartNumber=number,
            CopySource={"Bucket": service.origin.bucket, "Key": IMAGE},
            CopySourceIfMatch=f'"{source.proof.removeprefix("etag:")}"',
            CopySourceRange=f"bytes={(number - 1) * 5 * MIB}-{number * 5 * MIB - 1}",
        )
    client.close()
    moment = Moment()

    made = copy(target, replace(source, pace=moment), token=token)

    assert moment.parts == 3
    assert b"".join(target.read(made.url)) == DATA
    assert service.names() == {IMAGE}


@pytest.fixture
def server(service: Service) -> S3Server:
    assert service.server is not None
    return service.server


FAILS_AS_TOLD = pytest.mark.parametrize("service", ["memory"], indirect=True)


@FAILS_AS_TOLD
@pytest.mark.spec("ST-026")
def test_the_bytes_do_not_pass_through_this_machine(
    server: S3Server, origin: S3Store, target: S3Store, tmp_path: Path
) -> None:
    source = written(origin, tmp_path)
    server.history.clear()
    assert target.can_copy(source)
    copy(target, source)
    assert server.history.count("UploadPartCopy") == 5
    assert "UploadPart" not in server.history


@FAILS_AS_TOLD
@pytest.mark.spec("ST-026")
@pytest.mark.parametrize("gone", [True, False])
def test_a_source_that_changes_while_it_is_copied_is_not_copied(
    service: Service, server: S3Server, origin: S3Store, target: S3Store, tmp_path: Path, gone: bool
) -> None:
    source, objects = written(origin, tmp_path), server.buckets[service.origin.bucket]

    def change() -> None:
        content, _ = objects.pop(IMAGE)
        if not gone:
            objects[IMAGE] = content, "0" * 32

    with pytest.raises(CopyDiffers):
        copy(target, replace(source, pace=Moment(change)))

    assert service.names() == set()


@FAILS_AS_TOLD
@pytest.mark.spec("ST-026")
def test_what_a_key_service_encrypts_is_not_copied(
    service: Service, server: S3Server, origin: S3Store, target: S3Store, tmp_path: Path
) -> None:
    source = written(origin, tmp_path)
    server.encrypts = True
    assert not target.can_copy(source)

    moment = Moment()
    with pytest.raises(CopyDiffers, match="unknown, because a key service encrypts the copy"):
        copy(target, replace(source, pace=moment))

    assert moment.parts < 5
    assert service.names() == set()


@FAILS_AS_TOLD
@pytest.mark.spec("ST-026")
def test_a_copy_goes_on_when_the_service_is_back(
    service: Service, server: S3Server, origin: S3Store, target: S3Store, tmp_path: Path
) -> None:
    source, kept = written(origin, tmp_path), list[str]()
    moment = Moment(lambda: server.then("UploadPartCopy", *[error(503, "SlowDown")] * 20))
    with pytest.raises(StoreUnavailable):
        copy(target, replace(source, pace=moment), keep=kept.append)
    server.cancel("UploadPartCopy")
    moment = Moment()

    copy(target, replace(source, pace=moment, epoch=4), token=kept[0])

    assert moment.parts == 3
    assert service.names() == {IMAGE}
