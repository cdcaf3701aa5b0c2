"""The real Ceph of the tests does what other tests need of it."""

from __future__ import annotations

import signal

import pytest
from botocore.exceptions import ClientError

from tests.fakes.ceph import Ceph

pytestmark = pytest.mark.real


@pytest.mark.parametrize("daemon", ["mon", "mgr", "osd", "rgw"])
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_was_stopped_starts_again_with_its_data(ceph: Ceph, daemon: str, by: signal.Signals) -> None:
    bucket = ceph.new_bucket()
    ceph.s3().put_object(Bucket=bucket, Key="kept", Body=b"data")
    before = ceph.pid(daemon)

    ceph.stop(daemon, by)
    ceph.start(daemon)

    assert ceph.pid(daemon) != before
    assert ceph.s3().get_object(Bucket=bucket, Key="kept")["Body"].read() == b"data"


def test_a_pool_takes_images_of_the_user(ceph: Ceph) -> None:
    pool = ceph.new_pool()

    ceph.run("rbd", "--id", ceph.user, "create", f"{pool}/image", "--size", "1M")

    assert ceph.run("rbd", "--id", ceph.user, "ls", pool).split() == ["image"]
    ceph.remove_pool(pool)
    assert pool not in ceph.command("osd", "pool", "ls")


def test_a_user_without_capabilities_may_nothing(ceph: Ceph) -> None:
    pool, user = ceph.new_pool(), ceph.new_user(mon="profile rbd")

    with pytest.raises(AssertionError, match="Operation not permitted"):
        ceph.run("rbd", "--id", user, "ls", pool)


def test_keys_open_their_own_buckets_until_they_are_revoked(ceph: Ceph) -> None:
    keys = ceph.new_keys()
    bucket = ceph.new_bucket(keys)

    with pytest.raises(ClientError, match="AccessDenied"):
        ceph.s3().put_object(Bucket=bucket, Key="theirs", Body=b"data")
    ceph.revoke(keys)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        ceph.s3(keys).put_object(Bucket=bucket, Key="own", Body=b"data")
