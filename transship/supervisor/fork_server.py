"""``python -m transship.supervisor.fork_server --socket=NUMBER``: import what components need, once, and fork them.

Components that share most of their modules need only one import, and share its memory. Each becomes a child of the
supervisor before it begins, so the end of this process does not affect the others.
It has one thread and never opens a connection. It ends when the supervisor closes its socket.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, NoReturn, Self

from transship.host.processes import end_with_parent, name_process, threads

REQUEST_BYTES: Final = 128 * 1024
"""Largest request, most of which is an environment."""

ADOPTION_S: Final = 0.001
"""Seconds between checks whether the supervisor has become the parent."""

REGISTERED: Final = b"+"
"""The supervisor knows the component's pid."""


@dataclass(frozen=True, slots=True)
class Request:
    """Import modules and, unless `module` is empty, fork a component.

    Passed along are the descriptors of a channel, of the component's output, and of its listening sockets. The
    component's pid is sent on the channel, or the channel is closed; after `REGISTERED` the component begins.

    Attributes:
        imports: modules to import first. If one cannot be imported, the component reports why.
        module: as for ``python -m``; its ``main()`` is called, and returns the exit status.
        arguments: of the module.
        environment: the component's complete environment.
        directory: its working directory.
        name: its name.
        parent: pid of the supervisor.
    """

    imports: tuple[str, ...]
    module: str = ""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    directory: str = ""
    name: str = ""
    parent: int = 0

    def encode(self) -> bytes:
        """Return the request as one datagram."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Return the request in a datagram."""
        return cls(**json.loads(raw))


def main() -> int:
    """Serve the supervisor; return the exit status of the fork server or, in a forked process, of the component."""
    parser = argparse.ArgumentParser(description="Fork the components of a supervisor.")
    parser.add_argument(
        "--socket", type=int, required=True, metavar="NUMBER", help="inherited socket to the supervisor"
    )
    # The supervisor handles Ctrl-C of a terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What imports make stays: looking for garbage among it costs a tenth of their time.
    gc.disable()
    component = _serve(socket.socket(fileno=parser.parse_args().socket))
    return _run(component) if component is not None else 0


def _serve(control: socket.socket) -> Request | None:
    """Import and fork on request until the supervisor closes the socket; in a component return its request."""
    while True:
        raw, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 8)
        if not raw:
            return None
        request = Request.decode(raw)
        for name in request.imports:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        if request.module and _fork(request, descriptors):
            control.close()
            return request
        for each in descriptors:
            os.close(each)


def _fork(request: Request, descriptors: Sequence[int]) -> bool:
    """Fork a component; return whether this process is it. Without one, the channel is closed unused."""
    if threads():
        return False
    gc.collect()
    # What exists now is never collected, so that a collection in a component does not copy its pages.
    gc.freeze()
    with contextlib.suppress(OSError):
        between = os.fork()
        if between:
            os.waitpid(between, 0)
        else:
            return _hand_over(request, descriptors)
    return False


def _hand_over(request: Request, descriptors: Sequence[int]) -> bool:
    """Fork the component from an intermediate process, whose end makes the supervisor the component's parent."""
    between = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os._exit(1)
    if pid:
        _vouch_for(pid, descriptors[0])
    _begin(request, between, descriptors)
    return True


def _vouch_for(pid: int, channel: int) -> NoReturn:
    try:
        with socket.socket(fileno=channel) as supervisor:
            supervisor.send(str(pid).encode())
            registered = supervisor.recv(1) == REGISTERED
    except OSError:
        registered = False
    if not registered:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _begin(request: Request, between: int, descriptors: Sequence[int]) -> None:
    """Set up this process like a started command: session, signals, descriptors, directory, environment."""
    os.setsid()
    while os.getppid() == between:
        time.sleep(ADOPTION_S)
    end_with_parent()
    if os.getppid() != request.parent:
        os._exit(1)
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel, output, *listening = descriptors
    for number in (1, 2):
        os.dup2(output, number)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for each in (channel, output, null):
        os.close(each)
    for each in listening:
        os.set_inheritable(each, False)
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment or {})
    name_process(request.name)
    sys.argv = [request.module, *request.arguments, *(f"--socket={each}" for each in listening)]


def _run(component: Request) -> int:
    _adapt_prefect()
    module = importlib.import_module(component.module)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{component.module}.__main__")
    return int(module.main())


def _adapt_prefect() -> None:
    """Let Prefect take its settings, which it reads when it is imported, from the environment of now.

    A component that is given no home for Prefect does not use it, and gets the loggers that it would have without.
    """
    if "prefect" not in sys.modules:
        return
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - only where it is there already
    from prefect.logging import configuration  # noqa: PLC0415

    if "PREFECT_HOME" in os.environ:
        refresh_global_settings_context()
        configuration.PROCESS_LOGGING_CONFIG.clear()
        configuration.setup_logging()
        return
    for name in configuration.PROCESS_LOGGING_CONFIG.get("loggers", ()):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main())
