"""A real one-node Ceph on loopback: monitor, manager, OSD and radosgw, from Debian's packages.

with Ceph() as ceph:
    pool = ceph.new_pool()              # for RBD, as the user `ceph.user`
    keys, bucket = ceph.keys(), ceph.new_bucket()
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

from tests.fakes.ceph_daemons import USER
from tests.fakes.system import until

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 540.0
END_TIMEOUT_S: Final = 90.0
SHARED: Final = "ceph"
"""File in the directory of a test run that names its cluster: the pid of the process that runs it, and its home."""

_STARTED: Final[list[subprocess.Popen[bytes]]] = []
"""Processes that run clusters. They may outlive this one, so nobody here waits for them."""


@dataclass(frozen=True)
class Keys:
    """A user of S3 and its keys."""

    uid: str
    access: str
    secret: str


class Ceph:
    """A cluster, started on entering and removed on leaving; that takes some seconds.

    Methods that stop a daemon leave it stopped until it is started again, also for other tests of the run: use
    `without`, or start it in a ``finally``.

    Args:
        owner: pid of the process whose end also ends the cluster; None: this one.

    Attributes:
        home: configuration, keys, data and logs.
        conf: path of ``ceph.conf``; clients of any user find their keyring through it.
        user: may use RBD in all pools.
    """

    def __init__(self, owner: int | None = None) -> None:
        self._owner = owner or os.getpid()
        self._runs: int | None = None
        self._at(Path())

    def _at(self, home: Path) -> None:
        self.home, self.conf, self.user = home, home / "ceph.conf", USER

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runs is not None:
            _end(self._runs, self.home)

    @classmethod
    def shared(cls, run: Path, owner: int) -> Self:
        """Return the one cluster of a test run, and start it for the first of its processes.

        Args:
            run: directory that all processes of the run share.
            owner: pid of the process that lives as long as the run, and calls `end_shared` last.
        """
        ceph = cls(owner)
        with (run / f"{SHARED}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (run / SHARED).exists():
                ceph._begin()
                (run / SHARED).write_text(f"{ceph._runs} {ceph.home}")
        ceph._at(Path((run / SHARED).read_text().split()[1]))
        return ceph

    @staticmethod
    def end_shared(run: Path) -> None:
        """Remove the cluster of a test run, if it has one."""
        if (run / SHARED).exists():
            pid, home = (run / SHARED).read_text().split()
            (run / SHARED).unlink()
            _end(int(pid), Path(home))

    def _begin(self) -> None:
        # Not below TMPDIR, whose path may be too long for unix sockets.
        home = Path(tempfile.mkdtemp(prefix="ceph-", dir="/tmp"))
        self._at(home)
        with (home / "daemons.out").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.ceph_daemons", str(home), str(self._owner)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        def ready() -> bool:
            assert process.poll() is None, f"the cluster does not start:\n{self.last_words()}"
            return (home / "ready").exists()

        _STARTED.append(process)
        self._runs = process.pid
        try:
            until(ready, PATIENCE_S, "the cluster starts")
            for daemon in ("osd", "rgw"):
                self._await(daemon)
            (home / "s3.keys").write_text(json.dumps(astuple(self.new_keys())))
        except BaseException:
            _end(process.pid, home)
            raise

    # Daemons

    def pid(self, daemon: str) -> int:
        """Return the pid of a daemon that runs: ``mon``, ``mgr``, ``osd`` or ``rgw``."""
        return int((self.home / f"{daemon}.pid").read_text())

    def stop(self, daemon: str, by: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon, and wait until it has ended."""
        os.kill(self.pid(daemon), by)
        until(lambda: not (self.home / f"{daemon}.pid").exists(), 60, f"{daemon} ends")

    def start(self, daemon: str) -> None:
        """Start a daemon that was stopped, and wait until it answers."""
        (self.home / f"{daemon}.wanted").touch()
        self._await(daemon)

    @contextmanager
    def without(self, daemon: str) -> Iterator[None]:
        """Stop a daemon for the duration of a block."""
        self.stop(daemon)
        try:
            yield
        finally:
            self.start(daemon)

    @contextmanager
    def frozen(self, daemon: str) -> Iterator[None]:
        """Keep a daemon from doing anything for the duration of a block; its connections stay open."""
        pid = self.pid(daemon)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _await(self, daemon: str) -> None:
        def up() -> bool:
            assert (self.home / f"{daemon}.wanted").exists(), f"{daemon} does not start:\n{self.last_words()}"
            return (self.home / f"{daemon}.pid").exists() and self._answers(daemon)

        until(up, PATIENCE_S, f"{daemon} is up")

    def _answers(self, daemon: str) -> bool:
        try:
            if daemon == "osd":
                return bool(self.command("osd", "stat")["num_up_osds"])
            if daemon == "rgw":
                with urlopen(self.endpoint, timeout=30):
                    return True
            return bool(self.command("status"))
        except (AssertionError, subprocess.TimeoutExpired, URLError, OSError):
            return False

    def last_words(self) -> str:
        """Return the ends of all logs."""
        logs = sorted([*self.home.glob("*.out"), *self.home.glob("*.log")])
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in logs)

    # RBD

    def run(self, program: str, *arguments: str) -> str:
        """Run one of Ceph's commands as the administrator; return its output."""
        command = [program, "-c", str(self.conf), *arguments]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def command(self, *arguments: str) -> Any:
        """Run the command ``ceph``; return its answer."""
        return json.loads(self.run("ceph", "--connect-timeout", "20", *arguments, "--format", "json") or "null")

    def new_pool(self, quota_bytes: int = 0) -> str:
        """Make a pool for RBD, by default without a quota; return its name."""
        pool = f"images-{uuid4().hex[:12]}"
        self.run("ceph", "osd", "pool", "create", pool, "4")
        self.run("rbd", "pool", "init", pool)
        if quota_bytes:
            self.quota(pool, quota_bytes)
        return pool

    def quota(self, pool: str, max_bytes: int) -> None:
        """Limit a pool; 0: no limit any more. Writers notice within seconds."""
        self.run("ceph", "osd", "pool", "set-quota", pool, "max_bytes", str(max_bytes))

    def remove_pool(self, pool: str) -> None:
        """Remove a pool with everything in it."""
        self.run("ceph", "osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")

    def new_user(self, **caps: str) -> str:
        """Make a user with some capabilities, by service; return its name without ``client.``."""
        user = f"user-{uuid4().hex[:12]}"
        words = [word for service, allowed in caps.items() for word in (service, allowed)]
        file = self.home / f"client.{user}.keyring"
        self.run("ceph", "auth", "get-or-create", f"client.{user}", *words, "-o", str(file))
        return user

    # S3

    @property
    def endpoint(self) -> str:
        """URL of radosgw."""
        return f"http://127.0.0.1:{(self.home / 'rgw.port').read_text()}"

    def keys(self) -> Keys:
        """Return the keys of the user that `new_bucket` makes buckets for."""
        return Keys(*json.loads((self.home / "s3.keys").read_text()))

    def new_keys(self) -> Keys:
        """Make a further user of S3; return its keys."""
        uid = f"user-{uuid4().hex[:12]}"
        made = json.loads(self.run("radosgw-admin", "user", "create", "--uid", uid, "--display-name", uid))
        return Keys(uid, made["keys"][0]["access_key"], made["keys"][0]["secret_key"])

    def further_keys(self) -> Keys:
        """Make a second pair of keys for the user of `keys`; return it."""
        uid = self.keys().uid
        known = {self.keys().access}
        made = json.loads(self.run("radosgw-admin", "key", "create", "--uid", uid, "--gen-access-key", "--gen-secret"))
        pair = next(each for each in made["keys"] if each["access_key"] not in known)
        return Keys(uid, pair["access_key"], pair["secret_key"])

    def revoke(self, keys: Keys) -> None:
        """Make keys invalid; the user and its buckets stay."""
        self.run("radosgw-admin", "key", "rm", "--uid", keys.uid, "--access-key", keys.access)

    def s3(self, keys: Keys | None = None) -> Any:
        """Return a client of S3, by default with the keys of `keys`."""
        import boto3  # noqa: PLC0415 - slow, and every test run imports this module
        from botocore.config import Config  # noqa: PLC0415

        keys = keys or self.keys()
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=keys.access,
            aws_secret_access_key=keys.secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def new_bucket(self, keys: Keys | None = None) -> str:
        """Make a bucket, by default of the user of `keys`; return its name."""
        bucket = f"images-{uuid4().hex[:12]}"
        self.s3(keys).create_bucket(Bucket=bucket)
        return bucket


def _end(runs: int, home: Path) -> None:
    """End the process that runs a cluster, and remove the cluster's home."""
    with suppress(ProcessLookupError):
        ended = os.pidfd_open(runs)
        signal.pidfd_send_signal(ended, signal.SIGTERM)
        select.select([ended], [], [], END_TIMEOUT_S)
        os.close(ended)
    shutil.rmtree(home, ignore_errors=True)
