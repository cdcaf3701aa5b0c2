"""Whose import is begun next, when not all can be: projects take turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """An import that waits to be handed to the workers.

    Attributes:
        key: what tells it from others; smaller ones were asked for earlier.
        project: who asked; empty without an identity service.
    """

    key: int
    project: str


def project_share(slots: int, wanted: int, *, told_apart: bool) -> int:
    """Return how many imports of one project may be under way at the same time; 0: as many as there are.

    By default one worker slot stays free of each project, so that another one's import begins at once.

    Args:
        slots: imports that all live workers together carry.
        wanted: limit that the operator set; 0: none.
        told_apart: projects can be told apart. Where they cannot, everybody is one project, and no other can come.
    """
    if wanted:
        return wanted
    return max(1, slots - 1) if told_apart else 0


def next_turns(
    waiting: Sequence[Waiting], carried: Mapping[str, int], *, room: int, limit_per_project: int
) -> tuple[int, ...]:
    """Return the keys of the imports whose turn it is, in order.

    The project that has the least under way goes first, and of its imports the oldest; so one that asks for a
    thousand imports keeps nobody waiting for longer than a turn.

    Args:
        waiting: everything that waits.
        carried: running imports, by project.
        room: how many may be handed over.
        limit_per_project: most imports of one project under way; 0: no limit.
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
