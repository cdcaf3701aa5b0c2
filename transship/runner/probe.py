"""A flow that does nothing: the dry run with which the dispatcher tries its executors before it trusts them."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed


@flow(name="probe", retries=0, persist_result=False)
def probe() -> State[Any]:
    """Do nothing, and say so."""
    return Completed(message="probed")
