"""Run an external program under limits: CPU, memory, file size, time, and the import's stop token.

The program runs in its own session, dies with this process, and has a minimal environment and no terminal.
When the call returns or raises, the program has ended and been reaped.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from transship.domain.stop import StopToken

STOP_LOOK_S: Final = 0.1
"""How long a program may run on after its import was stopped."""

KEPT_BYTES: Final = 4 * 1024 * 1024
"""Most output of a program that is kept; a program that prints more is killed."""

_STACK_BYTES: Final = 2 * 1024 * 1024
"""Stack per thread; the default 8 MiB would fill the address space of a program with many threads."""

_OPEN_FILES: Final = 256
_TOOLS: Final = ("setpriv", "prlimit")
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    # Each arena of the allocator reserves 64 MiB of address space, and each thread may open one.
    "MALLOC_ARENA_MAX": "2",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a program.

    Attributes:
        cpu_s: CPU seconds.
        memory_bytes: address space.
        file_bytes: length of any file that it writes; 0: it must not write files.
        wall_s: seconds until it is killed.
    """

    cpu_s: int
    memory_bytes: int
    file_bytes: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    Attributes:
        code: its exit code; a negative number names the signal that ended it.
        stdout, stderr: what it printed, at most `KEPT_BYTES` each.
        cut_short: why it was killed; empty if it was not.
    """

    code: int
    stdout: bytes
    stderr: bytes
    cut_short: str = ""


def missing_tools() -> tuple[str, ...]:
    """Return the missing programs that set limits; they come with util-linux."""
    return tuple(tool for tool in _TOOLS if shutil.which(tool, path=_ENVIRONMENT["PATH"]) is None)


def run_limited(
    command: Sequence[str], limits: Limits, stop: StopToken, on_stdout: Callable[[bytes], None] | None = None
) -> Finished:
    """Run a program to its end.

    Args:
        command: absolute path of the program, and its arguments.
        limits: what it may use.
        stop: checked ten times a second; when it raises, the program has been killed.
        on_stdout: called with the program's output as it arrives; None: it is kept.

    Raises:
        LockLost, ImportStopped: the import must end.
        OSError: the program could not be started.
    """
    with subprocess.Popen(
        [*_limited(limits), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    ) as child:
        try:
            return _follow(child, limits, stop, on_stdout)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


def _limited(limits: Limits) -> list[str]:
    return [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        "prlimit",
        f"--cpu={limits.cpu_s}:{limits.cpu_s + 1}",
        f"--as={limits.memory_bytes}",
        f"--fsize={limits.file_bytes}",
        f"--stack={_STACK_BYTES}",
        f"--nofile={_OPEN_FILES}",
        "--core=0",
        "--",
    ]


def _follow(
    child: subprocess.Popen[bytes], limits: Limits, stop: StopToken, on_stdout: Callable[[bytes], None] | None
) -> Finished:
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    deadline = time.monotonic() + limits.wall_s
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("stdout", child.stdout), ("stderr", child.stderr)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, name)
        while selector.get_map() or child.poll() is None:
            stop.check()
            if time.monotonic() > deadline:
                return _ended(child, kept, f"it took longer than {limits.wall_s:g} s")
            if not selector.get_map():
                stop.wait(STOP_LOOK_S)
                continue
            for key, _ in selector.select(STOP_LOOK_S):
                data = os.read(key.fd, 64 * 1024)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.data == "stdout" and on_stdout is not None:
                    on_stdout(data)
                else:
                    kept[key.data] += data
            if any(len(text) > KEPT_BYTES for text in kept.values()):
                return _ended(child, kept, "it printed more than can be made use of")
    return _ended(child, kept, "")


def _ended(child: subprocess.Popen[bytes], kept: dict[str, bytearray], cut_short: str) -> Finished:
    if cut_short:
        os.killpg(child.pid, signal.SIGKILL)
    code = child.wait()
    return Finished(code, bytes(kept["stdout"][:KEPT_BYTES]), bytes(kept["stderr"][:KEPT_BYTES]), cut_short)
