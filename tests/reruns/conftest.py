from __future__ import annotations

from tests.acceptance.conftest import api_server, yard
from tests.flows.conftest import prefect_client, server, site

__all__ = ["api_server", "prefect_client", "server", "site", "yard"]
