"""What the server has set for our pool and queues, as far as a push depends on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server has set for our pool and queues.

    Attributes:
        pool_paused, pool_limited: of the work pool.
        any_limited: pool or one of our queues has a concurrency limit.
        open_queues: our queues that are neither paused nor limited.
    """

    pool_paused: bool
    pool_limited: bool
    any_limited: bool
    open_queues: frozenset[str]

    def why_not_pushed(self, queue: str) -> str:
        """Return why a run of a work queue must wait until the server gives it out; empty if it need not."""
        if self.pool_paused or self.pool_limited:
            return "the work pool is paused or has a limit"
        if queue not in self.open_queues:
            return f"the work queue {queue} is not ours, is paused, or has a limit"
        return ""


async def read_limits(client: PrefectClient, pool_name: str, queue_names: Collection[str]) -> Limits:
    """Return whether a work pool and some of its queues have limits or are paused.

    Raises:
        httpx.HTTPError, PrefectException: Prefect does not answer.
    """
    pool = await client.read_work_pool(pool_name)
    queues = await client.read_work_queues(work_pool_name=pool_name)
    ours = [queue for queue in queues if queue.name in queue_names]
    limited = {queue.name for queue in ours if queue.concurrency_limit is not None}
    paused = {queue.name for queue in ours if queue.is_paused}
    return Limits(
        pool_paused=pool.is_paused,
        pool_limited=pool.concurrency_limit is not None,
        any_limited=pool.concurrency_limit is not None or bool(limited),
        open_queues=frozenset(queue.name for queue in ours) - limited - paused,
    )
