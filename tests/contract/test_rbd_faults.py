"""The RBD store while daemons of its cluster are stopped or full: a cluster of this module alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rados", reason="python3-rados is not installed")

from tests.contract.test_rbd_store import IMAGE, MIB, StopAt, is_stored, left_of_images, put
from tests.fakes.ceph import Ceph
from tests.fakes.rbd_pool import RbdPool
from tests.fakes.system import until
from transship.domain.errors import StagingBroken, StoreFull, StoreUnavailable
from transship.domain.staged import StagedFile
from transship.stores.ceph import cluster
from transship.stores.ceph.driver import RbdStore

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.peers]


@pytest.fixture(scope="module")
def pool() -> Iterator[RbdPool]:
    with Ceph() as ceph, RbdPool(ceph) as made:
        yield made


@pytest.fixture
def store(pool: RbdPool) -> Iterator[RbdStore]:
    with pool.store() as opened:
        yield opened
    pool.clear()


@pytest.fixture
def staged(tmp_path: Path) -> StagedFile:
    path = tmp_path / "staged"
    path.write_bytes(os.urandom(40 * MIB))
    return StagedFile(path, 40 * MIB, 1)


def test_check_does_not_wait_for_a_cluster_that_hangs(pool: RbdPool, store: RbdStore) -> None:
    with pool.ceph.frozen("osd"), pytest.raises(StoreUnavailable, match="the cluster does not answer"):
        store.check()
    store.check()


def test_a_staged_file_that_becomes_shorter_leaves_nothing(pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    with pytest.raises(StagingBroken, match="the file ends at byte"):
        put(store, staged, StopAt(4, lambda: os.truncate(staged.path, 16 * MIB)))
    assert left_of_images(pool) == set()


def test_a_write_goes_on_when_the_osd_is_back(pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    def restart() -> None:
        with pool.ceph.without("osd"):
            pass

    assert is_stored(store, put(store, staged, StopAt(4, restart)), staged)


def test_a_write_without_an_osd_ends_and_is_repeated(
    pool: RbdPool, store: RbdStore, staged: StagedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ANSWER_TIMEOUT_S", 2)
    with pool.store() as impatient:
        try:
            with pytest.raises(StoreUnavailable, match="the cluster does not answer"):
                put(impatient, staged, StopAt(4, lambda: pool.ceph.stop("osd")))
        finally:
            pool.ceph.start("osd")

        # As the next attempt does. The lost connection's client may still have the temporary open: it is blocked.
        impatient.discard_temporaries(IMAGE, 2)
        assert left_of_images(pool) == set()
        assert is_stored(impatient, put(impatient, staged), staged)


def test_data_are_written_and_read_without_a_monitor(pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    url = put(store, staged)
    with pool.ceph.without("mon"):
        assert is_stored(store, url, staged)
        store.check()
        with pytest.raises(StoreUnavailable, match="the cluster does not answer"):
            store.room()
    assert store.room().free_bytes > 0


def test_a_full_cluster_takes_nothing(pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    url = put(store, staged)

    def set_full(ratio: str) -> None:
        pool.ceph.run("ceph", "osd", "set-full-ratio", ratio)
        pool.ceph.run("ceph", "osd", "set-backfillfull-ratio", ratio)
        pool.ceph.run("ceph", "osd", "set-nearfull-ratio", ratio)

    def full() -> bool:
        return "OSD_FULL" in pool.ceph.command("status")["health"]["checks"]

    try:
        set_full("0.001")
        until(full, what="the cluster is full")
        with pytest.raises(StoreFull):
            store.check()
        with pytest.raises(StoreFull):
            store.put(IMAGE.replace("1", "2"), staged, lambda _done: None, StopAt(0, list))
        store.delete(url)
        assert left_of_images(pool) == set()
    finally:
        set_full("0.9")
        until(lambda: not full(), what="the cluster has room")
