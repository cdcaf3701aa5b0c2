from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import api_server, imports
from tests.fakes.openstack_peers import OpenStack
from tests.flows.conftest import prefect_client, server, site

__all__ = ["api_server", "imports", "prefect_client", "server", "site"]


@pytest.fixture(scope="package")
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenStack]:
    with OpenStack(tmp_path_factory.mktemp("openstack")) as running:
        yield running
        if request.session.testsfailed:
            print(running.last_words())
