"""Which import starts next when not all can: projects take turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """An import that waits to be dispatched.

    Attributes:
        key: identifies it; a smaller key was requested earlier.
        project: of the caller; empty without an identity service.
    """

    key: int
    project: str


def project_share(slots: int, wanted: int, *, projects_known: bool) -> int:
    """Return how many imports of one project may run at the same time; 0: no limit.

    By default a project may use all worker slots but one, so another project's import starts at once.

    Args:
        slots: number of imports that all live workers together can run.
        wanted: limit set by the operator; 0: none.
        projects_known: whether projects are known. Without an identity service all callers are one project.
    """
    if wanted:
        return wanted
    return max(1, slots - 1) if projects_known else 0


def next_turns(
    waiting: Sequence[Waiting], carried: Mapping[str, int], *, room: int, limit_per_project: int
) -> tuple[int, ...]:
    """Return the keys of the imports whose turn it is, in order.

    The project with the fewest running imports goes next, oldest import first. So a project that requests a
    thousand imports delays others by no more than one turn.

    Args:
        waiting: all waiting imports.
        carried: number of running imports by project.
        room: how many may be dispatched.
        limit_per_project: most running imports per project; 0: no limit.
    """
    queues: dict[str, list[int]] = {}
    for one in sorted(waiting, key=lambda one: one.key, reverse=True):
        queues.setdefault(one.project, []).append(one.key)
    load = Counter(carried)
    turns: list[int] = []
    while len(turns) < room:
        ready = [name for name in queues if not limit_per_project or load[name] < limit_per_project]
        if not ready:
            break
        name = min(ready, key=lambda project: (load[project], queues[project][-1]))
        turns.append(queues[name].pop())
        load[name] += 1
        if not queues[name]:
            del queues[name]
    return tuple(turns)
