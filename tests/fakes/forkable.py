"""A component that the fork server forks: ``main`` tells who it is, and sleeps, or answers on its socket."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--say", default="")
    parser.add_argument("--socket", type=int, action="append")
    parser.add_argument("--exit", type=int)
    options = parser.parse_args()
    print("environment", os.environ.get("OF_COMPONENT"), os.environ.get("OF_FORK_SERVER"), flush=True)
    print("session", os.getsid(0) == os.getpid(), "in", os.getcwd(), flush=True)
    print("signals", signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
    handlers = [len(logging.getLogger(name).handlers) for name in ("uvicorn", "prefect.extra")]
    print("handlers", handlers, logging.getLogger("uvicorn").propagate, flush=True)
    print("imported", "tests.fakes.forkable" in sys.modules, "parent", os.getppid(), flush=True)
    print(options.say, os.getpid(), flush=True)
    if options.exit is not None:
        return options.exit
    for number in options.socket or ():
        connection, _ = socket.socket(fileno=number).accept()
        connection.sendall(b"forked")
        connection.close()
    signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
