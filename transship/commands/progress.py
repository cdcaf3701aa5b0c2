"""Show the progress of an import: live bars on a terminal, a line per change elsewhere."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from transship.commands.images_api import TaskView
from transship.domain.errors import human_size
from transship.domain.task import StoreProgress

if TYPE_CHECKING:
    from rich.progress import TaskID


class ProgressView(ABC):
    """Shows an import for the duration of a block."""

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - lines need no end
        """End."""

    @abstractmethod
    def show(self, task: TaskView) -> None:
        """Show the state of the import; cheap to call often."""


def progress_view() -> ProgressView:
    """Return the view for standard output."""
    return LiveView() if sys.stdout.isatty() else LineView()


def phase_line(task: TaskView) -> str:
    """Return one line about an import: the task's message or, without one, phase, bytes, rate and time left."""
    if task.message:
        return task.message
    if not task.phase:
        return "waiting for a worker" if task.status == "pending" else task.status
    return ", ".join([task.phase, *_how_far(task.done_bytes, task.total_bytes, task.rate)])


def _how_far(done_bytes: int, total_bytes: int, rate: int) -> list[str]:
    words = []
    if total_bytes:
        words.append(f"{100 * done_bytes // total_bytes}% of {human_size(total_bytes)}")
    elif done_bytes:
        words.append(human_size(done_bytes))
    if rate:
        words.append(f"{human_size(rate)}/s")
        left_bytes = total_bytes - done_bytes
        if left_bytes > 0:
            words.append(f"{left_bytes // rate + 1} s left")
    return words


def _hashes(task: TaskView) -> bool:
    """Return whether copies are written, each with progress of its own, and digests are computed beside them."""
    return task.phase == "place" and task.to_hash_bytes > 0


class LineView(ProgressView):
    """Prints a line when the phase changes and after each tenth of it, and the same for each store."""

    def __init__(self) -> None:
        self._shown: tuple[str, str, int, str] = ("", "", -1, "")
        self._stores: dict[str, tuple[str, int]] = {}

    def show(self, task: TaskView) -> None:
        """Print a line if there is something new to say."""
        done_bytes, total_bytes = task.done_bytes, task.total_bytes
        if _hashes(task):
            done_bytes, total_bytes = task.hashed_bytes, task.to_hash_bytes
        tenth = 10 * done_bytes // total_bytes if total_bytes else 0
        state = (task.status, task.phase, tenth, task.waits)
        if state != self._shown and not task.final:
            self._shown = state
            print(phase_line(task), flush=True)
        for store in task.stores:
            told = (store.phase, 10 * store.done_bytes // store.total_bytes if store.total_bytes else 0)
            if told != self._stores.get(store.store) and store.phase != "waiting":
                print(store_line(store), flush=True)
            self._stores[store.store] = told


class LiveView(ProgressView):
    """Draws one bar for the phase and one for each store in place."""

    def __init__(self) -> None:
        # Importing rich takes a tenth of a second, so it is only done if there are bars.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[how_far]}", markup=False),
            console=Console(highlight=False),
        )
        self._bars: dict[str, TaskID] = {}
        self._phase = ""

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()

    def show(self, task: TaskView) -> None:
        """Draw the state of the import."""
        if task.final:
            return
        if task.waits:
            self._draw("phase", task.waits, 0, 0, 0)
        elif _hashes(task):
            self._draw("phase", "digest", task.hashed_bytes, task.to_hash_bytes, task.hash_rate)
        elif task.phase == "place":
            self._draw("phase", "place", 0, 0, 0)
        else:
            self._draw("phase", task.phase or phase_line(task), task.done_bytes, task.total_bytes, task.rate)
        for store in task.stores:
            if store.phase != "waiting":
                self._draw(f"store {store.store}", _store_name(store), store.done_bytes, store.total_bytes, store.rate)

    def _draw(self, key: str, description: str, done_bytes: int, total_bytes: int, rate: int) -> None:
        bar = self._bars.get(key)
        if bar is not None and key == "phase" and description != self._phase:
            # A bar that has a total cannot lose it.
            self._progress.remove_task(bar)
            bar = None
        if key == "phase":
            self._phase = description
        if bar is None:
            bar = self._bars[key] = self._progress.add_task(description, total=None, how_far="")
        words = _how_far(done_bytes, total_bytes, rate) if done_bytes else []
        self._progress.update(
            bar, description=description, completed=done_bytes, total=total_bytes or None, how_far=", ".join(words)
        )


def store_line(store: StoreProgress) -> str:
    """Return one line about a store: what it does, bytes, rate, time left."""
    moves = store.phase == "uploading" and store.total_bytes
    return ", ".join(
        [_store_name(store), *(_how_far(store.done_bytes, store.total_bytes, store.rate) if moves else [])]
    )


def _store_name(store: StoreProgress) -> str:
    return f"store {store.store}: {store.error or store.phase}"
