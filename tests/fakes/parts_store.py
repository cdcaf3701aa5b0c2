"""A further kind of store, as another distribution could bring it: images arrive in parts, and a put can be resumed.

Parts lie in a directory of each upload beside the store's own, until all are there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self
from uuid import uuid4

from pydantic import Field, SecretStr

from config.glance.option import STORE_SECTION, MappedOption
from config.glance.readers import read_integer, read_text
from config.settings.section import AbsolutePath
from config.settings.stores import BlockFacts, GlanceFacts, StoreKind, StoreSettings
from transship.domain.errors import AlreadyStored, StoreUnavailable
from transship.domain.staged import Progress, StagedFile
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.stores.base import NOTHING_KEPT, PROGRESS_EVERY_S, Content, Room, StoredObject, Unfinished
from transship.stores.file import FileStore
from transship.stores.staged_source import opened_staged, require_canonical


class PartsStoreSettings(StoreSettings):
    """A store that takes images in parts."""

    type: Literal["parts"] = Field("parts", description="Kind of the store.")
    dir: AbsolutePath = Field(title="Directory", description="Directory of the objects.")
    part_kib: int = Field(1024, ge=1, le=16384, description="KiB in each part but the last.")
    key: SecretStr = Field(SecretStr(""), description="Key that opens the store.")

    def directories(self) -> Mapping[str, Sequence[Path]]:
        """Return its one directory."""
        return {"dir": [self.dir]}


class PartsStore(FileStore):
    """Keep images in a directory that takes them in parts.

    Attributes:
        history: what happened to all stores of this kind in this process: ``open``, ``close``, and each part as its
            number.
        before_part: called with the number of each part before it is written.
    """

    history: list[str | int] = []  # noqa: RUF012 - of all of them
    before_part: Callable[[int], None] = staticmethod(lambda _number: None)

    def __init__(self, store_id: str, directory: Path, catalog_id: str, part_bytes: int) -> None:
        super().__init__(store_id, directory, 0o640, catalog_id)
        self._part_bytes = part_bytes
        self._uploads = directory.with_name(f"{directory.name}.uploads")
        self._opened_in = 0

    @classmethod
    def of(cls, store_id: str, settings: PartsStoreSettings, catalog_id: str) -> Self:  # type: ignore[override]  # of its own kind
        """Return the driver that the settings describe."""
        return cls(store_id, settings.dir, catalog_id, settings.part_kib * 1024)

    def open(self) -> None:
        """Record its process."""
        assert not self._opened_in
        self._opened_in = os.getpid()
        self.history.append("open")

    def close(self) -> None:
        """Record that it is closed."""
        assert self._opened_in == os.getpid()
        self._opened_in = 0
        self.history.append("close")

    def public_properties(self) -> Mapping[str, object]:
        """Return the size of parts alone."""
        return {"part_size": self._part_bytes}

    def room(self) -> Room:
        """Return the room of the directory's filesystem."""
        return Room("a shelf of parts", super().room().free_bytes)

    def put(
        self,
        image_id: str,
        staged: StagedFile,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Write the parts that are not there yet, and put them together; see `StoreDriver.put`."""
        require_canonical(image_id)
        stop.check()
        paced = ThrottledProgress(lambda done, _size: progress(done), PROGRESS_EVERY_S)
        with opened_staged(staged) as source, self._faults(staged.size):
            self._require_prepared()
            if os.path.lexists(self._directory / image_id):
                raise AlreadyStored(self._store_id, image_id)
            upload = self._upload_for(image_id, staged, unfinished)
            try:
                self._write_parts(upload, source, staged, paced, stop)
                self._put_together(upload)
                stop.check()
                self._publish(upload / "whole", self._directory / image_id)
            except StoreUnavailable:
                raise  # what the token names waits for the next put
            except BaseException:
                shutil.rmtree(upload, ignore_errors=True)
                raise
            shutil.rmtree(upload)
        paced.end(staged.size)
        return StoredObject(self.url_of(image_id), staged.size, "parts")

    def _upload_for(self, image_id: str, staged: StagedFile, unfinished: Unfinished) -> Path:
        if unfinished.token is not None and (self._uploads / unfinished.token).is_dir():
            return self._uploads / unfinished.token
        for left in self._uploads_of(image_id):
            if _epoch_of(left) == staged.epoch:
                shutil.rmtree(left)
        upload = self._uploads / f"{image_id}.{staged.epoch}.{uuid4().hex}"
        unfinished.keep(upload.name)
        upload.mkdir(parents=True)
        return upload

    def _write_parts(
        self, upload: Path, source: int, staged: StagedFile, progress: ThrottledProgress, stop: StopToken
    ) -> None:
        for number, offset in enumerate(range(0, staged.size, self._part_bytes)):
            stop.check()
            progress(offset)
            part, size = upload / f"{number:06}", min(self._part_bytes, staged.size - offset)
            if part.exists():
                continue
            self.before_part(number)
            staged.pace(size)
            (upload / "arriving").write_bytes(os.pread(source, size, offset))
            (upload / "arriving").rename(part)
            self.history.append(number)

    def _put_together(self, upload: Path) -> None:
        with (upload / "whole").open("wb") as whole:
            for part in sorted(upload.glob("[0-9]*")):
                whole.write(part.read_bytes())

    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        """Give uploads up; see `StoreDriver.discard_temporaries`."""
        require_canonical(image_id)
        self._require_prepared()
        stale = [each for each in self._uploads_of(image_id) if _epoch_of(each) < before_epoch or each.name == token]
        for upload in stale:
            shutil.rmtree(upload, ignore_errors=True)
        return len(stale)

    def contents(self) -> Iterator[Content]:
        """Yield objects and uploads; see `StoreDriver.contents`."""
        yield from super().contents()
        for upload in self._uploads.glob("*"):
            yield Content(upload.name, self.url_of(upload.name.partition(".")[0]))

    def _uploads_of(self, image_id: str) -> list[Path]:
        return list(self._uploads.glob(f"{image_id}.*"))

    def _require_prepared(self) -> None:
        assert self._opened_in == os.getpid(), "used without open, or in another process"
        super()._require_prepared()


def _epoch_of(upload: Path) -> int:
    return int(upload.name.split(".")[1])


KIND: Final = StoreKind(
    name="parts",
    settings=PartsStoreSettings,
    driver="tests.fakes.parts_store:PartsStore.of",
    block=BlockFacts(
        description="Keeps images that arrive in parts.",
        documentation="https://example.org/parts",
        names={"dir": "directory"},
    ),
    glance=GlanceFacts(
        options=(
            MappedOption(STORE_SECTION, "parts_store_dir", "stores.<store>.dir", read_text, required=True),
            MappedOption(STORE_SECTION, "parts_store_size", "stores.<store>.part_kib", read_integer),
            MappedOption(STORE_SECTION, "parts_store_key", "stores.<store>.key", read_text, secret=True),
        )
    ),
)
