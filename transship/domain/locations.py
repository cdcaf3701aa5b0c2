"""Locations that clients add to images, as values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from transship.domain.errors import BadRequest

ALGORITHMS: Final = ("sha1", "sha256", "sha512", "md5")
"""Algorithms of digests that clients may announce."""
_LONGEST_URL: Final = 4096
_HEX: Final = re.compile("[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class ValidationData:
    """What a client knows of the data at a location.

    Attributes:
        os_hash_algo: name of the algorithm.
        os_hash_value: lower-case hex.
        checksum: md5 in lower-case hex; None: not known.
    """

    os_hash_algo: str
    os_hash_value: str
    checksum: str | None = None

    @classmethod
    def of(cls, body: object, *, checksum: bool) -> Self:
        """Parse a ``validation_data``; `refuse_other_than_digests` looks at its digests.

        Args:
            checksum: whether it may have one.

        Raises:
            BadRequest: it is not an object with algorithm and digest.
        """
        known = ("os_hash_algo", "os_hash_value", *(("checksum",) if checksum else ()))
        if not isinstance(body, Mapping) or not all(isinstance(value, str) for value in body.values()):
            raise BadRequest("'validation_data' must be an object with 'os_hash_algo' and 'os_hash_value', both text")
        if unknown := sorted(str(key) for key in body if key not in known):
            raise BadRequest(f"'validation_data' has no member {unknown[0][:40]}", f"it may have {', '.join(known)}")
        if "os_hash_algo" not in body or "os_hash_value" not in body:
            raise BadRequest("'validation_data' needs both 'os_hash_algo' and 'os_hash_value'")
        algorithm = body["os_hash_algo"]
        if algorithm not in ALGORITHMS:
            reason = f"'os_hash_algo' is {algorithm[:40]!r}"
            raise BadRequest(reason, f"choose from {', '.join(ALGORITHMS)}")
        md5 = body["checksum"].lower() if "checksum" in body else None
        return cls(algorithm, body["os_hash_value"].lower(), md5)

    def refuse_other_than_digests(self) -> None:
        """Refuse texts that are no digests.

        Raises:
            BadRequest: one of them has other characters than hexadecimal digits, or too many or too few.
        """
        _refuse_other_than_digest("os_hash_value", self.os_hash_algo, self.os_hash_value)
        if self.checksum is not None:
            _refuse_other_than_digest("checksum", "md5", self.checksum)

    def named(self) -> dict[str, str]:
        """Return algorithm and digest by their names."""
        return {"os_hash_algo": self.os_hash_algo, "os_hash_value": self.os_hash_value}


def _refuse_other_than_digest(name: str, algorithm: str, value: str) -> None:
    digits = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    if len(value) != digits or not _HEX.fullmatch(value):
        raise BadRequest(f"'{name}' is not a digest of {algorithm}", f"write its {digits} hexadecimal digits")


@dataclass(frozen=True, slots=True)
class NewLocation:
    """A location that a client adds.

    Attributes:
        url: as the client wrote it; may hold secrets.
        store: id of the store that it must be in; empty: any.
        expected: what the client knows of the data; None: nothing.
    """

    url: str
    store: str = ""
    expected: ValidationData | None = None

    @classmethod
    def of(cls, body: object, *, checksum: bool = False) -> Self:
        """Parse an object with ``url``, and maybe ``metadata`` and ``validation_data``; ignore the rest.

        Args:
            checksum: as in `ValidationData.of`.

        Raises:
            BadRequest: it does not have that form.
        """
        if not isinstance(body, Mapping):
            raise BadRequest("A location must be an object with a 'url'.")
        url, metadata = body.get("url"), body.get("metadata", {})
        if not isinstance(url, str):
            raise BadRequest("A location needs a 'url' that is text.")
        if len(url) > _LONGEST_URL:
            raise BadRequest(f"The 'url' has {len(url)} characters", f"at most {_LONGEST_URL} are kept")
        if not isinstance(metadata, Mapping) or not isinstance(metadata.get("store", ""), str):
            raise BadRequest("'metadata' must be an object, and its 'store' text.")
        expected = (
            ValidationData.of(body["validation_data"], checksum=checksum) if body.get("validation_data") else None
        )
        return cls(url, metadata.get("store", ""), expected)


@dataclass(frozen=True, slots=True)
class FoundLocation:
    """Data that a store has, and that an image is to have.

    Attributes:
        store: store id.
        url: in the store's own form, without credentials.
        size: bytes.
        exclusive: whether no other image may have them, because they are deleted with their image.
    """

    store: str
    url: str
    size: int
    exclusive: bool
