"""The life of a driver: opened once in the process that uses it, reused, closed when its settings change."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from config.settings import StoreSettings
from config.settings.stores import kinds
from config.settings.stores.rbd import RbdStoreSettings
from tests.fakes.parts_store import KIND, PartsStore, PartsStoreSettings
from transship.domain.errors import StoreUnavailable
from transship.domain.verification import Verification
from transship.stores.base import StoreDriver
from transship.stores.pool import DriverPool, new_driver

pytestmark = pytest.mark.spec("ST-024")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", {**kinds.KINDS, KIND.name: KIND})
    monkeypatch.setattr(PartsStore, "history", [])


@pytest.fixture
def pool() -> DriverPool:
    return DriverPool()


def settings(directory: Path, **changes: object) -> StoreSettings:
    return PartsStoreSettings.model_validate({"dir": directory, **changes})


def use(driver: StoreDriver) -> None:
    """Do with it what asserts that it is open, and was opened in this process."""
    driver.prepare((), before=False)
    driver.check()


def test_a_driver_knows_how_its_copies_are_verified(pool: DriverPool, tmp_path: Path) -> None:
    with pool.using("shelf", settings(tmp_path), "c") as first:
        assert first.verification is Verification.SAMPLE
    with pool.using("shelf", settings(tmp_path, verify="full"), "c") as edited:
        assert edited.verification is Verification.FULL


def test_a_driver_is_opened_once_and_used_again(pool: DriverPool, tmp_path: Path) -> None:
    with pool.using("shelf", settings(tmp_path), "c") as first, pool.using("shelf", settings(tmp_path), "c") as second:
        assert first is second
    with pool.using("shelf", settings(tmp_path), "c") as third:
        assert third is first
    assert PartsStore.history == ["open"]
    pool.close()
    assert PartsStore.history == ["open", "close"]


def test_other_settings_close_it_when_its_last_user_leaves(pool: DriverPool, tmp_path: Path) -> None:
    with pool.using("shelf", settings(tmp_path), "c") as before:
        with pool.using("shelf", settings(tmp_path, key="changed"), "c") as after:
            assert after is not before
        assert PartsStore.history == ["open", "open"]
        use(before)
    assert PartsStore.history == ["open", "open", "close"]
    with pool.using("shelf", settings(tmp_path, key="again"), "c"):
        assert PartsStore.history == ["open", "open", "close", "close", "open"]


def test_stores_and_catalogues_have_drivers_of_their_own(pool: DriverPool, tmp_path: Path) -> None:
    keys = [("a", "c"), ("b", "c"), ("a", "other")]
    found = set()
    for store_id, catalog_id in keys:
        with pool.using(store_id, settings(tmp_path), catalog_id) as driver:
            found.add(driver)
    assert len(found) == len(keys)


def test_one_that_could_not_be_opened_is_tried_again(
    pool: DriverPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_store: PartsStore) -> None:
        raise StoreUnavailable("shelf", "no answer")

    with monkeypatch.context() as patch:
        patch.setattr(PartsStore, "open", refuse)
        with pytest.raises(StoreUnavailable), pool.using("shelf", settings(tmp_path), "c"):
            pytest.fail("it is not open")
    with pool.using("shelf", settings(tmp_path), "c") as driver:
        use(driver)
    assert PartsStore.history == ["open"]


def test_threads_open_it_once(pool: DriverPool, tmp_path: Path) -> None:
    together, drivers = threading.Barrier(8), []

    def borrow() -> None:
        together.wait(60)
        with pool.using("shelf", settings(tmp_path), "c") as driver:
            drivers.append(driver)

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(set(drivers)), PartsStore.history) == (1, ["open"])


def test_a_fork_opens_its_own_and_leaves_its_parents_alone(pool: DriverPool, tmp_path: Path) -> None:
    with pool.using("shelf", settings(tmp_path), "c") as mine:
        child = os.fork()
        if child == 0:
            with pool.using("shelf", settings(tmp_path), "c") as theirs:
                use(theirs)  # asserts that it was opened in this process
                well = theirs is not mine
            pool.close()
            os._exit(0 if well and PartsStore.history == ["open", "open", "close"] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        use(mine)
    assert PartsStore.history == ["open"]


def test_what_its_settings_say_is_said_before_it_is_open(tmp_path: Path) -> None:
    store = PartsStore.of("shelf", PartsStoreSettings(dir=tmp_path, key="hidden"), "c")  # type: ignore[arg-type]  # as text
    said = (store.public_properties(), store.remedy(), store.url_of("x"))
    assert "hidden" not in str(said)


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("transship.stores.ceph")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rados", None)
    with pytest.raises(StoreUnavailable, match="apt-get install python3-rados python3-rbd"):
        new_driver("ceph", RbdStoreSettings(), "catalogue")
