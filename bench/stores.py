"""``python -m bench stores``: write a file to each kind of store, beside commands that copy the same file there.

A real Ceph with radosgw is started for this. Ours is what an import calls: `StoreDriver.put` of a staged file, with
all of its checks. The peers are ``cp``, boto3's ``upload_file`` with its defaults and with our part size, ``aws s3 cp``
(awscli, installed into ``.peers``), and ``rbd import``. All write the same file in turns; what they wrote is removed
between two measurements.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from boto3.s3.transfer import TransferConfig

from bench.cases import random_file
from config.settings.stores import KINDS
from tests.fakes.ceph import Ceph
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.stores.pool import new_driver

MIB: Final = 1024 * 1024
CATALOG: Final = "7b0f3c1e-1111-4222-8333-944455566677"
ROOT: Final = Path(__file__).resolve().parent.parent
DEBIAN_DISK: Final = ROOT / "scripts" / "debian-disk"
AWSCLI: Final = "awscli==1.46.3"


@dataclass(frozen=True, slots=True)
class Writer:
    """One way to write a file to a store.

    Attributes:
        write: writes it under a name.
        remove: removes what was written.
    """

    name: str
    write: Callable[[str], object]
    remove: Callable[[str], object]

    def measure(self) -> float:
        """Return the wall seconds that writing takes."""
        name = str(uuid4())
        began = time.perf_counter()
        self.write(name)
        taken = time.perf_counter() - began
        self.remove(name)
        return taken


def file_peers(directory: Path, file: Path) -> list[Writer]:
    """Copy into a directory, and let the data reach the disk, as a store must."""

    def copy(name: str) -> None:
        subprocess.run(["cp", file, directory / name], check=True)
        with (directory / name).open("rb") as copied:
            os.fsync(copied.fileno())

    return [Writer("cp, fsync", copy, lambda name: (directory / name).unlink())]


def s3_peers(ceph: Ceph, bucket: str, file: Path) -> list[Writer]:
    """Upload with boto3, and with Amazon's own command."""
    client, keys = ceph.s3(), ceph.keys()
    account = {"AWS_ACCESS_KEY_ID": keys.access, "AWS_SECRET_ACCESS_KEY": keys.secret, "AWS_REGION": "us-east-1"}
    files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    aws: list[str | Path] = [aws_command(), "--endpoint-url", ceph.endpoint, "s3", "cp", "--only-show-errors", file]

    def upload(config: TransferConfig) -> Callable[[str], object]:
        return lambda name: client.upload_file(str(file), bucket, name, Config=config)

    def remove(name: str) -> object:
        return client.delete_object(Bucket=bucket, Key=name)

    def command(name: str) -> None:
        subprocess.run([*aws, f"s3://{bucket}/{name}"], check=True, env={**os.environ, **account, **files})

    large = TransferConfig(multipart_chunksize=32 * MIB, max_concurrency=4)
    return [
        Writer("boto3 upload_file", upload(TransferConfig()), remove),
        Writer("boto3 upload_file, 32 MiB x 4", upload(large), remove),
        Writer("aws s3 cp", command, remove),
    ]


def aws_command() -> Path:
    """Return the command ``aws``, which the first call installs into an environment of its own."""
    environment = ROOT / ".peers" / AWSCLI
    command = environment / "bin" / "aws"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin" / "pip", "install", "-q", AWSCLI], check=True)
    return command


def rbd_peers(ceph: Ceph, pool: str, file: Path) -> list[Writer]:
    """Import with Ceph's own command."""
    rbd = ["rbd", "-c", str(ceph.conf), "-n", f"client.{ceph.user}", "-p", pool, "--no-progress"]

    def run(*arguments: str | Path) -> None:
        subprocess.run([*rbd, *arguments], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return [
        Writer(
            "rbd import", lambda name: run("import", "--object-size", "8M", file, name), lambda name: run("rm", name)
        )
    ]


def debian_disk(directory: Path) -> Path:
    """Make the raw disk of a real Debian, 4 GiB with 0.6 GiB of data."""
    subprocess.run([DEBIAN_DISK, directory / "debian"], check=True)
    raw = directory / "debian.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", directory / "debian" / "debian.qcow2", raw], check=True)
    return raw


def writers(kind: str, ceph: Ceph | None, directory: Path, file: Path) -> list[Writer]:
    """Return the ways to write a file to a kind of store, ours first; the store is made and prepared."""
    store = directory / "store"
    if kind == "file":
        store.mkdir(exist_ok=True)
        return [_ours({"type": kind, "dir": store / "ours"}, file), *file_peers(store, file)]
    assert ceph is not None
    if kind == "rbd":
        pool = ceph.new_pool()
        return [
            _ours({"type": kind, "pool": pool, "user": ceph.user, "conf": ceph.conf}, file),
            *rbd_peers(ceph, pool, file),
        ]
    keys, bucket = ceph.keys(), ceph.new_bucket()
    credentials = {"access_key": keys.access, "secret_key": keys.secret}
    settings = {"type": kind, "endpoint": ceph.endpoint, "bucket": bucket, "credentials": credentials}
    return [_ours(settings, file), *s3_peers(ceph, bucket, file)]


def _ours(options: Mapping[str, object], file: Path) -> Writer:
    kind = KINDS[str(options["type"])]
    driver = new_driver("bench", kind.settings.model_validate(options), CATALOG)
    driver.open()
    driver.prepare((), before=False)
    staged = StagedFile(file, file.stat().st_size, 1, stored=True)
    return Writer(
        "transship",
        lambda name: driver.put(name, staged, lambda _done: None, StopToken()),
        lambda name: driver.delete(driver.url_of(name)),
    )


def main(arguments: list[str]) -> int:
    """Measure, and print the median seconds of each writer and the median ratio of ours to it."""
    parser = argparse.ArgumentParser(prog="python -m bench stores", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file of random data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--disk", type=Path, help="a sparse raw disk; otherwise that of a Debian is made")
    parser.add_argument("--kinds", nargs="+", choices=("file", "s3", "rbd"), default=["file", "s3", "rbd"])
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transship-bench-")))
        files = {
            f"{options.mib} MiB of random data": random_file(directory / "random", options.mib * MIB),
            "sparse disk": options.disk or debian_disk(directory),
        }
        ceph = stack.enter_context(Ceph()) if {"s3", "rbd"} & set(options.kinds) else None
        print(f"{'kind':<5} {'file':<24} {'writer':<30} {'s':>7} {'ratio':>6}  ({options.rounds} rounds)")
        for kind in options.kinds:
            for label, file in files.items():
                _report(f"{kind:<5} {label:<24}", writers(kind, ceph, directory, file), options.rounds)
    return 0


def _report(label: str, all_writers: Sequence[Writer], rounds: int) -> None:
    """Let all writers write in turns, after a round to warm up, and print what each took."""
    taken: dict[str, list[float]] = {writer.name: [] for writer in all_writers}
    for number in range(rounds + 1):
        for writer in all_writers:
            seconds = writer.measure()
            if number:
                taken[writer.name].append(seconds)
    mine = taken[all_writers[0].name]
    for name, theirs in taken.items():
        ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
        print(f"{label} {name:<30} {statistics.median(theirs):7.3f} {ratio:6.2f}", flush=True)
