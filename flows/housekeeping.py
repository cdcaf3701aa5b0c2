"""housekeeping: remove leftovers named in the journal; list files and objects that are not ours."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from config.snapshot import settings_in_force
from flows.reporting import rename_run, show_table
from tasks.sweep import sweep_staging, sweep_stores
from transship.domain.task import RunState
from transship.host.logs import configure_flow_logs

LONGEST_TABLE = 200
"""Most rows in the artifact; `transship doctor` counts all."""


def _run_name() -> str:
    return f"housekeeping on {settings_in_force().settings.host_name}"


@flow(name="housekeeping", flow_run_name=_run_name, retries=0, persist_result=False)
def housekeeping() -> State[Any]:
    """Sweep this host's staging and the copies marked for removal; list what no journal row names."""
    settings = settings_in_force().settings
    configure_flow_logs(settings.log.level)
    # Staging first: it shows whether the catalogue was restored from a backup.
    staging = sweep_staging(settings.host_name)
    stores = sweep_stores()
    removed, kept = staging.removed + stores.removed, staging.kept + stores.kept
    unknown = staging.unknown + stores.unknown
    _show(unknown)
    message = f"removed {len(removed)}, kept for later {len(kept)}, not ours {len(unknown)}"
    rename_run(f"{_run_name()}: {message}")
    return Completed(name=RunState.SWEPT, message=message)


def _show(unknown: tuple[str, ...]) -> None:
    if not unknown:
        return
    table = [dict(zip(("place", "name"), stray.split(" ", 1), strict=True)) for stray in unknown[:LONGEST_TABLE]]
    description = f"{len(unknown)} things that are not ours; they are never touched."
    show_table("not-ours", table, description)
