"""The private names of Prefect that the warm engine relies on.

The worker checks them when it starts. If one is missing or takes other arguments, the cold engine is used,
which needs none of them. Source: Prefect 3.9.1.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Pin:
    """A name, and the parameters that it must accept.

    Attributes:
        module: that defines it.
        path: dotted, within the module.
        parameters: those that we pass; None if it is not a function.
    """

    module: str
    path: str
    parameters: tuple[str, ...] | None = None


_WORKER: Final = "prefect.workers.base"
_CLIENT: Final = "prefect.client.orchestration"

WORKER_PINS: Final = (
    Pin(_WORKER, "BaseWorker._submit_run", ("self", "flow_run")),
    Pin(_WORKER, "BaseWorker._propose_pending_state", ("self", "flow_run")),
    Pin(_WORKER, "BaseWorker._propose_crashed_state", ("self", "flow_run", "message")),
    Pin(_WORKER, "BaseWorker._release_limit_slot", ("self", "flow_run_id")),
    Pin(_WORKER, "BaseWorker._give_worker_labels_to_flow_run", ("self", "flow_run_id")),
    Pin(_WORKER, "BaseWorker._sync_and_initialize", ("self",)),
    Pin(_WORKER, "BaseWorker._submit_scheduled_flow_runs", ("self", "flow_run_response")),
    Pin(_WORKER, "BaseWorker.get_and_submit_flow_runs", ("self",)),
    Pin("prefect.workers.process", "ProcessWorker.run", ("self", "flow_run", "configuration", "task_status")),
    Pin("prefect.workers.process", "ProcessJobConfiguration.prepare_for_flow_run", ("self", "flow_run")),
)
"""What the dispatcher's worker overrides and calls."""

EXECUTOR_PINS: Final = (
    Pin("prefect.flow_engine", "observe_flow_run_suspension", ("flow_run_id", "suspension_request")),
    Pin("prefect.flow_engine", "run_flow", ("flow", "flow_run", "return_type")),
    Pin("prefect._internal.control_listener", "_set_intent", ("value",)),
    Pin("prefect.context", "SyncClientContext.__enter__", ("self",)),
    Pin("prefect.events.worker", "EventsWorker.instance", ()),
    Pin("prefect.logging.handlers", "APILogWorker.instance", ()),
    Pin(_CLIENT, "SyncPrefectClient.read_flow_run", ("self", "flow_run_id")),
    Pin(_CLIENT, "SyncPrefectClient.update_flow_run", ("self", "flow_run_id", "flow_version")),
    Pin(_CLIENT, "SyncPrefectClient.set_flow_run_name", ("self", "flow_run_id", "name")),
    Pin(
        "prefect.client.orchestration",
        "SyncPrefectClient.set_flow_run_state",
        ("self", "flow_run_id", "state", "force"),
    ),
    Pin(_CLIENT, "SyncPrefectClient.read_server_default_result_storage", ("self",)),
)
"""What executors call, and the methods of Prefect's client that they override."""

ATTRIBUTES: Final = (
    "_limiter",
    "_submitting_flow_run_ids",
    "_runs_task_group",
    "_work_pool",
    "_has_successfully_synced",
)
"""Attributes of a worker that the dispatcher reads or sets."""


def problems(pins: tuple[Pin, ...]) -> list[str]:
    """Return the deviations, one text each."""
    return [text for pin in pins if (text := _problem(pin))]


def missing_attributes(worker: object) -> list[str]:
    """Return the missing attributes of a worker, one text each."""
    return [f"{type(worker).__name__}.{name} is gone" for name in ATTRIBUTES if not hasattr(worker, name)]


def _problem(pin: Pin) -> str:
    try:
        found: object = importlib.import_module(pin.module)
        for part in pin.path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return f"{pin.module}.{pin.path} is gone"
    if pin.parameters is None or not callable(found):
        return ""
    taken = inspect.signature(found).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return ""
    lacking = [name for name in pin.parameters if name not in taken]
    return f"{pin.module}.{pin.path} does not take {', '.join(lacking)}" if lacking else ""
