"""A pool of a real Ceph, seen by its administrator, and stores in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import rados
import rbd

from config.settings.stores.rbd import RbdStoreSettings
from tests.fakes.ceph import Ceph
from transship.host.directories import MARK
from transship.stores.ceph.driver import RbdStore

RBD = rbd.RBD()


class RbdPool:
    """A pool, and an empty one that can take its name. Use as a context manager.

    Attributes:
        name: of the pool.
        user: may do there what Ceph's profile ``rbd`` allows, and nothing elsewhere.
        client: of the administrator.
    """

    def __init__(self, ceph: Ceph) -> None:
        self.ceph = ceph
        self.name, self._other = ceph.new_pool(), ceph.new_pool()
        allowed = ", ".join(f"profile rbd pool={pool}" for pool in (self.name, self._other))
        self.user = ceph.new_user(mon="profile rbd", osd=allowed, mgr=allowed)
        self.client = rados.Rados(conffile=str(ceph.conf), rados_id="admin")

    def __enter__(self) -> RbdPool:
        self.client.connect()
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.shutdown()

    def settings(self, **changed: Any) -> RbdStoreSettings:
        """Return the settings of a store in the pool."""
        options: Mapping[str, Any] = {"pool": self.name, "user": self.user, "conf": self.ceph.conf}
        return RbdStoreSettings.model_validate({**options, **changed})

    @contextmanager
    def store(self, **changed: Any) -> Iterator[RbdStore]:
        """Provide an open store that has prepared the pool."""
        store = RbdStore("shelf", self.settings(**changed), "catalogue")
        store.open()
        try:
            store.prepare((), before=False)
            yield store
        finally:
            store.close()

    @contextmanager
    def ioctx(self, client: rados.Rados | None = None) -> Iterator[rados.Ioctx]:
        """Provide the pool to RBD's functions, by default as the administrator."""
        with (client or self.client).open_ioctx(self.name) as ioctx:
            yield ioctx

    def names(self) -> set[str]:
        """Return the names of all images but those in the trash."""
        with self.ioctx() as ioctx:
            return set(RBD.list(ioctx))

    def objects(self) -> set[str]:
        """Return the names of all objects, those of which images consist included."""
        with self.ioctx() as ioctx:
            return {each.key for each in ioctx.list_objects()}

    def trash(self) -> list[Mapping[str, Any]]:
        """Return the images in the trash."""
        with self.ioctx() as ioctx:
            return list(RBD.trash_list(ioctx))

    def leave_temporary(self, image_id: str, epoch: int) -> None:
        """Put there what a writer leaves that was killed some time ago."""
        with self.ioctx() as ioctx:
            RBD.create(ioctx, f"{image_id}.{epoch}.part", 1 << 20, 20)
            with rbd.Image(ioctx, f"{image_id}.{epoch}.part") as image:
                image.write(b"half", 0)

    def clear(self) -> None:
        """Remove everything."""
        with self.ioctx() as ioctx:
            for entry in RBD.trash_list(ioctx):
                RBD.trash_restore(ioctx, entry["id"], entry["id"])
            clones = [name for name in RBD.list(ioctx) if _is_clone(ioctx, name)]
            for name in [*clones, *(name for name in RBD.list(ioctx) if name not in clones)]:
                with rbd.Image(ioctx, name) as image:
                    for snapshot in list(image.list_snaps()):
                        if image.is_protected_snap(snapshot["name"]):
                            image.unprotect_snap(snapshot["name"])
                        image.remove_snap(snapshot["name"])
                RBD.remove(ioctx, name)
            for name in (MARK, *(each.key for each in ioctx.list_objects() if each.key.startswith("rbd_id."))):
                try:
                    ioctx.remove_object(name)
                except rados.ObjectNotFound:
                    pass

    @contextmanager
    def away(self, store: RbdStore) -> Iterator[None]:
        """Let an empty pool have the name of the pool."""
        self._swap(store)
        try:
            yield
            assert self.names() == set()
            assert MARK not in self.objects()
        finally:
            self._swap(store)

    def _swap(self, store: RbdStore) -> None:
        aside = f"{self.name}-aside"
        for source, target in ((self.name, aside), (self._other, self.name), (aside, self._other)):
            command = {"prefix": "osd pool rename", "srcpool": source, "destpool": target}
            code, _answer, text = self.client.mon_command(json.dumps(command), b"")
            assert code == 0, text
        session = store._cluster._session
        assert session is not None
        for client in (self.client, session.client):
            client.wait_for_latest_osdmap()


def _is_clone(ioctx: rados.Ioctx, name: str) -> bool:
    with rbd.Image(ioctx, name, read_only=True) as image:
        try:
            image.parent_info()
        except rbd.ImageNotFound:
            return False
        return True
