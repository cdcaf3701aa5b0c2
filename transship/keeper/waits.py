"""Why an import has not begun: what it waits for, since when, and what ends the wait. Pure decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transship.catalog.hosts import Host
from transship.catalog.unfinished_imports import WaitingImport
from transship.domain.task import WAITS_FOR, wait_text


@dataclass(frozen=True, slots=True)
class Queue:
    """A work queue of Prefect.

    Attributes:
        limit: most runs of it at the same time; None: no limit.
    """

    paused: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """The Prefect work pool for imports.

    Attributes:
        limit: most runs of it at the same time; None: no limit.
        queues: by name.
    """

    name: str
    paused: bool = False
    limit: int | None = None
    queues: Mapping[str, Queue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Situation:
    """The conditions that decide whether an import can begin.

    Attributes:
        away: why Prefect cannot be reached; empty when it answers.
        pool: None when Prefect does not answer or has no such pool.
        pool_name: its name in the settings.
        hosts: all hosts in the catalogue.
        running: imports that hold a worker slot.
        share: most running imports per project; 0: no limit.
    """

    away: str
    pool: Pool | None
    pool_name: str
    hosts: Sequence[Host]
    running: int
    share: int

    @property
    def slots(self) -> int:
        """Number of imports that all live workers together can run."""
        return sum(host.slots for host in self.hosts if host.alive)


def explain(wait: WaitingImport, queue: str, now: Situation) -> str:
    """Return the message of an import that has not begun.

    The message of a resumed import starts with the reason why it was resumed.

    Args:
        queue: work queue of its run.
    """
    what, remedy = _cause(wait, queue, now)
    said, found, _ = wait.message.partition(WAITS_FOR)
    before = said if found or not said else f"{said} and "
    return before + wait_text(what, wait.since, remedy)


def _cause(wait: WaitingImport, queue: str, now: Situation) -> tuple[str, str]:
    holder = next((host for host in now.hosts if host.name == wait.host), None)
    if wait.host and (holder is None or not holder.alive):
        return _lost_host(wait.host, holder)
    reason = now.away or ("" if wait.dispatched else wait.dispatch_error)
    if reason:
        return "Prefect", f"it starts when Prefect is back. {reason}"
    if not wait.dispatched:
        return _turn(now.share)
    return _blocked(queue, now) or _no_slot(now)


def _lost_host(name: str, host: Host | None) -> tuple[str, str]:
    heard = "was never seen"
    if host is not None and host.heard_at is not None:
        heard = f"was last seen at {host.heard_at:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"host {name}, which holds the uploaded data and {heard},",
        "it continues when the worker of that host runs again; to start over, delete the image and upload it again",
    )


def _turn(share: int) -> tuple[str, str]:
    others = f", or until its project has fewer than {share} running imports" if share else ""
    return "its turn", f"it starts when a worker is free{others}"


def _blocked(queue: str, now: Situation) -> tuple[str, str] | None:
    """Return what blocks every run of a queue in Prefect, and what ends that; None if nothing does."""
    pool = now.pool
    if pool is None:
        return (
            f"work pool {now.pool_name}",
            "Prefect has no pool of that name; the operator creates it: 'transship deploy'",
        )
    own = pool.queues.get(queue, Queue())
    if pool.paused:
        return f"work pool {pool.name}", "it is paused in Prefect; the operator can resume it there"
    if own.paused:
        return f"work queue {queue}", "it is paused in Prefect; the operator can resume it there"
    if pool.limit is not None and now.running >= pool.limit:
        return (
            f"work pool {pool.name}",
            f"its limit in Prefect is {pool.limit} runs; it continues when another import ends",
        )
    if own.limit is not None and now.running >= own.limit:
        return f"work queue {queue}", f"its limit in Prefect is {own.limit} runs; it continues when another import ends"
    return None


def _no_slot(now: Situation) -> tuple[str, str]:
    if not any(host.alive and host.slots for host in now.hosts):
        return "a worker", "none runs; the operator starts one: 'transship up' or 'transship worker'"
    if now.running >= now.slots:
        return "a worker slot", f"all {now.slots} are in use; it starts when another import ends"
    return "a worker to begin it", "it starts automatically; if it does not, the worker's log tells the operator why"
