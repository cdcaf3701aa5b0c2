from __future__ import annotations

from tests.acceptance.conftest import api_server, yard
from tests.fakes.notifications import notification_drivers
from tests.flows.conftest import prefect_client, server, site

__all__ = ["api_server", "notification_drivers", "prefect_client", "server", "site", "yard"]
