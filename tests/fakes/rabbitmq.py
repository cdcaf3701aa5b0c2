"""A real RabbitMQ on loopback, with a node, a cookie, a port mapper and a directory of its own."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import amqp

from tests.fakes.ending import end
from tests.fakes.ports import free_port

START_TIMEOUT_S = 540.0
STOP_TIMEOUT_S = 60.0
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
EXCHANGE = "glance"
USER = "transship"


def rabbitmq_is_installed() -> bool:
    """Return whether Debian's rabbitmq-server and Erlang's port mapper are here."""
    return PROGRAM.exists() and shutil.which("epmd") is not None


class RabbitServer:
    """Start a broker on entering and stop it on leaving; a new one needs about 10 seconds.

    Attributes:
        port: on 127.0.0.1; stays over a restart.
    """

    def __init__(self) -> None:
        self._password = secrets.token_hex(16)
        self._directory = Path()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None
        self.port, self._distribution_port, self._epmd_port = (free_port() for _ in range(3))

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        try:
            self._prepare()
            self._epmd = self._run("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1")
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def transport_url(self) -> str:
        """The URL in oslo.messaging's form."""
        return f"rabbit://{USER}:{self._password}@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start the broker on its former port, and wait until it accepts clients."""
        self._node = self._run(str(PROGRAM))
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                self.connect().close()
            except (OSError, amqp.AMQPError) as refusal:
                last = refusal
            else:
                return
            try:
                self._node.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError(f"RabbitMQ does not start ({last!r}):\n{self._log()}")

    def stop(self) -> None:
        """Stop the broker as a reboot would, losing what is not durable."""
        node, self._node = self._node, None
        end(node, STOP_TIMEOUT_S)

    def connect(self) -> amqp.Connection:
        """Return a connection of a client."""
        connection = amqp.Connection(
            f"127.0.0.1:{self.port}", USER, self._password, connect_timeout=60, read_timeout=60
        )
        connection.connect()
        return connection

    def _prepare(self) -> None:
        """Write what the node reads at its start; RabbitMQ refuses a cookie that others may read."""
        cookie = self._directory / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o600)
        (self._directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            f"default_user = {USER}\ndefault_pass = {self._password}\nlog.console = true\nlog.file = false\n"
        )
        (self._directory / "enabled_plugins").write_text("[].\n")
        if os.geteuid() == 0:
            account = _account()
            for path in (self._directory, *self._directory.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)

    @property
    def _environment(self) -> Mapping[str, str]:
        directory = str(self._directory)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": directory,
            # The program then becomes the node instead of watching over it.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{directory}/mnesia",
            "RABBITMQ_LOG_BASE": f"{directory}/log",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{directory}/config",
            "RABBITMQ_PID_FILE": f"{directory}/node.pid",
        }

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        """Start one of Erlang's programs as an account without rights; it dies with whoever started it."""
        become = ["setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() == 0:
            account = _account()
            become += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        with (self._directory / "server.log").open("ab") as log:
            return subprocess.Popen(
                [*become, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=dict(self._environment),
                start_new_session=True,
            )

    def _log(self) -> str:
        return (self._directory / "server.log").read_text()[-4000:]

    def _remove(self) -> None:
        self.stop()
        end(self._epmd, STOP_TIMEOUT_S)
        shutil.rmtree(self._directory)


class Listener:
    """A queue that gets every notification of every priority from now on, in order. Use as a context manager."""

    def __init__(self, server: RabbitServer, topic: str = "notifications") -> None:
        self._connection = server.connect()
        self._channel = self._connection.channel()
        self._channel.exchange_declare(EXCHANGE, "topic", durable=False, auto_delete=False)
        self._queue = self._channel.queue_declare("", exclusive=True).queue
        for priority in ("info", "error"):
            self._channel.queue_bind(self._queue, EXCHANGE, f"{topic}.{priority}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages that have come since the last call, out of their envelopes."""
        found = []
        while (received := self._channel.basic_get(self._queue, no_ack=True)) is not None:
            body = json.loads(received.body)
            found.append(json.loads(body["oslo.message"]) if "oslo.message" in body else body)
        return found


def _account() -> pwd.struct_passwd:
    """Return an account without rights: Debian's own for RabbitMQ, else nobody."""
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("rabbitmq") or names["nobody"]
