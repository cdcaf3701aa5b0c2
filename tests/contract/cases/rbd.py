"""The RBD store in a pool of a real Ceph. Ceph's modules are imported late: only ``--peers`` installs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.cases.case import StoreCase

if TYPE_CHECKING:
    from tests.fakes.rbd_pool import RbdPool


@contextmanager
def rbd_case(request: pytest.FixtureRequest, _tmp_path: Path) -> Iterator[StoreCase]:
    pool: RbdPool = request.getfixturevalue("rbd_pool")
    with pool.store() as store:
        yield StoreCase(store, pool.leave_temporary, pool.names, lambda: pool.away(store))
    pool.clear()
