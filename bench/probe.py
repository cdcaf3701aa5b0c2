"""Records the statements of a running system's processes to the catalogue, and which of our functions read and write.

`bench.economy` installs it through a `sitecustomize` in every process of the system that it starts. It is loaded as a
file before any module of the product, so it imports none of them.
"""

from __future__ import annotations

import fcntl
import importlib.abc
import importlib.util
import inspect
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

SITECUSTOMIZE: Final = """import os, runpy
runpy.run_path(os.environ["PROBE_FILE"])["install"]()
"""

READS: Final = ("recv", "recv_into")
WRITES: Final = ("write", "pwrite", "writev", "pwritev", "sendfile", "copy_file_range", "splice")
"""Functions of `os` that write to the file descriptor in their first or second argument."""

Record = Callable[[str, Sequence[str]], None]
"""Called with ``read`` or ``write``, and our own frames at the call, outermost first."""


def install() -> None:
    """Record the activity of this process and its forks in the directory named in ``PROBE_RECORDS``.

    ``statements-<pid>`` gets a line per statement, ``frames-<what>-<pid>`` our own frames at the deepest call.
    """
    records = Path(os.environ["PROBE_RECORDS"])
    tree, store = Path(os.environ["PROBE_TREE"]), Path(os.environ["PROBE_STORE"])
    deepest: dict[str, int] = {}

    def record(what: str, frames: Sequence[str]) -> None:
        if len(frames) > deepest.get(what, 0):
            deepest[what] = len(frames)
            (records / f"frames-{what}-{os.getpid()}").write_text("\n".join(frames))

    watch_reads(tree, int(os.environ["PROBE_SOURCE_PORT"]), record)
    watch_writes(tree, store, record)
    sys.meta_path.insert(0, AfterSqlAlchemy(Statements(records, os.environ["PROBE_CATALOGUE"]).listen))


class Statements:
    """Records the statements of a catalogue's engines, and no other engine's.

    Args:
        catalogue: end of the database's name.
    """

    def __init__(self, records: Path, catalogue: str) -> None:
        self._records, self._catalogue = records, catalogue
        self._files: dict[int, int] = {}
        self._write = os.write

    def listen(self) -> None:
        """Start recording."""
        from sqlalchemy import Engine, event  # noqa: PLC0415  # it has just been imported

        event.listen(Engine, "before_cursor_execute", self._before)

    def _before(self, connection: Any, _cursor: object, statement: str, *_rest: object) -> None:
        if not str(connection.engine.url.database).endswith(self._catalogue):
            return
        pid = os.getpid()
        if pid not in self._files:  # a fork starts its own file
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._files[pid] = os.open(self._records / f"statements-{pid}", flags, 0o600)
        self._write(self._files[pid], f"{time.time():.6f} {' '.join(statement.split())}\n".encode())


class AfterSqlAlchemy(importlib.abc.MetaPathFinder):
    """Calls a function once SQLAlchemy has been imported."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return SQLAlchemy's spec with the call added; None for other modules."""
        if name != "sqlalchemy":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            self._act()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch_reads(tree: Path, source_port: int, record: Record) -> None:
    """Record which functions read from a source, for the rest of this process's life."""

    def watched(name: str) -> Callable[..., Any]:
        read = getattr(socket.socket, name)

        def reading(self: socket.socket, *arguments: Any, **options: Any) -> Any:
            if _peer_port(self) == source_port:
                record("read", own_frames(inspect.currentframe(), tree))
            return read(self, *arguments, **options)

        return reading

    for name in READS:
        setattr(socket.socket, name, watched(name))


def watch_writes(tree: Path, store: Path, record: Record) -> None:
    """Record which functions write to files of a store, for the rest of this process's life."""

    def watched(module: ModuleType, name: str) -> Callable[..., Any]:
        act = getattr(module, name)

        def acting(*arguments: Any, **options: Any) -> Any:
            if any(_is_in(store, each) for each in arguments[:2]):
                record("write", own_frames(inspect.currentframe(), tree))
            return act(*arguments, **options)

        return acting

    for module, name in [*((os, name) for name in WRITES), (fcntl, "ioctl")]:
        setattr(module, name, watched(module, name))


def own_frames(frame: FrameType | None, tree: Path) -> list[str]:
    """Return file and function of the frames of a checkout's own code, outermost first."""
    found = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(tree) and path.relative_to(tree).parts[0] in ROOMS:
            found.append(f"{path.relative_to(tree)}:{frame.f_code.co_name}")
        frame = frame.f_back
    return found[::-1]


ROOMS: Final = ("transship", "flows", "tasks", "blocks", "config", "deployments")
"""The installed packages of a checkout."""


def below_the_task(frames: Sequence[str]) -> list[str]:
    """Return the frames below the Prefect task's function; all frames in a separate thread."""
    # Prefect calls `tasks/steps.py`, which calls the task's function and turns its outcome into a state.
    own = (number for number, frame in enumerate(frames) if frame.startswith("tasks/") and "/steps.py:" not in frame)
    first = next(own, -1)
    return list(frames[first + 1 :])


def _peer_port(connection: socket.socket) -> int:
    try:
        peer = connection.getpeername()
    except OSError:
        return 0
    return int(peer[1]) if isinstance(peer, tuple) else 0


def _is_in(store: Path, target: object) -> bool:
    if not isinstance(target, int) or target < 3:
        return False
    try:
        path = Path(os.readlink(f"/proc/self/fd/{target}"))
    except OSError:
        return False
    # Names with a leading dot are not images: the store's mark, the files of a check.
    return path.parent == store and not path.name.startswith(".")
