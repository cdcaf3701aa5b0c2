"""The Glance of another region on loopback: records and data of images, for callers with a token.

It answers as Glance 33 does: data come with a length and with ranges, without ETag or Last-Modified.
`tests/peers/test_remote_glance.py` imports from a real one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from tests.fakes.web_server import Behaviour, Request, Talk, WebServer, answer, whole

RECORD: Mapping[str, Any] = {
    "status": "active",
    "disk_format": "raw",
    "container_format": "bare",
    "visibility": "shared",
    "min_disk": 0,
    "min_ram": 0,
    "protected": False,
    "os_hidden": False,
    "owner": "somebody",
    "tags": ["blue"],
    "virtual_size": None,
    "schema": "/v2/schemas/image",
    "stores": "fast",
}


class RemoteGlance:
    """Images behind a web server.

    Attributes:
        tokens: those that it accepts.
    """

    def __init__(self, server: WebServer, *tokens: str) -> None:
        self.server = server
        self.tokens = set(tokens)

    @property
    def url(self) -> str:
        return self.server.url("")

    def image(self, data: bytes, *file: Behaviour, **record: Any) -> str:
        """Offer an active image, and return its id.

        Args:
            data: its bytes.
            file: what its data are answered with instead, request by request.
            record: what its record says instead.
        """
        image_id = str(uuid4())
        path = f"/v2/images/{image_id}"
        said = {
            **RECORD,
            "id": image_id,
            "name": "golden",
            "size": len(data),
            "checksum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(data).hexdigest(),
            "self": path,
            "file": f"{path}/file",
            **record,
        }
        body = json.dumps(said).encode()
        self.server.on(path, self._guarded(answer(200, {"Content-Type": "application/json"}, body)))
        self.server.on(f"{path}/file", *(self._guarded(each) for each in (file or (whole(data, etag=""),))))
        return image_id

    def asked_for_data(self, image_id: str) -> list[Request]:
        """Return the requests for an image's data so far."""
        return self.server.requests(f"/v2/images/{image_id}/file")

    def _guarded(self, behaviour: Behaviour) -> Behaviour:
        def behave(talk: Talk) -> None:
            known = not self.tokens or talk.request.headers.get("x-auth-token", "") in self.tokens
            (behaviour if known else answer(401))(talk)

        return behave
