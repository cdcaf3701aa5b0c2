"""An import in a separate process that dies, or stops, at a given step.

A step is what others can see: each transaction that writes the catalogue, each single statement and each change of a
directory. The process is struck just before it, when all that is asked first has been asked; the moment after it is the
one before the next. The flows are the product's own; only Prefect's engine is left out: its tasks are called where they
stand, one after the other, so the steps have the same numbers each time. The process is a fork, so one that dies costs
no start of an interpreter.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from prefect import Flow
from prefect.exceptions import Abort

from flows import copy_image, copying, glance_direct, glance_download, location_import, pipeline, web_download
from tasks import stores
from tasks.steps import Step
from transship.catalog.engine import Catalog
from transship.domain.errors import TransshipError

LIMIT_S: Final = 3000
"""A process that hangs is killed after so many seconds; no test waits for it."""

Transaction = Callable[[Catalog], AbstractContextManager[Any]]

FLOWS: Final[Mapping[str, Flow[..., Any]]] = {
    "copy-image": copy_image.copy_image,
    "glance-direct": glance_direct.glance_direct,
    "glance-download": glance_download.glance_download,
    "location-import": location_import.location_import,
    "web-download": web_download.web_download,
}


@dataclass(frozen=True)
class Ended:
    """How a process ended, or stopped.

    Attributes:
        step: name of the step at which it died or stands still; empty when it came to its own end.
        pid: of the process.
    """

    step: str
    pid: int


class Steps:
    """Count the steps of this process; do something at one of them."""

    def __init__(self, at: int, act: Callable[[str], None]) -> None:
        self._at, self._act, self._count = at, act, 0

    def pass_by(self, name: str) -> None:
        self._count += 1
        if self._count - 1 == self._at:
            self._act(name)

    def watch(self) -> None:
        """Make everything visible from outside a step; this is permanent, so use it only in a separate process."""
        for transaction in ("write", "statement"):
            setattr(Catalog, transaction, self._stepped_transaction(getattr(Catalog, transaction)))
        for change in ("link", "rename", "unlink"):
            setattr(os, change, self._stepped(getattr(os, change), change))

    def _stepped_transaction(self, begin: Transaction) -> Transaction:
        @contextmanager
        def stepped(catalog: Catalog) -> Iterator[Any]:
            name = _caller()
            if name in UNSEEN:
                with BESIDE, begin(catalog) as connection:
                    yield connection
                return
            self.pass_by(name)
            with begin(catalog) as connection:
                yield connection

        return stepped

    def _stepped(self, change: Callable[..., Any], name: str) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            self.pass_by(f"{name} in {_caller()}")
            return change(*arguments, **options)

        return stepped


BESIDE: Final = threading.Lock()
"""Held while such a thread writes: a process that stood still in the middle would keep the database to itself."""

UNSEEN: Final = ("renew_lease", "_write_row")
"""Writers of threads that come whenever they come: the count of steps must be the same each time."""


def _caller() -> str:
    """Return our function that uses the catalogue or a directory."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.endswith(("contextlib.py", "pathlib.py")):
        frame = frame.f_back
    return frame.f_code.co_name


class CalledHere:
    """A Prefect task without Prefect: called, or submitted, it runs at once."""

    def __init__(self, step: Step[..., Any]) -> None:
        self._step = step

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._step.fn(*arguments, **options).value

    def submit(self, *arguments: Any, **options: Any) -> Outcome:
        try:
            return Outcome(self(*arguments, **options))
        except TransshipError as error:
            return Outcome(error)


@dataclass(frozen=True, eq=False)
class Outcome:
    """The future of an ended task, which is also its state."""

    value: Any

    @property
    def state(self) -> Self:
        return self

    def wait(self) -> None:
        """Return at once."""

    def result(self, *, raise_on_failure: bool = True) -> Any:
        if raise_on_failure and isinstance(self.value, BaseException):
            raise self.value
        return self.value


@dataclass(frozen=True)
class AllDone:
    """What `prefect.futures.wait` returns when everything has ended."""

    done: set[Outcome]


def _leave_prefect_out() -> None:
    for room in (copy_image, copying, glance_direct, glance_download, location_import, pipeline, web_download):
        for name, value in list(vars(room).items()):
            if isinstance(value, Step):
                setattr(room, name, CalledHere(value))
    stores.load_settings_of = lambda _store, configured: configured  # type: ignore[attr-defined]  # no block
    copying.as_completed = iter  # type: ignore[assignment]  # they all have
    copying.wait = _wait  # type: ignore[assignment]  # for nothing


def _wait(futures: Iterable[Outcome], **_options: object) -> AllDone:
    return AllDone(set(futures))


def import_in_a_process(
    method: str, parameters: Mapping[str, Any], flow_run_id: str, *, at: int = -1, stop: bool = False
) -> Ended:
    """Carry an import in a process of its own, with the settings of this process's environment.

    Args:
        parameters: of its flow run.
        at: number of the step at which it dies; negative: at none.
        stop: it stands still there instead, until `go_on`.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_the_process(method, parameters, flow_run_id, at, writing, stop=stop)
    os.close(writing)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        step = os.read(reading, 4096).decode()
        os.close(reading)
        return Ended(step, pid)
    with open(reading) as said:
        step = said.read()
    assert os.WIFSIGNALED(status) == bool(step), (status, step)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the process failed; see its trace"
    return Ended(step, pid)


def go_on(stopped: Ended) -> None:
    """Let a stopped process run to its end."""
    os.kill(stopped.pid, signal.SIGCONT)
    _, status = os.waitpid(stopped.pid, 0)
    assert os.WIFEXITED(status), status
    assert os.WEXITSTATUS(status) == 0, f"it failed after {stopped.step}"


def _be_the_process(
    method: str, parameters: Mapping[str, Any], flow_run_id: str, at: int, report: int, *, stop: bool
) -> None:
    signal.alarm(LIMIT_S)

    def act(name: str) -> None:
        os.write(report, name.encode())
        with BESIDE:
            os.kill(os.getpid(), signal.SIGSTOP if stop else signal.SIGKILL)

    code = 0
    try:
        os.environ["PREFECT__FLOW_RUN_ID"] = flow_run_id
        _leave_prefect_out()
        steps = Steps(at, act)
        steps.watch()
        # Prefect hears nothing of an attempt whose import another one has taken.
        with suppress(Abort):
            FLOWS[method].fn(**parameters)
        steps.pass_by("end")
    except BaseException:  # noqa: BLE001 - told by the exit code
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)
