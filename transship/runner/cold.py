"""Runs in a fresh interpreter: Prefect's own way, with one interpreter instead of two."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import anyio
from prefect.client.schemas.objects import FlowRun
from prefect.workers.process import ProcessJobConfiguration

from transship.host.processes import children, variable_of
from transship.runner.hung import Grip

RUN_VARIABLE: Final = "PREFECT__FLOW_RUN_ID"
"""Holds the id of the run in the environment of what Prefect starts for it."""


@dataclass(slots=True)
class Cold:
    """A run that a fresh interpreter carries.

    Attributes:
        scope: ends our watching over it, without a state for the run.
        grip: what is known of its import.
    """

    flow_run: FlowRun
    scope: anyio.CancelScope
    grip: Grip = field(default_factory=Grip)


class OwnInterpreter(ProcessJobConfiguration):
    """How a run gets a fresh interpreter: this worker's own, which has the product installed."""

    def prepare_for_flow_run(self, *arguments: Any, **named: Any) -> None:
        """Fill in what the run and this host determine."""
        if self.command is None:
            # Left to Prefect, an interpreter would start another one.
            self.command = shlex.join([sys.executable, "-m", "prefect.engine"])
        super().prepare_for_flow_run(*arguments, **named)


def cold_processes(flow_run_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return the interpreters of runs that this process has started and that have one now."""
    found: dict[UUID, int] = {}
    for pid in children(os.getpid()) if flow_run_ids else ():
        run_id = variable_of(pid, RUN_VARIABLE)
        found.update({flow_run_id: pid for flow_run_id in flow_run_ids if str(flow_run_id) == run_id})
    return found
