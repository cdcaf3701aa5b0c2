"""What a run shows in Prefect beside its state. Failures are logged, never raised."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import httpx
import structlog
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

log = structlog.get_logger("transship.flow")


def rename_run(name: str) -> None:
    """Rename the current run, so that the list of runs shows what it did."""
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(str(flow_run.id)), name=name)
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("run not renamed", error=str(error))


def show_table(key: str, rows: Sequence[dict[str, str]], description: str) -> None:
    """Create a table artifact of the current run.

    Args:
        rows: cells by column name.
        description: short, because the cards of artifacts are.
    """
    try:
        create_table_artifact(table=list(rows), key=key, description=description)
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("table not written", key=key, error=str(error))
