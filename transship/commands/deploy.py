"""``transship deploy``: bring Prefect and the stores in line with the settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.catalog.locks import lock_name
from transship.commands.context import Invocation, print_problems, print_table
from transship.domain.errors import ConfigurationRefused, TransferFailed
from transship.staging.opening import staging_problem
from transship.stores_in_force import explained, prepare_store, stores_left
from transship.supervisor.environment import base_environment, client_environment


def deploy(invocation: Invocation, *, overwrite: bool, if_changed: bool) -> int:
    """Apply pool, queues, blocks and deployments, prepare the stores, and print what was done.

    A store that cannot be used causes a warning. Hosts that share a catalogue deploy one after the other.

    Args:
        invocation: names the settings.
        overwrite: also overwrite what was edited in the Prefect UI.
        if_changed: apply nothing if nothing has changed since the last time; prepare the stores in any case.

    Raises:
        ConfigurationRefused, ServiceUnreachable, ServiceRefused: as `deployments.apply.apply`, or the catalogue cannot
            be opened.
    """
    settings = invocation.settings
    # Prefect reads environment and working directory when it is first imported, so import it after these lines.
    os.environ.update(client_environment(settings, base_environment(settings, {})))
    if settings.home.is_dir():
        # Prefect would read options from files in the caller's working directory.
        os.chdir(settings.home)
    from deployments.apply import apply  # noqa: PLC0415 - as said above

    with closing(Catalog.open(settings)) as catalog:
        with catalog.read() as connection:
            # Hosts with different settings would otherwise overwrite parts of each other's work.
            lock_name(connection, "deploy", for_long=True)
            changes = apply(settings, overwrite=overwrite, if_changed=if_changed)
        prepared = list(_prepared(settings, catalog))
        left = [each.problem for each in stores_left(settings, catalog)]
        staging = staging_problem(settings, catalog)
    if not changes:
        print("nothing has changed since the last deploy")
    rows = [(one.kind, one.name, one.action, one.detail) for one in changes]
    print_table(("KIND", "NAME", "", ""), rows + [("store", one.store, one.action, "") for one in prepared])
    print_problems([*(one.problem for one in prepared), *left, staging])
    return 0


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The outcome for one store; `problem` says why it cannot be used and what to do, empty if it can."""

    store: str
    action: str
    problem: str = ""


def _prepared(settings: Settings, catalog: Catalog) -> Iterator[_Prepared]:
    """Prepare the stores with the settings from their blocks; an unavailable store does not stop the others."""
    from blocks.loading import load_settings_of  # noqa: PLC0415 - imports Prefect

    for store_id, configured in settings.all_stores.items():
        try:
            store = load_settings_of(store_id, configured)
        except ConfigurationRefused as refused:
            yield _Prepared(store_id, "unavailable", f"store {store_id} is unavailable: {refused}")
            continue
        try:
            first = prepare_store(catalog, store_id, store)
        except TransferFailed as fault:
            yield _Prepared(store_id, "unavailable", explained(fault, store_id, store))
        else:
            yield _Prepared(store_id, "prepared" if first else "ready")
