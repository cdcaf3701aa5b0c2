"""An import's data on their way from the source to the stores, as the steps hand them on.

JudgedSource → Staged → Inspected → FinalData → Copy. Each step takes what the one before returned. What may be secret
stands in no ``repr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from transship.domain.image import Image
from transship.domain.remote import RemoteImage


@dataclass(frozen=True, slots=True)
class Announced:
    """What a source says of its data before they come.

    Attributes:
        source: for display.
        size: bytes; None when it does not say.
        algorithm, value: a digest in lower-case hex; both empty when the source tells none.
    """

    source: str
    size: int | None
    algorithm: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class JudgedSource:
    """Where an import's data come from; the URI gate let it pass, and judges each connection again.

    Attributes:
        uri: http or https; may hold secrets.
        display: the source for people.
        image: the record, with what the source says of it.
        addresses: those that its name had when it was judged; empty where it was not looked up.
        headers: for the origin of ``uri`` alone.
        pinned: what tells this version of the data from any other; empty: the server has to.
        announced: what a record says of the data; None where there is none.
        remote: the image of another Glance that it is; None for a plain URL.
        arriving: extra properties that become the image's together with its data.
        remarks: what people should know of an import that succeeds.
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
    """A complete file with an image's data; it is only read.

    Attributes:
        name: its name in the staging directory of this host; of a store's own file ``<store>/<image id>``.
        size: bytes.
        store: the store that it was read from; empty when it came from elsewhere.
        path: where it lies when it is the store's own; empty in staging.
    """

    name: str
    size: int
    store: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Staged:
    """Data in staging that nobody has looked into since they were written.

    Attributes:
        image: the record with what the steps so far found out about the data; the catalogue does not have that yet.
        arriving: extra properties that become the image's together with its data.
        remarks: what people should know of an import that succeeds; part of its final message.
        uploaded: a client uploaded the file: it is nowhere else, and kept until the import has succeeded.
        source_path: path of the URL that they came from; may hold secrets.
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
        staged: the data, the image's formats and virtual size as the gate found them.
        detected: format of the data; ``gzip``, ``zip`` or ``lha`` for an archive that is still to be unpacked;
            empty for containers that are not inspected.
        virtual_size: bytes that a guest sees, None where the format does not tell.
    """

    staged: Staged
    detected: str
    virtual_size: int | None


@dataclass(frozen=True, slots=True)
class FinalData:
    """What the stores get, inspected, and what becomes known of the image with it.

    Attributes:
        image: the record, its formats, virtual size and properties as they are with these data.
        arriving: extra properties that become the image's together with its data.
        remarks: what people should know; part of the import's final message.
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
    """A whole copy of the image's data in a store, which nobody sees yet.

    Attributes:
        store: store id.
        url: location URL, without credentials.
    """

    store: str
    url: str


@dataclass(frozen=True, slots=True)
class Copies:
    """What became of the copies of one file.

    Attributes:
        digests: of the file, proven where the image was known by any.
        written: in the order in which they ended.
        failed: reason by store id, for stores that were allowed to fail, in the order asked for.
    """

    digests: Digests
    written: tuple[Copy, ...]
    failed: Mapping[str, str]
