"""Writes one object: its upload is named by a marker, resumed if an earlier writer left it, and published once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Final

from transship.domain.errors import AlreadyStored, StoreUnavailable, TransferFailed
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.stores.base import Unfinished
from transship.stores.s3.bucket import Bucket, NameTaken, ObjectFacts, SentPart, UploadGone
from transship.stores.s3.names import Marker, markers_of
from transship.stores.s3.upload import MakesParts, etag_of, plan

COMPLETE_AGAIN_S: Final = (0.5, 2.0, 8.0)
"""Seconds before each further attempt to complete an upload; radosgw refuses while it is busy with an earlier one."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes an image's object.

    Attributes:
        bucket: where to.
        image_id: the key.
        epoch: of the writer's lease.
        size: of the image, in bytes.
        maker: makes its parts.
        unfinished: saves the upload's id, and holds the one of an earlier writer.
        part_bytes, in_flight: size of parts, and how many are made at the same time.
        publishing: held by the driver's one writer that publishes now, because not every service refuses to replace an
            object.
    """

    bucket: Bucket
    image_id: str
    epoch: int
    size: int
    maker: MakesParts
    unfinished: Unfinished
    part_bytes: int
    in_flight: int
    publishing: AbstractContextManager[object]

    def write(self, progress: ThrottledProgress, stop: StopToken) -> ObjectFacts:
        """Upload the image, and return the object.

        An upload without a marker belongs to a killed writer, so `discard` aborts it. Should that be the upload of this
        writer, whose marker came a moment later, it begins another one.

        Raises:
            AlreadyStored: an object has the name.
            StoreUnavailable: the upload stays, for the next put.
            TransferFailed, LockLost: the upload was aborted, if the service let us.
        """
        marker, there = self._resume_or_begin(stop)
        try:
            for may_begin_again in (True, False):
                try:
                    return self._upload(marker, there, progress, stop)
                except UploadGone as gone:
                    if not (self._withdraw(marker) and may_begin_again):
                        reason = "the unfinished upload was removed by another process"
                        raise StoreUnavailable(self.bucket.store, reason) from gone
                marker, there = self._begin(stop), {}
        except StoreUnavailable:
            raise
        except BaseException:
            self._give_up(marker)
            raise
        raise AssertionError("unreachable: the second upload returns or raises")

    def _resume_or_begin(self, stop: StopToken) -> tuple[Marker, Mapping[int, SentPart]]:
        """Return the upload's marker, and the parts that it has."""
        bucket, token = self.bucket.until(stop), self.unfinished.token
        earlier = markers_of(bucket, self.image_id)
        for marker in earlier:
            if marker.epoch == self.epoch and marker.upload != token:
                self._give_up(marker)  # of a killed writer of this epoch
        if token is None:
            return self._begin(stop), {}
        named = [marker for marker in earlier if marker.upload == token]
        try:
            there = bucket.parts(self.image_id, token)
        except UploadGone:
            for marker in named:
                bucket.delete(marker.key)
            return self._begin(stop), {}
        ours = Marker(self.image_id, self.epoch, token)
        bucket.write(ours.key, b"")
        for marker in named:
            if marker.epoch < ours.epoch:
                bucket.delete(marker.key)
        return ours, there

    def _begin(self, stop: StopToken) -> Marker:
        bucket = self.bucket.until(stop)
        marker = Marker(self.image_id, self.epoch, bucket.begin(self.image_id))
        try:
            bucket.write(marker.key, b"")
            self.unfinished.keep(marker.upload)
        except BaseException:
            self._give_up(marker)
            raise
        return marker

    def _upload(
        self, marker: Marker, there: Mapping[int, SentPart], progress: ThrottledProgress, stop: StopToken
    ) -> ObjectFacts:
        maker = self.maker(self.bucket.until(stop), self.image_id, marker.upload, progress, stop)
        sent = maker.make(plan(self.size, self.part_bytes), there, self.in_flight)
        with self.publishing:
            stop.check()
            if self.bucket.head(self.image_id) is not None:
                raise AlreadyStored(self.bucket.store, self.image_id)
            found = self._publish(marker, sent)
        with suppress(TransferFailed):  # the object is there; a marker that stays is discarded with the copy
            self.bucket.delete(marker.key)
        return found

    def _publish(self, marker: Marker, sent: Sequence[SentPart]) -> ObjectFacts:
        """Complete the upload and return the object.

        A service whose answer was lost may have completed it, so the object is looked at. So it is after success, which
        radosgw also reports for an upload that is gone, if any object has the name.
        """
        asked = False
        for pause_s in (*COMPLETE_AGAIN_S, None):
            try:
                self.bucket.impatient().complete(self.image_id, marker.upload, [part.etag for part in sent])
                break
            except (UploadGone, NameTaken) as answer:
                if asked:
                    break
                if isinstance(answer, UploadGone):
                    raise
                raise AlreadyStored(self.bucket.store, self.image_id) from answer
            except StoreUnavailable:
                if pause_s is None:
                    raise
            asked = True
            time.sleep(pause_s)
        found = self.bucket.head(self.image_id)
        if found is None:
            raise UploadGone
        encrypted = any(part.encrypted for part in sent)
        if found.size != self.size or not (encrypted or found.etag == etag_of(sent)):
            raise AlreadyStored(self.bucket.store, self.image_id)
        return found

    def _withdraw(self, marker: Marker) -> bool:
        """Remove the marker of an upload that is gone; return whether it was there."""
        was_there = marker in markers_of(self.bucket, self.image_id)
        if was_there:
            self.bucket.delete(marker.key)
        return was_there

    def _give_up(self, marker: Marker) -> None:
        """Abort an upload, unless a later writer has taken it over, and remove its marker, if the service lets us."""
        bucket = self.bucket.impatient()  # whoever cancelled waits; what stays is discarded with the copy
        with suppress(TransferFailed):
            others = markers_of(bucket, self.image_id)
            if not any(each.upload == marker.upload and each.epoch > marker.epoch for each in others):
                bucket.abort(self.image_id, marker.upload)
            bucket.delete(marker.key)


def discard(bucket: Bucket, image_id: str, before_epoch: int, token: str | None) -> int:
    """Abort the uploads of writers with older epochs, and those that no marker names; return how many.

    Markers go first: a writer whose upload is gone while its marker stays begins again.

    Args:
        token: id of an upload that is aborted too.
    """
    markers = markers_of(bucket, image_id)
    live = {each.upload for each in markers if each.epoch >= before_epoch} - {token}
    stale = [each for each in markers if each.epoch < before_epoch or each.upload == token]
    for marker in stale:
        bucket.delete(marker.key)
    found = [upload for key, upload in bucket.uploads(image_id) if key == image_id and upload not in live]
    for upload in found:
        bucket.abort(image_id, upload)
    return len({each.upload for each in stale} - live | set(found))
