"""The images of a pool: their names, and how an image gets and loses one.

A name of an image is two things in RBD: an object ``rbd_id.<name>`` with the image's id, through which images are
opened, and an entry of the pool's directory, which lists them. A rename writes the new object, then the directory, then
removes the old object; whoever is killed meanwhile leaves one object too many. Images are therefore renamed before they
are removed, so nothing of an image that is being removed has a name that counts. Source: librbd's ``RenameRequest`` and
``RemoveRequest``.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import rados
import rbd
import structlog

from transship.domain.errors import StoreUnavailable

SNAPSHOT: Final = "snap"
"""Name of the protected snapshot of a complete image, from which Nova and Cinder clone."""

TEMPORARY: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]+)\.(part|removed)")
"""Name of a temporary: image id; epoch, or 0 of an object that is being deleted; what it is."""

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

LOCK_OBJECT: Final = ".transship-lock"
"""Object whose lock is held during each rename."""

LOCK_S: Final = 10
"""Seconds after which the lock of a killed client ends; a rename takes a fraction of one."""

LOCK_TURN_S: Final = 0.02

FENCE_S: Final = 3600
"""Seconds for which a writer that was replaced is blocked."""

_RBD: Final = rbd.RBD()

log = structlog.get_logger("transship.stores")


def part_of(image_id: str, epoch: int) -> str:
    """Return the name under which a writer fills an image."""
    return f"{image_id}.{epoch}.part"


def removed_of(image_id: str, epoch: int = 0) -> str:
    """Return the name under which a temporary, or by default an object, is removed."""
    return f"{image_id}.{epoch}.removed"


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool, for the duration of one operation. Errors of its libraries pass through.

    Attributes:
        store_id: id of the store, for messages.
        client, ioctx: connection to the pool.
    """

    store_id: str
    client: rados.Rados
    ioctx: rados.Ioctx

    def names(self) -> list[str]:
        """Return the names of all images, without those in the trash."""
        return list(_RBD.list(self.ioctx))

    @contextmanager
    def reading(self, name: str, snapshot: str | None = None) -> Iterator[rbd.Image]:
        """Open an image for reading; that is not visible to others."""
        with rbd.Image(self.ioctx, name, snapshot=snapshot, read_only=True) as image:
            yield image

    def holds(self, name: str) -> bool:
        """Return whether an image can be opened by that name."""
        try:
            with self.reading(name):
                return True
        except rbd.ImageNotFound:
            return False

    def create(self, image_id: str, epoch: int, size: int, order: int) -> None:
        """Create the image that a writer fills, in place of one that a killed writer left.

        Args:
            image_id: of the object that it becomes.
            epoch: of the writer's lease.
            size: bytes.
            order: of the size of its objects, as a power of two.
        """
        name = part_of(image_id, epoch)
        try:
            _RBD.create(self.ioctx, name, size, order, old_format=False)
        except rbd.ImageExists:
            self.discard(image_id, epoch)
            self._drop_id_of_none(name)
            _RBD.create(self.ioctx, name, size, order, old_format=False)

    def publish(self, image_id: str, epoch: int) -> None:
        """Give a complete image its final name.

        Raises:
            rbd.ImageExists: there is an image of that name.
            rbd.ImageNotFound: the temporary was discarded.
        """
        try:
            self._rename(part_of(image_id, epoch), image_id)
        except rbd.ImageExists:
            if not self._drop_id_of_none(image_id):
                raise
            self._rename(part_of(image_id, epoch), image_id)

    def discard(self, image_id: str, epoch: int) -> None:
        """Remove a temporary. Its writer cannot publish any more, and is blocked if it runs elsewhere.

        A writer of this process that still has it open removes it.
        """
        self._withdraw(part_of(image_id, epoch), removed_of(image_id, epoch), fence=True)

    def delete(self, image_id: str) -> None:
        """Remove an object. A missing one is no error; one with clones or snapshots of others goes to the trash.

        Raises:
            StoreUnavailable: it is open elsewhere, or has clones that need its snapshot; it is unchanged.
        """
        try:
            self._refuse_if_open(image_id)
            self._unprotect(image_id)
        except rbd.ImageNotFound:
            pass
        self._withdraw(image_id, removed_of(image_id), fence=False)
        self._drop_id_of_none(image_id)

    def _refuse_if_open(self, name: str) -> None:
        with self.reading(name) as image:
            clients = [watcher["addr"] for watcher in image.watchers_list()]
        if clients:
            log.warning("image open elsewhere", store=self.store_id, image=name, clients=clients)
            reason = f"image {name} is open elsewhere"
            raise StoreUnavailable(self.store_id, reason, f"close it; 'rbd status' of {name} names the client")

    def _unprotect(self, name: str) -> bool:
        """Allow the snapshot of an image to be removed; return whether there is one."""
        with rbd.Image(self.ioctx, name) as image:
            if not any(snapshot["name"] == SNAPSHOT for snapshot in image.list_snaps()):
                return False
            try:
                if image.is_protected_snap(SNAPSHOT):
                    image.unprotect_snap(SNAPSHOT)
            except rbd.ImageBusy as error:
                reason = f"image {name} is in use: volumes were cloned from it"
                raise StoreUnavailable(self.store_id, reason, "delete or flatten them") from error
            return True

    def _withdraw(self, name: str, aside: str, *, fence: bool) -> None:
        """Rename an image so that it counts no more, then remove it; also remove what a killed removal left.

        Of a writer that publishes and another worker that discards, one gets the name.
        """
        version = self._version_of_id(aside)
        if version is not None and aside in self.names():
            self._remove(aside, fence=fence)
        elif version is not None:
            # A rename was killed before the directory had the name: the image still has its former one.
            self._drop_id(aside, version)
        with suppress(rbd.ImageNotFound):
            if fence:
                self._block_writers(name)  # first, because a rename waits for all clients that have the image open
            try:
                self._rename(name, aside)
            except (rbd.OSError, rados.OSError) as error:
                if error.errno not in NO_ROOM:
                    raise
                aside = name  # a full pool takes no further name, and nothing is published in it either
            self._remove(aside, fence=fence)

    def _rename(self, name: str, new_name: str) -> None:
        """Rename an image; of several clients that want one name, or rename one image, one succeeds.

        librbd looks for the new name first and writes it later, so without the lock all of them succeed.
        """
        cookie = uuid4().hex
        until = time.monotonic() + LOCK_S * 2
        while not self._locked(cookie):
            if time.monotonic() > until:
                raise StoreUnavailable(self.store_id, "other clients rename images of the pool all the time")
            time.sleep(LOCK_TURN_S)
        try:
            _RBD.rename(self.ioctx, name, new_name)
        finally:
            with suppress(rados.Error):  # it ends by itself
                self.ioctx.unlock(LOCK_OBJECT, "rename", cookie)

    def _locked(self, cookie: str) -> bool:
        try:
            self.ioctx.lock_exclusive(LOCK_OBJECT, "rename", cookie, "a rename of an image", LOCK_S)
        except (rados.ObjectBusy, rados.ObjectExists):
            return False
        return True

    def remove_left(self, name: str) -> None:
        """Remove what a killed removal left, by its name in the directory."""
        self._remove(name, fence=not name.endswith(removed_of("")))

    def _remove(self, name: str, *, fence: bool) -> None:
        """Remove an image that counts no more.

        Args:
            name: of the image.
            fence: whether clients that have it open are its former writers. Otherwise it is not removed.
        """
        try:
            if not fence:
                self._refuse_if_open(name)
            elif self._block_writers(name):
                return
            if self._unprotect(name):
                with rbd.Image(self.ioctx, name) as image:
                    image.remove_snap(SNAPSHOT)
        except rbd.ImageNotFound:
            pass  # a removal was killed after its data were gone
        try:
            _RBD.remove(self.ioctx, name)
        except rbd.ImageNotFound:
            pass
        except rbd.ImageHasSnapshots:
            _RBD.trash_move(self.ioctx, name, 0)
            log.info("image with clones or snapshots moved to the trash", store=self.store_id, image=name)

    def _block_writers(self, name: str) -> bool:
        """Block writers of an image elsewhere; return whether a thread of this process writes it, and will remove it.

        A killed writer has the image open for another half a minute, and a live one might go on writing.
        """
        with self.reading(name) as image:
            watchers = list(image.watchers_list())
        if any(watcher["id"] == self.client.get_instance_id() for watcher in watchers):
            return True
        for watcher in watchers:
            log.warning("former writer blocked", store=self.store_id, image=name, client=watcher["addr"])
            self.client.blocklist_add(watcher["addr"], FENCE_S)
        return False

    def _drop_id_of_none(self, name: str) -> bool:
        """Remove the id object of a name by which no image can be opened; return whether there was one."""
        version = self._version_of_id(name)
        if version is None or self.holds(name):
            return False
        self._drop_id(name, version)
        return True

    def _version_of_id(self, name: str) -> int | None:
        try:
            self.ioctx.stat(_id_object(name))
        except rados.ObjectNotFound:
            return None
        return int(self.ioctx.get_last_version())

    def _drop_id(self, name: str, version: int) -> None:
        """Remove an id object; it is an error if it has changed since."""
        with rados.WriteOpCtx() as operation:
            operation.assert_version(version)
            operation.remove()
            self.ioctx.operate_write_op(operation, _id_object(name))


def _id_object(name: str) -> str:
    return f"rbd_id.{name}"
