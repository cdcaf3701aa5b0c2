"""What the contract suite knows about a store under test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from transship.stores.base import StoreDriver

MakeCase = Callable[[pytest.FixtureRequest, Path], AbstractContextManager["StoreCase"]]
"""Makes a store and removes it again. It gets the test's request, for fixtures, and the test's directory."""


@dataclass(frozen=True)
class StoreCase:
    """A store under test, and how to look behind it.

    Attributes:
        store: the driver.
        leave_temporary: put there what a writer killed under (image id, epoch) leaves.
        names: names of everything that the store holds, temporaries included.
        away: while the block runs, the store is not where it was prepared.
        serve: of a read-only store: let it have an object of that name with these bytes; return its URL.
    """

    store: StoreDriver
    leave_temporary: Callable[[str, int], None]
    names: Callable[[], set[str]]
    away: Callable[[], AbstractContextManager[None]]
    serve: Callable[[str, bytes], str] | None = None
