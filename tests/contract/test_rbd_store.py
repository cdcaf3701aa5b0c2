"""What only the RBD store has: holes, snapshots and clones, quotas, and names that killed clients leave."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rados", reason="python3-rados is not installed")

import rados
import rbd

from tests.fakes.ceph import Ceph
from tests.fakes.ports import free_port
from tests.fakes.rbd_pool import RBD, RbdPool
from tests.fakes.rbd_writer import KILL_POINTS, killed_writer
from tests.fakes.system import until
from transship.domain.errors import (
    AlreadyStored,
    ObjectMissing,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
)
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.host.directories import MARK
from transship.stores.ceph.driver import RbdStore
from transship.stores.ceph.pool import LOCK_OBJECT

pytestmark = [pytest.mark.real, pytest.mark.peers]

MIB = 1024 * 1024
IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"
PARTS_OF_IMAGES = ("rbd_id.", "rbd_header.", "rbd_data.", "rbd_object_map.")


@pytest.fixture
def store(rbd_pool: RbdPool) -> Iterator[RbdStore]:
    with rbd_pool.store() as opened:
        yield opened
    rbd_pool.clear()


@pytest.fixture
def staged(tmp_path: Path) -> StagedFile:
    """20 MiB of data in a file of 100 MiB."""
    path = tmp_path / "staged"
    with path.open("wb") as file:
        file.truncate(100 * MIB)
        file.seek(40 * MIB)
        file.write(os.urandom(20 * MIB))
    return StagedFile(path, 100 * MIB, 1)


def put(store: RbdStore, staged: StagedFile, stop: StopToken | None = None) -> str:
    return store.put(IMAGE, staged, lambda _done: None, stop or StopToken()).url


def is_stored(store: RbdStore, url: str, staged: StagedFile) -> bool:
    return b"".join(store.read(url)) == staged.path.read_bytes()


def left_of_images(pool: RbdPool) -> set[str]:
    return {name for name in pool.objects() if name.startswith(PARTS_OF_IMAGES)}


class StopAt(StopToken):
    """A stop token that runs ``at`` at its check of that number."""

    def __init__(self, number: int, at: Callable[[], object]) -> None:
        super().__init__()
        self._left, self._at = number, at

    def check(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._at()
        super().check()


def test_holes_take_no_room(rbd_pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    put(store, staged)

    shown = rbd_pool.ceph.run("rbd", "du", f"{rbd_pool.name}/{IMAGE}@snap", "--format", "json")

    (usage,) = json.loads(shown)["images"]
    assert (usage["provisioned_size"], usage["used_size"]) == (100 * MIB, 24 * MIB)


@pytest.mark.parametrize("chunk_mib", [1, 32])
def test_objects_have_the_size_of_the_settings(rbd_pool: RbdPool, staged: StagedFile, chunk_mib: int) -> None:
    with rbd_pool.store(chunk_mib=chunk_mib) as store:
        assert is_stored(store, put(store, staged), staged)
        with rbd_pool.ioctx() as ioctx, rbd.Image(ioctx, IMAGE, read_only=True) as image:
            assert image.stat()["obj_size"] == chunk_mib * MIB
            assert image.is_protected_snap("snap")
    rbd_pool.clear()


def clone(pool: RbdPool, version: int) -> None:
    client = rados.Rados(conffile=str(pool.ceph.conf), rados_id="admin")
    client.conf_set("rbd_default_clone_format", str(version))
    client.connect()
    with pool.ioctx(client) as ioctx:
        RBD.clone(ioctx, IMAGE, "snap", ioctx, "volume", features=1)
    client.shutdown()


def volume(pool: RbdPool) -> bytes:
    with pool.ioctx() as ioctx, rbd.Image(ioctx, "volume", read_only=True) as image:
        return bytes(image.read(0, image.size()))


def remove_volume(pool: RbdPool) -> None:
    with pool.ioctx() as ioctx:
        RBD.remove(ioctx, "volume")


def test_an_image_with_clones_of_the_old_format_stays_until_they_are_gone(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile
) -> None:
    url = put(store, staged)
    clone(rbd_pool, 1)

    with pytest.raises(StoreUnavailable, match="is in use: volumes were cloned from it; delete or flatten them"):
        store.delete(url)
    assert is_stored(store, url, staged)
    assert volume(rbd_pool) == staged.path.read_bytes()

    remove_volume(rbd_pool)
    store.delete(url)
    assert left_of_images(rbd_pool) == set()


def test_an_image_with_clones_of_the_new_format_goes_to_the_trash(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile
) -> None:
    url = put(store, staged)
    clone(rbd_pool, 2)

    store.delete(url)

    with pytest.raises(ObjectMissing):
        store.size(url)
    assert [content.name for content in store.contents()] == ["volume"]
    assert [entry["name"] for entry in rbd_pool.trash()] == [f"{IMAGE}.0.removed"]
    assert volume(rbd_pool) == staged.path.read_bytes()
    assert is_stored(store, put(store, staged), staged)

    store.delete(url)
    remove_volume(rbd_pool)
    rbd_pool.ceph.run("rbd", "trash", "purge", rbd_pool.name)
    assert left_of_images(rbd_pool) == set()


def test_an_image_with_snapshots_of_others_goes_to_the_trash(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile
) -> None:
    url = put(store, staged)
    with rbd_pool.ioctx() as ioctx, rbd.Image(ioctx, IMAGE) as image:
        image.create_snap("backup")

    store.delete(url)

    assert (rbd_pool.names(), len(rbd_pool.trash())) == (set(), 1)


def test_an_image_that_is_open_elsewhere_is_not_deleted(rbd_pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    url = put(store, staged)
    with rbd_pool.ioctx() as ioctx, rbd.Image(ioctx, IMAGE) as image:
        with pytest.raises(StoreUnavailable, match=f"image {IMAGE} is open elsewhere; close it"):
            store.delete(url)
        assert image.is_protected_snap("snap")

    store.delete(url)
    assert rbd_pool.names() == set()


def test_an_unfinished_image_of_a_glance_is_left_alone(rbd_pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    with rbd_pool.ioctx() as ioctx:
        RBD.create(ioctx, IMAGE, MIB, 20)

    with pytest.raises(ObjectMissing):
        store.size(store.url_of(IMAGE))
    with pytest.raises(AlreadyStored):
        put(store, staged)
    assert rbd_pool.names() == {IMAGE}


# Quotas


@pytest.fixture
def full(rbd_pool: RbdPool, store: RbdStore) -> Iterator[Callable[[], None]]:
    """Make the pool full; it has room again after the test."""

    def is_full() -> bool:
        pools = rbd_pool.ceph.command("osd", "dump")["pools"]
        return any("full" in pool["flags_names"] for pool in pools if pool["pool_name"] == rbd_pool.name)

    def fill() -> None:
        with rbd_pool.ioctx() as ioctx:
            ioctx.write_full("filler", bytes(100))
        rbd_pool.ceph.quota(rbd_pool.name, 1)
        until(is_full, what="the pool is full")

    yield fill
    rbd_pool.ceph.quota(rbd_pool.name, 0)
    until(lambda: not is_full(), what="the pool has room")
    with rbd_pool.ioctx() as ioctx:
        ioctx.remove_object("filler")


def test_a_full_pool_takes_nothing_and_gives_back(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile, full: Callable[[], None], tmp_path: Path
) -> None:
    url = put(store, staged)
    with rbd_pool.ioctx() as ioctx:
        ioctx.remove_object(LOCK_OBJECT)
    full()

    with pytest.raises(StoreFull):
        store.check()
    with pytest.raises(StoreFull):
        store.put(IMAGE.replace("1", "2"), staged, lambda _done: None, StopToken())
    assert store.room().free_bytes == 0
    assert is_stored(store, url, staged)
    store.delete(url)
    assert left_of_images(rbd_pool) == set()


def test_a_pool_that_gets_full_meanwhile_keeps_nothing(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile, full: Callable[[], None]
) -> None:
    with pytest.raises(StoreFull):
        put(store, staged, StopAt(3, full))

    assert left_of_images(rbd_pool) == set()


def test_room_is_what_the_quota_leaves(rbd_pool: RbdPool, store: RbdStore) -> None:
    free = store.room().free_bytes
    rbd_pool.ceph.quota(rbd_pool.name, 64 * MIB)

    assert store.room().where == f"pool {rbd_pool.name}"
    assert store.room().free_bytes <= 64 * MIB < free
    rbd_pool.ceph.quota(rbd_pool.name, 0)


# Clients that were killed


@pytest.mark.faults
@pytest.mark.parametrize(("point", "published"), KILL_POINTS.items(), ids=KILL_POINTS)
def test_a_killed_writer_leaves_nothing_half(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile, point: str, published: bool
) -> None:
    killed_writer(point, rbd_pool.settings(), IMAGE, staged)
    url = store.url_of(IMAGE)

    if published:
        assert is_stored(store, url, staged)
        with pytest.raises(AlreadyStored):
            put(store, staged)
    else:
        with pytest.raises(ObjectMissing):
            store.size(url)
    assert [content.url for content in store.contents()] == [url]

    # As the next attempt does, whose epoch is higher.
    assert store.discard_temporaries(IMAGE, 2) == (0 if published else 1)
    store.delete(url)
    assert left_of_images(rbd_pool) == set()
    assert is_stored(store, put(store, staged), staged)


@pytest.mark.faults
def test_a_put_of_the_same_epoch_replaces_what_a_killed_writer_left(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile
) -> None:
    killed_writer("while writing", rbd_pool.settings(), IMAGE, staged)

    assert is_stored(store, put(store, staged), staged)
    assert rbd_pool.names() == {IMAGE}


@pytest.mark.faults
@pytest.mark.parametrize("point", ["deleting: unprotected", "deleting: renamed"])
def test_a_killed_delete_is_completed_by_the_next(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile, point: str
) -> None:
    url = put(store, staged)
    killed_writer(point, rbd_pool.settings(), IMAGE, staged)

    def gone() -> bool:
        """What housekeeping does, until nothing is found; a killed client counts as a watcher for half a minute."""
        try:
            found = store.discard_temporaries(IMAGE, 2)
            store.delete(url)
        except StoreUnavailable:
            return False
        return found == 0

    until(gone)
    assert left_of_images(rbd_pool) == set()
    assert is_stored(store, put(store, staged), staged)


def copy_id(pool: RbdPool, name: str, alias: str) -> None:
    """Leave an id object as a rename does that is killed between its steps."""
    with pool.ioctx() as ioctx:
        ioctx.write_full(f"rbd_id.{alias}", ioctx.read(f"rbd_id.{name}"))


def complete_temporary(pool: RbdPool, epoch: int = 1) -> str:
    name = f"{IMAGE}.{epoch}.part"
    pool.leave_temporary(IMAGE, epoch)
    with pool.ioctx() as ioctx, rbd.Image(ioctx, name) as image:
        image.create_snap("snap")
        image.protect_snap("snap")
    return name


def test_a_rename_killed_before_the_directory_is_undone(rbd_pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    copy_id(rbd_pool, complete_temporary(rbd_pool), IMAGE)
    assert store.size(store.url_of(IMAGE)) == MIB  # whole, and found by its name

    assert store.discard_temporaries(IMAGE, 2) == 1
    with pytest.raises(ObjectMissing):
        store.size(store.url_of(IMAGE))
    assert is_stored(store, put(store, staged), staged)
    store.delete(store.url_of(IMAGE))
    assert left_of_images(rbd_pool) == set()


def test_a_rename_killed_after_the_directory_has_published(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile
) -> None:
    url = put(store, staged)
    copy_id(rbd_pool, IMAGE, f"{IMAGE}.1.part")

    assert store.discard_temporaries(IMAGE, 2) == 0
    with pytest.raises(AlreadyStored):
        put(store, staged)
    assert is_stored(store, url, staged)
    store.delete(url)
    assert is_stored(store, put(store, staged), staged)


def test_a_removal_killed_in_its_rename_is_repeated(rbd_pool: RbdPool, store: RbdStore) -> None:
    copy_id(rbd_pool, complete_temporary(rbd_pool), f"{IMAGE}.1.removed")

    assert store.discard_temporaries(IMAGE, 2) == 1
    assert left_of_images(rbd_pool) == set()


def test_a_delete_killed_in_its_rename_is_repeated(rbd_pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    url = put(store, staged)
    copy_id(rbd_pool, IMAGE, f"{IMAGE}.0.removed")

    store.delete(url)
    assert left_of_images(rbd_pool) == set()


def test_a_removal_killed_after_the_data_is_repeated(rbd_pool: RbdPool, store: RbdStore) -> None:
    rbd_pool.leave_temporary(IMAGE, 1)
    with rbd_pool.ioctx() as ioctx:
        RBD.rename(ioctx, f"{IMAGE}.1.part", f"{IMAGE}.1.removed")
        with rbd.Image(ioctx, f"{IMAGE}.1.removed", read_only=True) as image:
            image_id = image.id()
        for name in (name for name in rbd_pool.objects() if image_id in name):
            ioctx.remove_object(name)

    assert store.discard_temporaries(IMAGE, 2) == 1
    assert rbd_pool.names() == set()


def test_a_writer_of_this_process_that_was_replaced_publishes_nothing(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile
) -> None:
    with pytest.raises(StoreUnavailable, match="another worker has discarded"):
        put(store, staged, StopAt(3, lambda: store.discard_temporaries(IMAGE, 2)))

    assert left_of_images(rbd_pool) == set()
    assert is_stored(store, put(store, staged), staged)


def test_a_writer_elsewhere_that_was_replaced_is_blocked(
    rbd_pool: RbdPool, store: RbdStore, staged: StagedFile
) -> None:
    with rbd_pool.store() as other:
        with pytest.raises(StoreUnavailable, match="the cluster has blocked this client"):
            put(other, staged, StopAt(3, lambda: store.discard_temporaries(IMAGE, 2)))
        assert is_stored(other, put(other, staged), staged)  # over a new connection

    assert rbd_pool.names() == {IMAGE}


# Connections


def test_a_blocked_client_connects_anew(rbd_pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    url = put(store, staged)
    session = store._cluster._session
    assert session is not None
    reading = store.read(url)
    rbd_pool.client.blocklist_add(session.client.get_addrs(), 600)

    with pytest.raises(StoreUnavailable, match="the cluster has blocked this client"):
        store.check()
    store.check()
    assert is_stored(store, url, staged)
    with pytest.raises(StoreUnavailable):
        list(reading)


def test_monitors_that_do_not_answer_make_the_store_unavailable(rbd_pool: RbdPool, tmp_path: Path) -> None:
    conf = tmp_path / "ceph.conf"
    conf.write_text(
        f"[global]\nmon host = [v2:127.0.0.1:{free_port()}]\nkeyring = {rbd_pool.ceph.home}/$name.keyring\n"
    )
    store = RbdStore("shelf", rbd_pool.settings(conf=conf, connect_timeout_s=1), "catalogue")

    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="no monitor answers"):
            store.open()
    store.close()


def changed_keyring(pool: RbdPool, tmp_path: Path) -> dict[str, Any]:
    file = pool.ceph.home / "client.stranger.keyring"
    file.write_text((pool.ceph.home / f"client.{pool.user}.keyring").read_text().replace(pool.user, "stranger"))
    return {"user": "stranger"}


@pytest.mark.spec("ST-018")
@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (lambda _pool, path: {"conf": path / "none"}, StoreUnavailable, "Ceph's configuration file cannot be read"),
        (lambda _pool, _path: {"user": "nobody"}, StoreUnavailable, "there is no keyring for its user"),
        (changed_keyring, StoreDenied, "the cluster does not accept its user"),
        (lambda _pool, _path: {"pool": "none"}, StoreUnavailable, "its pool does not exist"),
        (
            lambda pool, _path: {"user": pool.ceph.new_user(mon="profile rbd")},
            StoreDenied,
            "Operation not permitted",
        ),
    ],
    ids=["no configuration", "no keyring", "unknown user", "no pool", "no capabilities"],
)
def test_what_is_missing_is_named(
    rbd_pool: RbdPool,
    tmp_path: Path,
    change: Callable[[RbdPool, Path], dict[str, Any]],
    error: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(error, match=reason), rbd_pool.store(**change(rbd_pool, tmp_path)):
        pass


def test_the_cluster_id_is_shown_without_a_connection(ceph: Ceph, rbd_pool: RbdPool, tmp_path: Path) -> None:
    fsid = ceph.command("fsid")["fsid"]
    common = {"chunk_size": 8 * MIB, "pool": rbd_pool.name, "thin_provisioning": True}

    assert RbdStore("shelf", rbd_pool.settings()).public_properties() == {**common, "fsid": fsid}
    assert RbdStore("shelf", rbd_pool.settings(conf=tmp_path / "none")).public_properties() == common


def test_a_url_is_encoded_as_glance_does_and_understood(store: RbdStore, rbd_pool: RbdPool) -> None:
    odd = RbdStore("shelf", rbd_pool.settings(pool="im ages/ä"), "catalogue")
    odd._cluster._fsid = store._cluster.fsid

    assert odd.url_of(IMAGE) == f"rbd://{store._cluster.fsid}/im%20ages%2F%C3%A4/{IMAGE}/snap"
    assert odd._name_in(odd.url_of("an image")) == "an image"
    assert store._name_in(odd.url_of(IMAGE)) is None
    assert store._name_in(store.url_of(f"{IMAGE}.1.part")) is None


def test_an_operator_says_that_another_pool_is_the_right_one(rbd_pool: RbdPool, store: RbdStore) -> None:
    url = store.url_of(IMAGE)
    with rbd_pool.ioctx() as ioctx:
        ioctx.remove_object(MARK)
        with pytest.raises(StoreUnavailable, match="another one than before"):
            store.prepare([url], before=True)
        ioctx.write_full(MARK, b"")
        store.prepare([url], before=True)
        assert ioctx.read(MARK) == b"store shelf of catalogue catalogue"


def test_the_mark_of_another_store_is_respected(rbd_pool: RbdPool, store: RbdStore, staged: StagedFile) -> None:
    other = RbdStore("other", rbd_pool.settings(), "catalogue")
    other.open()
    with pytest.raises(StoreUnavailable, match="store shelf of catalogue catalogue"):
        other.prepare((), before=False)
    with pytest.raises(StoreUnavailable, match="store shelf of catalogue catalogue"):
        put(other, staged)
    other.close()
