"""What only the S3 store has, with a real radosgw: its own errors, its deaths, and those of writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from config.settings.stores.s3 import S3StoreSettings
from tests.contract.cases.s3 import keys_in, names_in, opened, settings_in, uploads_in
from tests.fakes.ceph import Ceph, Keys
from tests.fakes.system import until
from transship.domain.errors import StoreDenied, StoreFull, StoreUnavailable
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.host.directories import MARK
from transship.stores.base import Unfinished
from transship.stores.documents import settings_text
from transship.stores.s3.driver import S3Store
from transship.stores.s3.names import Marker
from transship.stores.s3.upload import MIB

pytestmark = pytest.mark.real

IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"


class Moved:
    """A rate that counts the bytes it lets pass, and calls ``at`` once after some of them."""

    def __init__(self, after: int = 0, at: Any = None) -> None:
        self.bytes = 0
        self._after, self._at = after, at

    def __call__(self, count: int) -> None:
        self.bytes += count
        if self._at is not None and self.bytes > self._after:
            at, self._at = self._at, None
            at()


def ignore(_done: int) -> None:
    """Progress that is ignored."""


@pytest.fixture
def client(ceph: Ceph) -> Iterator[Any]:
    made = ceph.s3()
    yield made
    made.close()


@pytest.fixture
def keys(ceph: Ceph) -> Keys:
    """Keys of a user of this test alone."""
    return ceph.new_keys()


@pytest.fixture
def settings(ceph: Ceph, keys: Keys) -> S3StoreSettings:
    return settings_in(ceph.endpoint, ceph.new_bucket(keys), keys, parts_in_flight=1)


@pytest.fixture
def store(settings: S3StoreSettings) -> Iterator[S3Store]:
    with opened(settings) as opened_store:
        yield opened_store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of five parts."""
    path = tmp_path / "staged"
    path.write_bytes(os.urandom(22 * MIB))
    return path


def staged(file: Path, epoch: int, pace: Moved) -> StagedFile:
    return StagedFile(file, file.stat().st_size, epoch, pace=pace)


def test_check_does_not_wait_for_a_service_that_hangs(ceph: Ceph, store: S3Store) -> None:
    with ceph.frozen("rgw"), pytest.raises(StoreUnavailable, match="does not answer"):
        store.check()
    store.check()


@pytest.mark.spec("ST-023")
def test_an_upload_whose_writer_was_killed_goes_on(
    ceph: Ceph, keys: Keys, settings: S3StoreSettings, store: S3Store, file: Path, tmp_path: Path
) -> None:
    client, token = ceph.s3(keys), tmp_path / "token"
    command = [sys.executable, "-m", "tests.fakes.s3_put", settings_text(settings), IMAGE, file, "4", token]
    child = subprocess.Popen([*map(str, command), str(12 * MIB)])

    def parts() -> list[Any]:
        found = client.list_parts(Bucket=settings.bucket, Key=IMAGE, UploadId=token.read_text())
        return list(found.get("Parts", ()))

    try:
        until(token.exists, 60, "the upload begins")
        until(lambda: len(parts()) == 2, 60, "two parts are there")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert names_in(client, settings.bucket) == {Marker(IMAGE, 4, token.read_text()).key}
    there = {part["PartNumber"]: part["LastModified"] for part in parts()}

    moved = Moved()
    receipt = store.put(IMAGE, staged(file, 5, moved), ignore, StopToken(), Unfinished(token.read_text(), ignore))  # type: ignore[arg-type]  # a token is ignored too

    assert moved.bytes == 12 * MIB
    assert len(there) == 2
    assert b"".join(store.read(receipt.url)) == file.read_bytes()
    assert names_in(client, settings.bucket) == {IMAGE}
    client.close()


@pytest.mark.spec("ST-023")
def test_an_upload_goes_on_when_radosgw_is_back(
    ceph: Ceph, keys: Keys, settings: S3StoreSettings, store: S3Store, file: Path
) -> None:
    kept: list[str] = []
    try:
        failing = Moved(12 * MIB, partial(ceph.stop, "rgw"))
        with pytest.raises(StoreUnavailable, match=r"the connection broke|cannot be reached"):
            store.put(IMAGE, staged(file, 4, failing), ignore, StopToken(), Unfinished(None, kept.append))
        with pytest.raises(StoreUnavailable):
            store.check()
    finally:
        ceph.start("rgw")

    moved = Moved()
    store.put(IMAGE, staged(file, 5, moved), ignore, StopToken(), Unfinished(kept[0], kept.append))

    assert (moved.bytes, len(kept)) == (12 * MIB, 1)
    assert b"".join(store.read(store.url_of(IMAGE))) == file.read_bytes()
    client = ceph.s3(keys)
    assert names_in(client, settings.bucket) == {IMAGE}
    client.close()


@pytest.mark.spec("ST-023")
def test_an_upload_that_is_given_up_leaves_nothing(
    ceph: Ceph, keys: Keys, settings: S3StoreSettings, store: S3Store, file: Path
) -> None:
    kept: list[str] = []
    try:
        failing = Moved(12 * MIB, partial(ceph.stop, "rgw"))
        with pytest.raises(StoreUnavailable):
            store.put(IMAGE, staged(file, 4, failing), ignore, StopToken(), Unfinished(None, kept.append))
    finally:
        ceph.start("rgw")
    client = ceph.s3(keys)
    assert uploads_in(client, settings.bucket) == [(IMAGE, kept[0])]

    assert store.discard_temporaries(IMAGE, 1, kept[0]) == 1

    assert uploads_in(client, settings.bucket) == []
    assert keys_in(client, settings.bucket) == [MARK]
    client.close()


@pytest.mark.spec("ST-018")
def test_keys_that_are_revoked_in_mid_upload_are_named(ceph: Ceph, keys: Keys, store: S3Store, file: Path) -> None:
    revoked = Moved(7 * MIB, partial(ceph.revoke, keys))

    with pytest.raises(StoreDenied, match="does not know the access key; set access_key and secret_key"):
        store.put(IMAGE, staged(file, 4, revoked), ignore, StopToken())
    with pytest.raises(StoreDenied, match="does not know the access key"):
        store.check()


@pytest.mark.spec("ST-018")
def test_a_wrong_secret_and_a_foreign_bucket_are_named(
    ceph: Ceph, keys: Keys, settings: S3StoreSettings, store: S3Store
) -> None:
    wrong = Keys(keys.uid, keys.access, "wrong")
    with opened(settings_in(ceph.endpoint, settings.bucket, wrong), prepared=False) as other:
        for use in (other.check, partial(other.size, other.url_of(IMAGE)), partial(other.prepare, (), before=False)):
            with pytest.raises(StoreDenied, match="the secret key does not belong to the access key"):
                use()
    foreign = settings_in(ceph.endpoint, settings.bucket, ceph.new_keys())
    denied = pytest.raises(StoreDenied, match="do not permit it; give their user the permissions")
    with opened(foreign, prepared=False) as other, denied:
        other.check()


@pytest.mark.spec("ST-022")
def test_a_bucket_that_was_deleted_proves_nothing(
    ceph: Ceph, keys: Keys, settings: S3StoreSettings, store: S3Store, file: Path
) -> None:
    client = ceph.s3(keys)
    client.delete_object(Bucket=settings.bucket, Key=MARK)
    client.delete_bucket(Bucket=settings.bucket)
    url = store.url_of(IMAGE)

    for use in (
        store.check,
        partial(store.size, url),
        partial(store.read, url),
        partial(store.delete, url),
        partial(store.put, IMAGE, staged(file, 1, Moved()), ignore, StopToken()),
        partial(store.discard_temporaries, IMAGE, 9),
        partial(store.prepare, (), before=True),
    ):
        with pytest.raises(StoreUnavailable, match="its bucket does not exist; 'transship doctor'"):
            use()
    assert settings.bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]
    client.close()


def test_a_bucket_is_created_where_the_settings_allow_it(ceph: Ceph, keys: Keys, settings: S3StoreSettings) -> None:
    fresh = settings.model_copy(update={"bucket": f"{settings.bucket}-fresh", "create_bucket": True})
    for _ in range(2):
        with opened(fresh) as store:
            store.check()
    client = ceph.s3(keys)
    assert keys_in(client, fresh.bucket) == [MARK]
    client.close()


def test_a_quota_that_is_used_up_is_a_full_store(
    ceph: Ceph, keys: Keys, settings: S3StoreSettings, store: S3Store, file: Path
) -> None:
    limit = ("--quota-scope", "user", "--uid", keys.uid)
    ceph.run("radosgw-admin", "quota", "set", *limit, "--max-size", str(6 * MIB))
    ceph.run("radosgw-admin", "quota", "enable", *limit)

    with pytest.raises(StoreFull, match=r"there is no room for 22.0 MiB"):
        store.put(IMAGE, staged(file, 4, Moved()), ignore, StopToken())

    client = ceph.s3(keys)
    assert names_in(client, settings.bucket) == set()
    client.close()
