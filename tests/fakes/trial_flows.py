"""Flows for testing the runner: each does in miniature what imports do to their process."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.web_download import web_download
from transship.domain.staged import Pace
from transship.stores import file as file_store


@task
def note(directory: str, name: str, text: str) -> None:
    """Leave a file for the test, created atomically."""
    part = Path(directory) / f".{name}"
    part.write_text(text)
    part.rename(Path(directory) / name)


@flow(name="trial-quick")
def quick(directory: str, name: str) -> State[Any]:
    """Record its process, and succeed."""
    note(directory, name, str(os.getpid()))
    return Completed(name="Imported", message=name)


@flow(name="trial-failing")
def failing(directory: str, name: str) -> State[Any]:
    """Record its process, and fail."""
    note(directory, name, str(os.getpid()))
    return Failed(message="as asked")


@flow(name="trial-held")
def held(directory: str, name: str, child: bool = False) -> State[Any]:
    """Run until the test lets it end, with a child process like a conversion."""
    started = subprocess.Popen(["sleep", "600"], start_new_session=True) if child else None
    try:
        note(directory, name, f"{os.getpid()} {started.pid if started else 0}")
        while not (Path(directory) / f"{name}.go").exists():
            time.sleep(0.05)
        return Completed(message="let go")
    finally:
        (Path(directory) / f"{name}.undone").touch()
        if started is not None:
            started.kill()
            started.wait()


@flow(name="trial-deaf")
def deaf(directory: str, name: str) -> State[Any]:
    """Run forever, ignoring signals."""
    note(directory, name, str(os.getpid()))
    while True:
        try:
            threading.Event().wait(3600)
        except BaseException:  # noqa: BLE001 - what is tried is a flow that does just that
            continue


@flow(name="trial-slow-store")
def slow_store(uri: str, disk_format: str, stores: list[str], directory: str) -> State[Any]:
    """Import as web-download does, into a file store that takes a second for each of many small pieces."""

    def slowly(source: int, target: int, size: int, step: Pace, _pace: Pace) -> None:
        os.ftruncate(target, size)
        for offset in range(0, size, 4096):
            (Path(directory) / "copying").touch()
            step(offset)
            os.copy_file_range(source, target, 4096, offset_src=offset, offset_dst=offset)
            time.sleep(1)

    file_store.copy_extents = slowly
    file_store.reflink = lambda *_: False
    file_store.FileStore._link = lambda *_: False  # type: ignore[method-assign]  # this process ends with the run
    state: State[Any] = web_download.fn(uri=uri, disk_format=disk_format, stores=stores)  # type: ignore[arg-type]
    return state


@flow(name="trial-segfault")
def segfault(directory: str, name: str) -> None:
    """Crash as a C library would."""
    note(directory, name, str(os.getpid()))
    ctypes.string_at(0)
