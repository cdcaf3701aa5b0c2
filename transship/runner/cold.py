"""Runs in a fresh interpreter, as Prefect does it, but with one interpreter instead of two."""

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
from transship.runner.hung import HangCheck

RUN_VARIABLE: Final = "PREFECT__FLOW_RUN_ID"
"""Environment variable with the run's id in the processes that Prefect starts for it."""


@dataclass(slots=True)
class Cold:
    """A run in a fresh interpreter.

    Attributes:
        scope: cancelling it stops watching the run without reporting a state.
        hang_check: what is known about its import.
    """

    flow_run: FlowRun
    scope: anyio.CancelScope
    hang_check: HangCheck = field(default_factory=HangCheck)


class OwnInterpreter(ProcessJobConfiguration):
    """Starts runs with this worker's own interpreter, which has the product installed."""

    def prepare_for_flow_run(self, *arguments: Any, **named: Any) -> None:
        """Fill in what depends on the run and this host."""
        if self.command is None:
            # Prefect's default command is an interpreter that starts another one.
            self.command = shlex.join([sys.executable, "-m", "prefect.engine"])
        super().prepare_for_flow_run(*arguments, **named)


def cold_processes(flow_run_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return the running interpreters that this process has started, by run."""
    found: dict[UUID, int] = {}
    for pid in children(os.getpid()) if flow_run_ids else ():
        run_id = variable_of(pid, RUN_VARIABLE)
        found.update({flow_run_id: pid for flow_run_id in flow_run_ids if str(flow_run_id) == run_id})
    return found
