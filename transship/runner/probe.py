"""A flow that does nothing: the dry run with which the dispatcher tests its executors before using them."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed


@flow(name="probe", retries=0, persist_result=False)
def probe() -> State[Any]:
    """Do nothing, successfully."""
    return Completed(message="probed")
