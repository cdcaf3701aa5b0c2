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
    words = [task.phase]
    if task.total_bytes:
        percent = 100 * task.done_bytes // task.total_bytes
        words.append(f"{percent}% of {human_size(task.total_bytes)}")
    elif task.done_bytes:
        words.append(human_size(task.done_bytes))
    if task.rate:
        words.append(f"{human_size(task.rate)}/s")
        left_bytes = task.total_bytes - task.done_bytes
        if left_bytes > 0:
            words.append(f"{left_bytes // task.rate + 1} s left")
    return ", ".join(words)


class LineView(ProgressView):
    """Prints a line when the phase changes and after each tenth of it, and the same for each store."""

    def __init__(self) -> None:
        self._shown: tuple[str, str, int, str] = ("", "", -1, "")
        self._stores: dict[str, tuple[str, int]] = {}

    def show(self, task: TaskView) -> None:
        """Print a line if there is something new to say."""
        tenth = 10 * task.done_bytes // task.total_bytes if task.total_bytes else 0
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
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
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
        self._draw("phase", task.waits or task.phase or phase_line(task), task.done_bytes, task.total_bytes)
        for store in task.stores:
            if store.phase != "waiting":
                self._draw(f"store {store.store}", _store_name(store), store.done_bytes, store.total_bytes)

    def _draw(self, key: str, description: str, done_bytes: int, total_bytes: int) -> None:
        bar = self._bars.get(key)
        if bar is not None and key == "phase" and description != self._phase:
            # A new phase has its own rate and end.
            self._progress.remove_task(bar)
            bar = None
        if key == "phase":
            self._phase = description
        if bar is None:
            bar = self._bars[key] = self._progress.add_task(description, total=total_bytes or None)
        self._progress.update(bar, description=description, completed=done_bytes, total=total_bytes or None)


def store_line(store: StoreProgress) -> str:
    """Return one line about a store: what it does, bytes, rate, time left."""
    words = [_store_name(store)]
    if store.phase == "uploading" and store.total_bytes:
        words.append(f"{100 * store.done_bytes // store.total_bytes}% of {human_size(store.total_bytes)}")
        words += [f"{human_size(store.rate)}/s"] if store.rate else []
        words += [f"{store.left_s} s left"] if store.left_s else []
    return ", ".join(words)


def _store_name(store: StoreProgress) -> str:
    return f"store {store.store}: {store.error or store.phase}"
