"""The RBD store: one RBD image per image in a pool, named by the image id, as Glance's RBD store keeps them.

An image is written under a temporary name that contains the lease epoch. When it is complete and has its protected
snapshot it gets its final name, so whatever has an image's name is whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self
from urllib.parse import quote, unquote

import rbd
import structlog

from config.settings.stores.rbd import RbdStoreSettings
from transship.domain.errors import AlreadyStored, ObjectMissing, StoreDenied, StoreUnavailable, TransferFailed
from transship.domain.staged import Progress, StagedFile
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.host.directories import MARK
from transship.stores.base import (
    CHECK_TIMEOUT_S,
    NOTHING_KEPT,
    PROGRESS_EVERY_S,
    Content,
    Room,
    StoredObject,
    StoreDriver,
    Unfinished,
)
from transship.stores.ceph.cluster import Cluster
from transship.stores.ceph.mark import read_mark, read_mark_within, try_writing, write_mark
from transship.stores.ceph.pool import SNAPSHOT, TEMPORARY, Pool, part_of
from transship.stores.ceph.transfer import MIB, read_data, write_data
from transship.stores.mark import Mark
from transship.stores.staged_source import opened_staged, rejoined, require_canonical

NOT_PREPARED: Final = "its pool is another one than before or was never prepared"

log = structlog.get_logger("transship.stores")


class RbdStore(StoreDriver):
    """Keep images in a pool of a Ceph cluster.

    Args:
        store_id: id of the store, for messages.
        settings: of the store.
        catalog_id: id of the catalogue that the store belongs to; the pool is marked with both ids. Empty: a store
            without a catalogue, whose pool is not marked.
    """

    def __init__(self, store_id: str, settings: RbdStoreSettings, catalog_id: str = "") -> None:
        self._store_id = store_id
        self._settings = settings
        self._cluster = Cluster(store_id, settings.conf, settings.user, settings.pool, settings.connect_timeout_s)
        self._mark = Mark(store_id, catalog_id, "pool", NOT_PREPARED)
        self._object_bytes = settings.chunk_mib * MIB

    @classmethod
    def of(cls, store_id: str, settings: RbdStoreSettings, catalog_id: str) -> Self:
        """Return the driver that the settings describe."""
        return cls(store_id, settings, catalog_id)

    def open(self) -> None:
        """Connect to the cluster; see `StoreDriver.open`."""
        self._cluster.open()

    def close(self) -> None:
        """Disconnect; see `StoreDriver.close`."""
        self._cluster.close()

    def public_properties(self) -> Mapping[str, object]:
        """Return what Glance shows of such a store; the cluster's id only if ``ceph.conf`` names it."""
        fsid = self._cluster.configured_fsid()
        return {
            "chunk_size": self._object_bytes,
            "pool": self._settings.pool,
            "thin_provisioning": True,
            **({"fsid": fsid} if fsid else {}),
        }

    def remedy(self) -> str:
        """Say what the store needs, and how to start with another pool."""
        user = f"client.{self._settings.user}" if self._settings.user else "the default user"
        return (
            f"See that {self._settings.conf} names the monitors and a keyring of {user}, that the cluster answers and"
            f" has the pool {self._settings.pool}, and run 'transship deploy'; to start with another pool there, put an"
            f" empty object {MARK} into it first"
        )

    def room(self) -> Room:
        """Return the room that the cluster and the pool's quota leave."""
        name = self._settings.pool
        pools = self._cluster.command(prefix="df")["pools"]
        stats = next((pool["stats"] for pool in pools if pool["name"] == name), None)
        if stats is None:
            raise StoreUnavailable(self._store_id, "its pool does not exist")
        free = int(stats["max_avail"])
        quota = int(self._cluster.command(prefix="osd pool get-quota", pool=name)["quota_max_bytes"])
        if quota:
            free = min(free, max(0, quota - int(stats["stored"])))
        return Room(f"pool {name}", free)

    def prepare(self, known: Iterable[str], *, before: bool) -> None:
        """Mark the pool, which must exist; see `StoreDriver.prepare`.

        An operator confirms that the pool is the right one by putting an empty mark into it.
        """
        with self._cluster.pool(needed_bytes=1) as pool:
            found = read_mark(pool.ioctx)
            if found is None and (before or self._lacks(pool, known)):
                raise self._mark.missing()
            if self._mark.text:
                self._mark.require(found or write_mark(pool.ioctx, self._mark.text))

    def put(
        self,
        image_id: str,
        staged: StagedFile,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Write the data of the staged file to a new RBD image; see `StoreDriver.put`.

        Raises:
            ValueError: ``image_id`` is not a canonical UUID.
        """
        require_canonical(image_id)
        stop.check()
        paced = ThrottledProgress(lambda done, _size: progress(done), PROGRESS_EVERY_S)
        with opened_staged(staged) as source, self._cluster.pool(staged.size) as pool:
            self._require_prepared(pool)
            if pool.holds(image_id):
                raise AlreadyStored(self._store_id, image_id)
            try:
                self._fill(pool, image_id, source, staged, paced, stop)
                stop.check()
                self._publish(pool, image_id, staged.epoch)
            except BaseException:
                self._give_up(pool, image_id, staged.epoch)
                raise
        paced.end(staged.size)
        return StoredObject(self.url_of(image_id), staged.size, f"snapshot:{SNAPSHOT}")

    def _fill(
        self, pool: Pool, image_id: str, source: int, staged: StagedFile, progress: ThrottledProgress, stop: StopToken
    ) -> None:
        """Write a complete image under its temporary name, with its protected snapshot."""
        pool.create(image_id, staged.epoch, staged.size, self._object_bytes.bit_length() - 1)
        with rbd.Image(pool.ioctx, part_of(image_id, staged.epoch)) as image:
            write_data(image, source, staged, self._object_bytes, progress, stop)
            image.create_snap(SNAPSHOT)
            image.protect_snap(SNAPSHOT)

    def _publish(self, pool: Pool, image_id: str, epoch: int) -> None:
        try:
            pool.publish(image_id, epoch)
        except rbd.ImageExists as error:
            raise AlreadyStored(self._store_id, image_id) from error
        except rbd.ImageNotFound as error:
            reason = f"another worker has discarded what was written of image {image_id}"
            raise StoreUnavailable(self._store_id, reason) from error

    def _give_up(self, pool: Pool, image_id: str, epoch: int) -> None:
        """Remove the temporary if the cluster answers; otherwise whoever gets the image next does."""
        try:
            pool.discard(image_id, epoch)
        except (rbd.Error, OSError, TransferFailed) as error:
            log.warning("temporary left", store=self._store_id, image_id=image_id, epoch=epoch, reason=str(error))

    def size(self, url: str) -> int:
        """Return the size of an image with its snapshot; see `StoreDriver.size`."""
        name = self._name_in(url)
        if name is None:
            raise ObjectMissing(self._store_id, url)
        with self._cluster.pool() as pool:
            try:
                with pool.reading(name, SNAPSHOT) as image:
                    return int(image.size())
            except rbd.ImageNotFound as error:
                self._require_prepared(pool)  # it may be another pool
                raise ObjectMissing(self._store_id, url) from error

    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an image's snapshot in pieces of at most 4 MiB; see `StoreDriver.read`."""
        pieces = self._pieces(url, offset, length)
        return rejoined(next(pieces, b""), pieces)

    def _pieces(self, url: str, offset: int, length: int | None) -> Iterator[bytes]:
        name = self._name_in(url)
        if name is None:
            raise ObjectMissing(self._store_id, url)
        with self._cluster.pool() as pool:
            try:
                with pool.reading(name, SNAPSHOT) as image:
                    size = image.size()
                    yield from read_data(image, offset, size if length is None else min(size, offset + length))
            except rbd.ImageNotFound as error:
                self._require_prepared(pool)
                raise ObjectMissing(self._store_id, url) from error

    def delete(self, url: str) -> None:
        """Remove an image; see `StoreDriver.delete`.

        Clones in the current format (v2) keep the image in the pool's trash until they are gone, as in Glance.

        Raises:
            StoreDenied: also for a URL that does not belong to this store; nothing was changed.
            StoreUnavailable: also if it is open elsewhere, or has clones in the old format (v1); it is unchanged.
        """
        name = self._name_in(url)
        if name is None:
            log.warning("not an image of the store", store=self._store_id, url=url)
            raise StoreDenied(self._store_id, "the location does not name an image of the store")
        with self._cluster.pool() as pool:
            self._require_prepared(pool)
            pool.delete(name)

    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        """Remove temporaries of older epochs, and block their writers; see `StoreDriver.discard_temporaries`."""
        require_canonical(image_id)
        count = 0
        with self._cluster.pool() as pool:
            self._require_prepared(pool)
            for name in pool.names():
                match = TEMPORARY.fullmatch(name)
                if match is None or match[1] != image_id or int(match[2]) >= before_epoch:
                    continue
                count += 1
                if match[3] == "part":
                    pool.discard(image_id, int(match[2]))
                else:
                    pool.remove_left(name)
        return count

    def url_of(self, image_id: str) -> str:
        """Return ``rbd://<cluster id>/<pool>/<image id>/snap``, percent-encoded, as Glance writes it."""
        return f"{self._url_prefix}{quote(image_id, safe='')}/{SNAPSHOT}"

    def own_url(self, url: str) -> str | None:
        """Return the URL if it names an image of the pool; see `StoreDriver.own_url`."""
        return url if self._name_in(url) is not None else None

    def contents(self) -> Iterator[Content]:
        """Yield every image of the pool's directory; see `StoreDriver.contents`."""
        with self._cluster.pool() as pool:
            self._require_prepared(pool)
            names = pool.names()
        for name in names:
            temporary = TEMPORARY.fullmatch(name)
            yield Content(name, self.url_of(temporary[1] if temporary else name))

    def check(self) -> None:
        """Write and remove a small object; see `StoreDriver.check`."""
        with self._cluster.pool(needed_bytes=1) as pool:
            until = time.monotonic() + CHECK_TIMEOUT_S
            self._mark.require(read_mark_within(pool.ioctx, until))
            try_writing(pool.ioctx, until)

    @property
    def _url_prefix(self) -> str:
        return f"rbd://{quote(self._cluster.fsid, safe='')}/{quote(self._settings.pool, safe='')}/"

    def _name_in(self, url: str) -> str | None:
        """Return the name of the image that a URL of this store names; None for other URLs."""
        middle = url.removeprefix(self._url_prefix).removesuffix(f"/{SNAPSHOT}")
        name = unquote(middle)
        ours = bool(middle) and "/" not in middle and url == self.url_of(name) and not TEMPORARY.fullmatch(name)
        return name if ours else None

    def _require_prepared(self, pool: Pool) -> None:
        """Refuse a pool other than the prepared one: a missing image there proves nothing.

        Raises:
            StoreUnavailable: it is not marked, or another's.
        """
        self._mark.require(read_mark(pool.ioctx))

    def _lacks(self, pool: Pool, known: Iterable[str]) -> bool:
        """Return whether the pool should hold images but holds none of them."""
        names = [name for url in known if (name := self._name_in(url)) is not None]
        return bool(names) and not any(pool.holds(name) for name in names)
