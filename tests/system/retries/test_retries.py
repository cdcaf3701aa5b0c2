"""Retry through Prefect's API, of imports of all methods that ended while their second store was being written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes.fleet import METHODS, TARGETS, Fleet, Voyage
from tests.fakes.system import FINAL, until
from tests.system.retries.conftest import RATE_MIB_PER_S
from transship.placing.rates import MIB, SharedBucket

pytestmark = [pytest.mark.real, pytest.mark.faults]

BODY = os.urandom(3 << 20)
FIRST, SECOND = TARGETS


@pytest.fixture
def half_written(fleet: Fleet) -> list[Voyage]:
    """One import of each method: the first store holds the image, the second one is being written."""
    voyages = []
    # So much is booked that nothing of these copies goes through before somebody ends them.
    bucket(fleet).book(3600 * RATE_MIB_PER_S * MIB)
    for method in METHODS:
        image_id, request = fleet.prepare(method, BODY)
        request["all_stores_must_succeed"] = False
        voyages.append(fleet.ask_prepared(image_id, request, method, BODY))
    until(lambda: all(is_half_written(fleet, each) for each in voyages), 180.0, "imports whose first store is written")
    assert len(fleet.system.carriers()) == len(METHODS)
    return voyages


def bucket(fleet: Fleet) -> SharedBucket:
    return SharedBucket(fleet.system.settings.run_dir / f"rate-{SECOND}", RATE_MIB_PER_S * MIB)


def is_half_written(fleet: Fleet, voyage: Voyage) -> bool:
    image = fleet.system.image(voyage.image_id)
    parts = [name for name in fleet.system.stored(SECOND) if voyage.image_id in name]
    return bool(parts) and (image["status"], image.get("stores")) == ("active", FIRST)


def end_all(fleet: Fleet, voyages: list[Voyage], status: str) -> None:
    """Wait until all imports and their runs have ended, without the second store."""
    for each in voyages:
        assert fleet.system.ended(each.image_id)["status"] == status
        until(lambda each=each: run_type(fleet, each) in ENDS, 180.0, f"the end of the run of {each}")  # type: ignore[misc]  # the default binds the loop's value
        image = fleet.system.image(each.image_id)
        assert (image["status"], image["stores"], image["os_glance_failed_import"]) == ("active", FIRST, SECOND)
        assert image["os_glance_import_message"], each
    (fleet.system.settings.run_dir / f"rate-{SECOND}").unlink()


ENDS = ("CRASHED", "CANCELLED", "FAILED", "COMPLETED")


def run_type(fleet: Fleet, voyage: Voyage) -> str:
    return str(fleet.system.flow_run(voyage.image_id)["state"]["type"])


def retry_all(fleet: Fleet, voyages: list[Voyage]) -> None:
    """Press Retry, and see that the second store is written and the first one is not written again."""
    first = fleet.system.settings.all_stores[FIRST].dir
    written = {each: (first / each.image_id).stat() for each in voyages}
    ended = {each: fleet.system.task(each.image_id)["id"] for each in voyages}
    for each in voyages:
        fleet.system.set_state(fleet.system.flow_run(each.image_id)["id"], "SCHEDULED", "AwaitingRetry")
    for each in voyages:

        def is_done(each: Voyage = each) -> bool:
            task = fleet.system.task(each.image_id)
            return task["id"] != ended[each] and task["status"] in FINAL

        until(is_done, 180.0, f"the end of the Retry of {each.method}\n{fleet.system.logs()}")
        task, image = fleet.system.task(each.image_id), fleet.system.image(each.image_id)
        assert (task["status"], image["status"]) == ("success", "active"), (each.method, task["message"])
        assert sorted(image["stores"].split(",")) == sorted(TARGETS), each.method
        now = (first / each.image_id).stat()
        assert (now.st_ino, now.st_mtime_ns) == (written[each].st_ino, written[each].st_mtime_ns), each.method
    fleet.settle()


def test_a_retry_after_the_process_was_killed_writes_only_the_store_that_lacks_the_image(
    fleet: Fleet, half_written: list[Voyage]
) -> None:
    assert fleet.kill("flow") == len(METHODS)
    end_all(fleet, half_written, "failure")
    retry_all(fleet, half_written)


def test_a_retry_after_a_cancel_writes_only_the_store_that_lacks_the_image(
    fleet: Fleet, half_written: list[Voyage]
) -> None:
    cancel_all(fleet, half_written)
    retry_all(fleet, half_written)


def test_a_retry_after_staging_was_wiped_takes_the_data_from_the_store_that_has_them(
    fleet: Fleet, half_written: list[Voyage]
) -> None:
    cancel_all(fleet, half_written)
    for name in fleet.system.staged():
        (fleet.system.settings.staging_dir / name).unlink()
    retry_all(fleet, half_written)


def cancel_all(fleet: Fleet, voyages: list[Voyage]) -> None:
    for each in voyages:
        fleet.system.set_state(fleet.system.flow_run(each.image_id)["id"], "CANCELLING", "Cancelling")
    end_all(fleet, voyages, "failure")
    # What is told to end takes back what it had half written.
    assert not [name for name in fleet.system.stored(SECOND) for each in voyages if each.image_id in name]


def test_rerun_retries_the_run_of_an_image_that_no_store_took(fleet: Fleet, slow_store: Path) -> None:
    image_id, request = fleet.prepare("web-download", BODY)
    aside = slow_store.with_name(f"{slow_store.name}-aside")
    slow_store.rename(aside)
    slow_store.touch()  # a file in the place of the directory
    try:
        voyage = fleet.ask_prepared(image_id, request, "web-download", BODY)
        ended = fleet.system.ended(image_id)
        assert (ended["status"], fleet.system.image(image_id)["status"]) == ("failure", "queued")
        refused = fleet.system.command("rerun", image_id, "--store", SECOND)
        assert (refused.returncode, "all its stores are written" in refused.stderr) == (2, True)
    finally:
        slow_store.unlink()
        aside.rename(slow_store)
    until(lambda: run_type(fleet, voyage) in ENDS, 180.0, "the end of the run")
    done = fleet.system.command("rerun", image_id)
    assert done.returncode == 0, done.stderr
    until(lambda: fleet.system.image(image_id)["status"] == "active", 180.0, "the end of the rerun")
    assert sorted(fleet.system.image(image_id)["stores"].split(",")) == sorted(TARGETS)
    assert fleet.system.flow_run(image_id)["id"] == ended["flow_run_id"]
    fleet.settle()
