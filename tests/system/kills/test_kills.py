"""Processes of every kind are killed while imports of every method stand at named points; nothing is lost.

The death of the process that carries an import is tried at every one of its steps by
`tests/faults/test_every_step.py`; here the others die, and the carrying ones together with their worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.fakes.fleet import METHODS, Fleet
from tests.fakes.holds import Holds

pytestmark = [pytest.mark.real, pytest.mark.faults]

BODY = os.urandom(1 << 20)
POINTS = (
    "begin_import",
    "prepare_copies",
    "link in _try_names",
    "unlink in check",
    "open_location",
    "unlink in put",
    "link in _link",
    "link in _publish",
    "unlink in _publish",
    "copy_written",
    "fsync in _fill",
    "fsync in sync_directory",
    "finish_import",
)
"""Points that an import of any method passes by."""
DOWNLOADS = ("open_staged", "reserve_staged", "unlink in seal", "seal_staged")
EARLY: Mapping[str, tuple[str, ...]] = {
    "web-download": DOWNLOADS,
    "glance-download": DOWNLOADS,
    "glance-direct": ("adopt_staged",),
    "copy-image": (),
}
"""Points between an import's beginning and its first store, which are each method's own."""
EVERYWHERE: Mapping[str, tuple[str, ...]] = {method: (*POINTS, *EARLY[method]) for method in METHODS}


@pytest.fixture(scope="module")
def holds(tmp_path_factory: pytest.TempPathFactory) -> Holds:
    return Holds(tmp_path_factory.mktemp("holds"))


@pytest.fixture(scope="module")
def fleet(holds: Holds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home: Path = tmp_path_factory.mktemp("fleet")
    # All of them stand still at the same time.
    options = {"prefect.worker_limit": sum(map(len, EVERYWHERE.values())) + 1, "lease.crash_retries": 9}
    with Fleet(home, options, holds.environment) as running:
        yield running


def stand(fleet: Fleet, holds: Holds, points: Mapping[str, tuple[str, ...]]) -> int:
    """Request an import for every point of every method; return their number."""
    for method, point in [(each, point) for each in METHODS for point in points[each]]:
        image_id, request = fleet.prepare(method, BODY)
        holds.set(image_id, point)
        fleet.ask_prepared(image_id, request, method, BODY)
    return sum(map(len, points.values()))


def assert_all_active(fleet: Fleet) -> None:
    fleet.settle(300.0)
    assert [outcome for outcome in fleet.outcomes() if not outcome.endswith(" active")] == []


def test_no_import_is_lost_when_processes_of_every_kind_die_while_it_stands_at_any_point(
    fleet: Fleet, holds: Holds
) -> None:
    count = stand(fleet, holds, EVERYWHERE)
    with holds.standing(count, 500.0):
        for kind in ("api", "keeper", "prefect-server"):
            before = fleet.pids(kind)
            assert fleet.kill(kind) == 1
            fleet.await_return(kind, before)
            # None of these carries an import: all stand where they stood.
            assert len(holds.reached()) == len(fleet.under_way()) == count, kind
        assert fleet.kill("worker") == 1
    assert_all_active(fleet)


def test_imports_of_all_methods_go_on_by_themselves_after_down_and_up(fleet: Fleet, holds: Holds) -> None:
    with holds.standing(stand(fleet, holds, dict.fromkeys(METHODS, ("prepare_copies",))), 300.0):
        fleet.system.down()
    fleet.system.up()
    assert_all_active(fleet)
