"""The product with stores of every writable kind on a real Ceph, looked at with Ceph's and Amazon's own clients."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.fakes.ceph import Ceph
from tests.fakes.remote_glance import RemoteGlance
from tests.fakes.system import System, until
from tests.fakes.web_server import WebServer, whole

KINDS: Final = ("files", "objects", "blocks")
"""Ids of the stores: a directory, a bucket of radosgw, a pool of RBD."""
SLOW: Final = ("slow-objects", "slow-blocks")
"""Ids of a second bucket and a second pool, which take images so slowly that a test can act in the middle."""
SLOW_MIB_PER_S: Final = 8
WEB: Final = "web"
"""Id of the store for URLs, which is only read."""
CREDENTIALS: Final = "radosgw"
"""Name of the keys with which both buckets are used."""
METHODS: Final = ("web-download", "glance-direct", "glance-download", "copy-image")
REGION: Final = "elsewhere"
OCTETS: Final = {"Content-Type": "application/octet-stream", "Accept": "application/json"}


class RealStores:
    """A running system with the stores `KINDS`, `SLOW` and `WEB`, and the cluster that they are in.

    Use it as a context manager.

    Args:
        home: empty directory.

    Attributes:
        buckets, pools: by store id.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stack = ExitStack()
        self.ceph = Ceph()
        self.source = WebServer()
        self.remote = RemoteGlance(self.source)
        self.buckets: dict[str, str] = {}
        self.pools: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.ceph)
            stack.enter_context(self.source)
            self.buckets = {store: self.ceph.new_bucket() for store in ("objects", "slow-objects")}
            self.pools = {store: self.ceph.new_pool() for store in ("blocks", "slow-blocks")}
            self.system = stack.enter_context(System(self._home / "home", self._options()))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _options(self) -> dict[str, object]:
        keys = self.ceph.keys()
        service = {"endpoint": self.ceph.endpoint, "credentials": CREDENTIALS}
        objects = {store: {"type": "s3", "bucket": bucket, **service} for store, bucket in self.buckets.items()}
        cluster = {"user": self.ceph.user, "conf": str(self.ceph.conf)}
        blocks = {store: {"type": "rbd", "pool": pool, **cluster} for store, pool in self.pools.items()}
        return {
            "s3_credentials": {CREDENTIALS: {"access_key": keys.access, "secret_key": keys.secret}},
            "stores": {"files": {"dir": str(self._home / "files")}, **objects, **blocks, WEB: {"type": "http"}},
            "api.show_multiple_locations": True,
            "default_store": "files",
            "imports.enabled_methods": list(METHODS),
            "imports.plugins": ["image_decompression", "image_conversion"],
            "imports.store_mib_per_s": dict.fromkeys(SLOW, SLOW_MIB_PER_S),
            "remotes": {REGION: {"url": self.remote.url}},
            "uri.allowed_hosts": ["127.0.0.1"],
            "uri.allowed_ports": [80, 443, self.source.port],
            "lease.ttl_s": 600.0,
            "lease.crash_retries": 50,
        }

    # --- imports ---

    def ask(self, method: str, body: bytes, stores: Sequence[str], **request: object) -> str:
        """Make an image and request its import into stores; return its id. A copy-image starts from ``files``."""
        image_id = self.system.create(name=method)
        named: dict[str, object] = {"name": method}
        match method:
            case "web-download":
                named["uri"] = self.source.on(f"/{image_id}.img", whole(body))
            case "glance-download":
                named |= {"glance_image_id": self.remote.image(body), "glance_region": REGION}
            case _:
                where = "stage" if method == "glance-direct" else "file"
                sent = self.system.api("PUT", f"/v2/images/{image_id}/{where}", data=body, headers=OCTETS)
                sent.raise_for_status()
        self.request(image_id, named, stores, **request)
        return image_id

    def request(self, image_id: str, method: Mapping[str, object], stores: Sequence[str], **request: object) -> None:
        """Request an import of an image."""
        body = {"method": method, "stores": list(stores), **request}
        asked = self.system.api("POST", f"/v2/images/{image_id}/import", json=body)
        assert asked.status_code == 202, asked.text

    def copied(self, image_id: str, *stores: str) -> dict[str, Any]:
        """Copy an image to stores; return the task at its end."""
        self.request(image_id, {"name": "copy-image"}, stores)
        return self.system.ended(image_id)

    def await_bytes(self, image_id: str, store: str) -> int:
        """Wait until a store has some but not all bytes of an image; return how many."""

        def written() -> int:
            progress = self.system.task(image_id)["progress"] or {"stores": []}
            entry = next((each for each in progress["stores"] if each["store"] == store), None)
            assert entry is None or entry["phase"] != "done", "the copy is finished already"
            return int(entry["done_bytes"]) if entry is not None else 0

        return int(until(written, 180.0, f"bytes of {image_id} in {store}\n{self.system.logs()}"))

    # --- what the stores hold, asked without the product ---

    def left_behind(self, store: str, donor: str, image_id: str) -> str:
        """Copy the data of an image, without the product, to the name of another one; return their location."""
        (location,) = self.system.api("GET", f"/v2/images/{donor}/locations").json()
        if store in self.buckets:
            bucket = self.buckets[store]
            self.ceph.s3().copy_object(Bucket=bucket, Key=image_id, CopySource={"Bucket": bucket, "Key": donor})
        elif store in self.pools:
            pool = self.pools[store]
            self.ceph.run("rbd", "cp", "--no-progress", f"{pool}/{donor}@snap", f"{pool}/{image_id}")
            for change in ("create", "protect"):
                self.ceph.run("rbd", "snap", change, f"{pool}/{image_id}@snap")
        else:
            shutil.copy(self._home / "files" / donor, self._home / "files" / image_id)
        return str(location["url"]).replace(donor, image_id)

    def digest(self, store: str, image_id: str) -> str:
        """Return the sha512 of the bytes that a store holds of an image; empty if it holds none."""
        if store in self.buckets:
            return self._of_object(self.buckets[store], image_id)
        if store in self.pools:
            return self._of_block_image(self.pools[store], image_id)
        path = self._home / "files" / image_id
        if not path.exists():
            return ""
        with path.open("rb") as stream:
            return _sha512(stream)

    def _of_object(self, bucket: str, image_id: str) -> str:
        if image_id not in self.objects(bucket):
            return ""
        with self.ceph.s3().get_object(Bucket=bucket, Key=image_id)["Body"] as stream:
            return _sha512(stream)

    def _of_block_image(self, pool: str, image_id: str) -> str:
        if image_id not in self.block_images(pool):
            return ""
        command = ["rbd", "-c", self.ceph.conf, "export", "--no-progress", f"{pool}/{image_id}@snap", "-"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as export:
            assert export.stdout is not None
            digest = _sha512(export.stdout)
        assert export.returncode == 0
        return digest

    def objects(self, bucket: str) -> set[str]:
        """Return the names of all objects in a bucket."""
        pages = self.ceph.s3().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {each["Key"] for page in pages for each in page.get("Contents", [])}

    def uploads(self, bucket: str) -> set[str]:
        """Return the names of all objects with an unfinished upload."""
        return {each["Key"] for each in self.ceph.s3().list_multipart_uploads(Bucket=bucket).get("Uploads", [])}

    def block_images(self, pool: str) -> set[str]:
        """Return the names of all images in a pool, those in the trash included."""
        rbd = ("--pool", pool, "--format", "json")
        trash = json.loads(self.ceph.run("rbd", "trash", "ls", *rbd))
        return {*json.loads(self.ceph.run("rbd", "ls", *rbd)), *(each["name"] for each in trash)}

    def flags_of(self, pool: str) -> set[str]:
        """Return the flags that a pool has in the cluster's map, e.g. ``full_quota``."""
        pools = self.ceph.command("osd", "dump")["pools"]
        (found,) = (each["flags_names"] for each in pools if each["pool_name"] == pool)
        return set(str(found).split(","))

    def traces(self, store: str, image_id: str) -> set[str]:
        """Return the names of all that a store holds of an image, temporaries and unfinished uploads included."""
        if store in self.buckets:
            bucket = self.buckets[store]
            names = self.objects(bucket) | {f"upload of {name}" for name in self.uploads(bucket)}
        elif store in self.pools:
            names = self.block_images(self.pools[store])
        else:
            names = set(os.listdir(self._home / "files"))
        return {name for name in names if image_id in name}

    def await_nothing(self, image_id: str, *stores: str) -> None:
        """Wait until housekeeping has removed everything of an image from stores."""
        for store in stores:
            until(lambda store=store: not self.traces(store, image_id), 300.0, f"nothing of {image_id} in {store}")

    def assert_holds(self, image_id: str, body: bytes, *stores: str) -> None:
        """Check that an image is active, and that each of these stores, and no other, holds exactly these bytes."""
        image, digest = self.system.image(image_id), hashlib.sha512(body).hexdigest()
        assert (image["status"], image["os_hash_value"]) == ("active", digest), image
        assert set(image["stores"].split(",")) == set(stores)
        assert {store: self.digest(store, image_id) for store in stores} == dict.fromkeys(stores, digest)
        for store in {*KINDS, *SLOW} - set(stores):
            assert self.traces(store, image_id) == set()
        for store in stores:
            assert self.traces(store, image_id) == {image_id}

    # --- Prefect ---

    def block(self, store: str) -> dict[str, Any]:
        """Return the block document of a store, or of credentials."""
        found = self.system.prefect("POST", "/block_documents/filter", {"include_secrets": True})
        (document,) = (each for each in found if each["name"] == store)
        return dict(document)

    @contextmanager
    def edited(self, store: str, **changes: object) -> Iterator[None]:
        """Change fields of the block of a store, or of credentials, in Prefect for the duration of a block."""
        document = self.block(store)
        where = f"/block_documents/{document['id']}"
        self.system.prefect("PATCH", where, {"data": changes})
        try:
            yield
        finally:
            self.system.prefect("PATCH", where, {"data": {name: document["data"][name] for name in changes}})


def _sha512(stream: Any) -> str:
    running = hashlib.sha512()
    while piece := stream.read(1 << 20):
        running.update(piece)
    return running.hexdigest()
