"""The process that makes a one-node Ceph, runs its daemons, and ends with the process that it was started for.

python -m tests.fakes.ceph_daemons DIRECTORY OWNER_PID

DIRECTORY holds configuration, keys, data and logs. A file ``<daemon>.wanted`` there makes it start that daemon, see
`tests.fakes.ceph.Ceph`. The file ``ready`` appears when the cluster can be used.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.fakes.ending import end
from tests.fakes.ports import free_port

GIB: Final = 1024**3
USER: Final = "transship"
DAEMONS: Final = {
    "mon": ("ceph-mon", "mon.a"),
    "mgr": ("ceph-mgr", "mgr.x"),
    "osd": ("ceph-osd", "osd.0"),
    "rgw": ("radosgw", "client.rgw.a"),
}
"""Program and name of each daemon, in the order of their start."""

KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "mgr.x": {"mon": "allow profile mgr", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
    "client.rgw.a": {"mon": "allow rw", "osd": "allow rwx", "mgr": "allow rw"},
    f"client.{USER}": {"mon": "profile rbd", "osd": "profile rbd", "mgr": "profile rbd"},
}
"""Capabilities of each name; all keys exist from the first start of the monitor."""

# One copy of everything on one small device, little memory, and quick about deletions, quotas and deaths.
CONF = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {home}/$name.keyring
run dir = {home}
log file = {home}/$name.log
crash dir = {home}
debug ms = 0/0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0

[client]
admin socket =
log file =

[mon]
mon data = {home}/mon
mon allow pool size one = true
mon allow pool delete = true
mon max pg per osd = 10000
mon tick interval = 1
paxos propose interval = 0.05
paxos min wait = 0.01
mon data avail warn = 1
mon data avail crit = 1
mon warn on pool no redundancy = false
rocksdb cache size = 33554432

[mgr]
mgr data = {home}/mgr
mgr tick period = 1
mgr stats period = 1
mgr disabled modules = {modules}

[osd]
osd data = {home}/osd
osd objectstore = bluestore
mgr stats period = 1
bluestore block size = {block_bytes}
bluestore block db create = false
bluestore block wal create = false
bluestore cache autotune = false
bluestore cache size = 134217728
bluefs buffered io = true
osd max backfills = 1

[client.rgw.a]
log file = {home}/$name.log
rgw data = {home}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw thread pool size = 32
rgw rados pool pg num min = 4
rgw enable usage log = false
rgw enable ops log = false
rgw run sync thread = false
rgw gc obj min wait = 1
rgw gc processor period = 2
rgw gc processor max time = 2
"""


class Cluster:
    """The files and the daemons of a one-node Ceph.

    Args:
        home: empty directory with a path that is short enough for unix sockets.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._conf = home / "ceph.conf"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def make(self) -> None:
        """Write configuration and keys, and start everything for the first time."""
        fsid, rgw_port, mon_port = str(uuid4()), free_port(), free_port()
        values = {"home": self.home, "fsid": fsid, "rgw_port": rgw_port, "mon_port": mon_port}
        modules = ",".join(os.listdir("/usr/share/ceph/mgr"))
        self._conf.write_text(CONF.format(**values, block_bytes=40 * GIB, modules=modules))
        (self.home / "rgw.port").write_text(str(rgw_port))
        self._make_keys()
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "monmap")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        (self.home / "mon" / "keyring").write_bytes((self.home / "mon..keyring").read_bytes())
        for daemon in ("mon", "mgr"):
            self._want(daemon)
        self._make_osd()
        for daemon in ("osd", "rgw"):
            self._want(daemon)

    def _make_keys(self) -> None:
        for name, caps in KEYS.items():
            file = f"{name}.keyring"
            words = [word for service, allowed in caps.items() for word in ("--cap", service, allowed)]
            self._run("ceph-authtool", "--create-keyring", file, "--gen-key", "-n", name, *words)
        together = "".join((self.home / f"{name}.keyring").read_text() for name in KEYS)
        (self.home / "keyring").write_text(together)
        for name in ("mgr", "osd", "rgw"):
            (self.home / name).mkdir()

    def _make_osd(self) -> None:
        uuid = str(uuid4())
        made = self._run("ceph", "osd", "new", uuid)
        assert made.strip() == "0", f"the OSD has the number {made}"
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)

    def _run(self, program: str, *arguments: str) -> str:
        conf = () if program in ("monmaptool", "ceph-authtool") else ("-c", str(self._conf))
        done = subprocess.run(
            [program, *conf, *arguments],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def _want(self, daemon: str) -> None:
        (self.home / f"{daemon}.wanted").touch()
        self.look_after()

    def look_after(self) -> None:
        """Start the daemons that are wanted; one that ended is not, until somebody wants it again."""
        for daemon, (program, name) in DAEMONS.items():
            wanted = self.home / f"{daemon}.wanted"
            process = self._processes.get(daemon)
            if process is not None and process.poll() is not None:
                del self._processes[daemon]
                wanted.unlink(missing_ok=True)
                (self.home / f"{daemon}.pid").unlink(missing_ok=True)  # last: it may be wanted again from now on
            elif process is None and wanted.exists():
                self._processes[daemon] = self._started(daemon, program, name)

    def _started(self, daemon: str, program: str, name: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{daemon}.out").open("ab") as out:
            process = subprocess.Popen(
                # It dies with this process, so that a killed one leaves none.
                ["setpriv", "--pdeathsig", "KILL", "--", program, "-f", "-c", str(self._conf), "-n", name],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.home,
            )
        pid = self.home / f"{daemon}.pid"
        pid.with_suffix(".new").write_text(str(process.pid))
        pid.with_suffix(".new").rename(pid)
        return process

    def stop(self) -> None:
        """End all daemons, the monitor last."""
        for daemon in reversed(DAEMONS):
            process = self._processes.get(daemon)
            if process is not None:
                process.send_signal(signal.SIGCONT)
            end(process, 20)


def main(home: Path, owner: int) -> None:
    """Make and run a cluster until SIGTERM; or until its owner ends, which then cannot remove the files."""
    owner_ends = os.pidfd_open(owner)
    asked, ask = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(ask, b"x"))
    cluster = Cluster(home)
    try:
        cluster.make()
        (home / "ready").touch()
        while not select.select([owner_ends, asked], [], [], 0.1)[0]:
            cluster.look_after()
    finally:
        cluster.stop()
        if select.select([owner_ends], [], [], 0)[0]:
            shutil.rmtree(home)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
