from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.acceptance.conftest import api_server, imports
from tests.fakes.asked_imports import AskedImports
from tests.fakes.openstack_peers import OpenStack
from tests.flows.conftest import prefect_client, server, site

__all__ = ["api_server", "imports", "prefect_client", "server", "site"]


@pytest.fixture(scope="package")
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenStack]:
    with OpenStack(tmp_path_factory.mktemp("openstack")) as running:
        yield running
        if request.session.testsfailed:
            print(running.last_words())


def serve_in_region(cloud: OpenStack, imports: AskedImports, **options: str) -> str:
    """Serve the API with the cloud's Keystone and more settings; return the name of its region, used by nobody else."""
    name = f"Region-{uuid4().hex[:8]}"
    imports.site.set(**{f"auth__{option}": value for option, value in cloud.service_login.items()})
    imports.site.set(api__auth="keystone", **options)
    imports.api("GET", "/healthcheck")
    cloud.endpoint("image", name, imports.url)
    return name
