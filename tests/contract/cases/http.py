"""An http store under test: a web server that serves what the suite gives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from config.settings import Settings
from config.settings.stores.http import HttpStoreSettings
from tests.contract.cases.case import StoreCase
from tests.fakes.web_server import WebServer
from transship.stores.http import HttpStore


@contextmanager
def http_case(ranges: bool, _request: pytest.FixtureRequest, _tmp_path: Path) -> Iterator[StoreCase]:
    site = Settings.model_validate({"uri": {"allowed_hosts": ("127.0.0.1",), "allowed_ports": ()}})
    served: dict[str, bytes] = {}
    with WebServer() as server:

        def serve(image_id: str, content: bytes) -> str:
            served[image_id] = content
            return server.serve(f"/images/{image_id}", content, ranges=ranges)

        def leave_temporary(_image_id: str, _epoch: int) -> None:
            raise AssertionError("nothing is ever written there")

        store = HttpStore("shelf", HttpStoreSettings(), lambda: site)
        yield StoreCase(store, leave_temporary, lambda: set(served), nullcontext, serve)
