"""The values that an import's steps pass on, from the source to the stores.

JudgedSource → Staged → Inspected → FinalData → Copy. Each step takes the previous step's result. ``repr`` shows
nothing that may be secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from transship.domain.image import Image
from transship.domain.remote import RemoteImage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Announced:
    """What a source announces about its data.

    Attributes:
        source: for display.
        size: bytes; None when not announced.
        algorithm, value: a digest in lower-case hex; both empty when not announced.
    """

    source: str
    size: int | None
    algorithm: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class JudgedSource:
    """A source that the URI gate has accepted; the gate judges each connection again.

    Attributes:
        uri: http or https; may hold secrets.
        display: the source, for display.
        image: the record, updated from the source.
        addresses: of its name when it was judged; empty if it was not resolved.
        headers: sent only to the origin of ``uri``.
        pinned: identifies this version of the data; empty: the server's validators have to.
        announced: size and digest from a record of the data; None without one.
        remote: the image, if the source is another Glance; None for a plain URL.
        arriving: extra properties that are set together with the data.
        remarks: what users should know about a successful import.
    """

    uri: str = field(repr=False)
    display: str
    image: Image
    addresses: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    pinned: str = ""
    announced: Announced | None = None
    remote: RemoteImage | None = None
    arriving: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A complete file, or an object of a store, with an image's data; it is only read.

    Attributes:
        name: its name in this host's staging directory; for a store's own file or object ``<store>/<image id>``.
        size: bytes.
        store: the store that it was read from; empty if it was not.
        path: of a store's own file; empty in staging.
        url: of a store's own object, which the targets copy without this machine; empty if there is a file.
        proof: what that store said about the object when it had written it; empty if there is a file.
        digests: of its data, as far as they were computed on the way in; lower-case hex by algorithm.
    """

    name: str
    size: int
    store: str = ""
    path: str = ""
    url: str = ""
    proof: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Staged:
    """Data in staging that have not been inspected since they were written.

    Attributes:
        image: the record with the findings of the steps so far, which the catalogue does not have yet.
        arriving: extra properties that are set together with the data.
        remarks: what users should know about a successful import; part of its final message.
        uploaded: whether a client uploaded the file, so it exists nowhere else and is kept until the import succeeds.
        source_path: path of the source's URL; may hold secrets.
    """

    file: SealedFile
    image: Image
    arriving: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    uploaded: bool = False
    source_path: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Inspected:
    """Data that passed the format gate.

    Attributes:
        staged: the data, with the formats and the virtual size that the gate found.
        detected: format of the data; ``gzip``, ``zip`` or ``lha`` for an archive that will be unpacked;
            empty for containers that are not inspected.
        virtual_size: bytes that a guest sees; None if the format does not state them.
    """

    staged: Staged
    detected: str
    virtual_size: int | None


@dataclass(frozen=True, slots=True)
class FinalData:
    """The inspected data that the stores get, and the changes to the image's record.

    Attributes:
        image: the record with the formats, virtual size and properties for these data.
        arriving: extra properties that are set together with the data.
        remarks: what users should know; part of the import's final message.
    """

    file: SealedFile
    image: Image
    arriving: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of one file, lower-case hex.

    Attributes:
        checksum: md5; None when switched off.
        algorithm: name of the second digest.
        value: the second digest.
    """

    checksum: str | None
    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A complete copy of the image's data in a store, not yet visible to clients.

    Attributes:
        store: store id.
        url: location URL, without credentials.
    """

    store: str
    url: str


@dataclass(frozen=True, slots=True)
class Copies:
    """The results of copying one file.

    Attributes:
        digests: of the file; verified if the image has digests.
        written: in the order in which the copies ended.
        failed: reason by store id, for stores that were allowed to fail, in the requested order.
    """

    digests: Digests
    written: tuple[Copy, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A step that may find its work done already did it."""

    value: T


@dataclass(frozen=True, slots=True)
class Skipped(Generic[T]):
    """An earlier attempt did the work.

    Attributes:
        value: what that attempt left.
        why: one line for people.
    """

    value: T
    why: str


Outcome = Done[T] | Skipped[T]
