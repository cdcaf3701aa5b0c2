"""housekeeping: remove what the journal names and nobody needs."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from config.loading import load_settings
from tasks.sweep import sweep_staging, sweep_stores
from transship.logs import configure_flow_logs


@flow(name="housekeeping", flow_run_name="housekeeping", retries=0, persist_result=False)
def housekeeping() -> State[Any]:
    """Sweep this host's staging, and the stores' copies that are to go."""
    configure_flow_logs()
    staging = sweep_staging(load_settings().settings.host_name)
    stores = sweep_stores()
    removed, kept = staging.removed + stores.removed, staging.kept + stores.kept
    message = f"removed {len(removed)}, kept for later {len(kept)}, not ours {len(staging.unknown)}"
    return Completed(name="Swept", message=message)
