"""test-store: write a small object to a store, read it back and delete it, for operators who set a store up."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.stores import settings_of_store
from tasks.sweep import opened
from transship.domain.errors import StoreMisconfigured, TransferFailed
from transship.host.logs import configure_flow_logs
from transship.placing.trial import try_store
from transship.stores.pool import DRIVERS
from transship.stores_in_force import explained


@flow(name="test-store", flow_run_name="test store {store}", retries=0, persist_result=False)
def test_store(store: str) -> State[Any]:
    """Write 1 MiB to a store, read it back and delete it. The run says how long each step took, or what failed.

    The store's block is used as it is now, as by the next import.

    Args:
        store: Id of the store.
    """
    settings, catalog = opened()
    configure_flow_logs(settings.log.level)
    with closing(catalog):
        try:
            in_force = settings_of_store(store, settings)
        except StoreMisconfigured as fault:
            return Failed(message=str(fault))
        try:
            with DRIVERS.using(store, in_force, catalog.id()) as driver:
                trial = try_store(driver, store, catalog.id(), settings.run_dir)
        except TransferFailed as fault:
            return Failed(message=explained(fault, store, in_force))
    steps = f"written in {trial.write_s:.2f} s, read back in {trial.read_s:.2f} s, deleted in {trial.delete_s:.2f} s"
    return Completed(message=f"store {store} works from {settings.host_name}: 1 MiB {steps}")
