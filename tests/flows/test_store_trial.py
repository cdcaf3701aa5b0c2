"""The flow that tries a store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prefect.client.schemas.objects import State

from flows import store_trial
from tests.fakes.flaky_store import FlakyStore
from tests.flows.conftest import Site
from transship.domain.errors import StoredDiffers, StoreUnavailable
from transship.placing.trial import TRIAL_BYTES, trial_object, try_store

CATALOG = "7b0f3c1e-1111-4222-8333-944455566677"


def tried(store: str) -> State[object]:
    state: State[object] = store_trial.test_store(store, return_state=True)
    return state


@pytest.mark.usefixtures("prefect_client")
def test_a_store_that_works_is_left_as_it_was(site: Site) -> None:
    state = tried("local")
    assert state.is_completed()
    assert (state.message or "").startswith("store local works from here: 1 MiB written in ")
    assert site.stored() == {}
    assert not list(site.settings.run_dir.glob("tmp*"))


@pytest.mark.usefixtures("prefect_client")
def test_a_store_that_is_away_fails_with_the_operators_remedy(site: Site) -> None:
    directory = site.settings.all_stores["local"].dir
    directory.rename(directory.with_name("elsewhere"))
    state = tried("local")
    assert state.is_failed()
    assert state.message is not None
    assert state.message.startswith("store local is unavailable: its directory is not mounted")
    assert f"Mount {directory}" in state.message


@pytest.mark.usefixtures("prefect_client", "site")
def test_a_store_that_does_not_exist_is_named() -> None:
    state = tried("nowhere")
    assert state.is_failed()
    assert "store nowhere is not configured correctly: there is no such store in the settings" in (state.message or "")


def test_what_an_interrupted_trial_left_is_replaced(tmp_path: Path) -> None:
    store = FlakyStore("shelf")
    name = trial_object(CATALOG, "shelf")
    store.objects[name] = b"left"
    store.temporaries[name, 1] = b"half"
    try_store(store, "shelf", CATALOG, tmp_path)
    assert (store.objects, store.temporaries, list(tmp_path.iterdir())) == ({}, {}, [])


def test_a_store_that_returns_other_data_differs_and_keeps_nothing(tmp_path: Path) -> None:
    store = FlakyStore("shelf")
    store.truncate = 1
    with pytest.raises(StoredDiffers, match=f"{TRIAL_BYTES} bytes written, found {TRIAL_BYTES - 1}"):
        try_store(store, "shelf", CATALOG, tmp_path)
    assert store.objects == {}


@pytest.mark.parametrize("step", ["check", "put", "read", "delete"])
def test_each_step_may_fail(tmp_path: Path, step: str) -> None:
    store = FlakyStore("shelf")
    store.fail(StoreUnavailable("shelf", f"no {step}"), on=step)
    with pytest.raises(StoreUnavailable, match=f"no {step}"):
        try_store(store, "shelf", CATALOG, tmp_path)
    assert (store.objects, os.listdir(tmp_path)) == ({}, [])
