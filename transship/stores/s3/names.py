"""Names in a bucket, and location URLs.

An unfinished upload has no name of its own, so an empty object marks it: ``<image id>.<epoch>.<upload id>.part``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from transship.host.directories import MARK
from transship.stores.s3.bucket import Bucket

AWS_ENDPOINT: Final = "https://s3.amazonaws.com"
CHECK: Final = ".transship-check"
OWN_NAMES: Final = frozenset({MARK, CHECK})

_MARKER: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]+)\.(.+)\.part", re.DOTALL)
_SCHEMES: Final = ("s3", "s3+http", "s3+https")


@dataclass(frozen=True, slots=True)
class Marker:
    """The name of an unfinished upload: the image, the lease epoch of its writer, and the upload's id."""

    image_id: str
    epoch: int
    upload: str

    @property
    def key(self) -> str:
        """The marker's own key."""
        return f"{self.image_id}.{self.epoch}.{self.upload}.part"


def marker_in(key: str) -> Marker | None:
    """Return the marker with that key; None if it is something else."""
    found = _MARKER.fullmatch(key)
    return Marker(found[1], int(found[2]), found[3]) if found else None


@dataclass(frozen=True, slots=True)
class Locations:
    """The location URLs of a bucket, as Glance writes them.

    Attributes:
        prefix: of all URLs, e.g. ``s3+https://objects.example.org/images/``.
    """

    prefix: str

    @classmethod
    def of(cls, endpoint: str, bucket: str) -> Locations:
        """Return the URLs of a bucket; an empty endpoint is AWS."""
        parts = urlsplit(endpoint or AWS_ENDPOINT)
        scheme = "s3+https" if parts.scheme == "https" else "s3"
        return cls(f"{scheme}://{parts.netloc}{parts.path}/{bucket}/")

    def key_in(self, url: str) -> str | None:
        """Return the key that a URL names; None if it does not name an object of the bucket.

        Older releases of Glance wrote credentials into URLs; they are ignored. A secret key may contain slashes. The
        scheme is not compared, because a service that gets a certificate keeps its objects.
        """
        scheme, _, rest = url.partition("://")
        place = self.prefix.partition("://")[2]
        named = rest.rpartition("@")[2]
        key = named.removeprefix(place)
        ours = scheme in _SCHEMES and key != named
        plain = bool(key) and not key.startswith(".") and "/" not in key and "\0" not in key
        return key if ours and plain and marker_in(key) is None else None

    def beside(self, url: str) -> tuple[str, str] | None:
        """Return bucket and key of an object in any bucket of the same service; None for other URLs."""
        service = self.prefix.rsplit("/", 2)[0]
        bucket = url.rpartition("/")[0].rpartition("/")[2]
        key = Locations(f"{service}/{bucket}/").key_in(url)
        return None if key is None else (bucket, key)


def markers_of(bucket: Bucket, image_id: str) -> list[Marker]:
    """Return the markers of an image's unfinished uploads."""
    found = map(marker_in, bucket.keys(f"{image_id}."))
    return [marker for marker in found if marker is not None]
