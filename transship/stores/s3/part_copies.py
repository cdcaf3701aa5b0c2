"""The parts of an upload, made by the service itself of another object's parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transship.domain.errors import CopyDiffers
from transship.domain.staged import StoredSource
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.stores.s3.body import Abandoned
from transship.stores.s3.bucket import Bucket, ObjectFacts, SentPart, SourceRange
from transship.stores.s3.upload import Part, PartMaker, etag_of

PROOF = "etag:"
"""Begins the proof of an object; its ETag follows."""


def is_proven_by_parts(found: ObjectFacts | None, source: StoredSource, parts: Sequence[Part]) -> bool:
    """Return whether an object is the one that was written, and consists of parts like these.

    Then a copy of these parts has the same ETag if, and only if, each part has the same MD5.
    """
    if found is None or found.encrypted or (found.size, f"{PROOF}{found.etag}") != (source.size, source.proof):
        return False
    return source.size > 0 and found.etag.endswith(f"-{len(parts)}")


class PartCopier(PartMaker):
    """Copies the parts of another object.

    Args:
        source: the object.
        place: its bucket and key.
    """

    def __init__(
        self,
        source: StoredSource,
        place: tuple[str, str],
        bucket: Bucket,
        key: str,
        upload: str,
        progress: ThrottledProgress,
        stop: StopToken,
    ) -> None:
        super().__init__(bucket, key, upload, progress, stop)
        self._source, self._place = source, place
        self._etag = source.proof.removeprefix(PROOF)

    def make(self, parts: Sequence[Part], there: Mapping[int, SentPart], in_flight: int) -> list[SentPart]:
        """Copy all parts that are not there; see `PartMaker.make`.

        Raises:
            CopyDiffers: the copies are not what was written of the source once; or the service cannot tell.
        """
        made = super().make(parts, there, in_flight)
        found = etag_of(made)
        if found != self._etag:
            raise self._differs(found)
        return made

    def _one(self, part: Part, there: SentPart | None) -> SentPart:
        if there is None or there.size != part.size:
            if self._ended.is_set():
                raise Abandoned
            self._stop.check()
            self._source.pace(part.size)
            there = self._copied(part)
        self._advance(part, part.size)
        return there

    def _copied(self, part: Part) -> SentPart:
        whole = part.size == self._source.size
        wanted = SourceRange(*self._place, self._etag, part.start, part.end, whole)
        made = self._bucket.copy(self._key, self._upload, part.number, wanted)
        if made is None:
            raise self._differs("gone")
        if made.encrypted:
            raise self._differs("unknown, because a key service encrypts the copy")
        return made

    def _differs(self, found: str) -> CopyDiffers:
        return CopyDiffers(self._source.store, "the ETag", self._etag, found)
