"""The product with stores on a Ceph of its own, whose daemons tests may stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.real_stores import RealStores


@pytest.fixture(scope="package")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStores]:
    with RealStores(tmp_path_factory.mktemp("clouds")) as running:
        yield running
