"""The measured steps and their peers."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

from config.settings import Settings, UriSettings
from tasks.digest import file_digests
from tests.fakes.range_server import RangedFile
from tests.fakes.web_server import WebServer
from transship.domain.clock import utc_now
from transship.domain.image import Image, ImageStatus
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.plugins.base import PluginWork
from transship.plugins.conversion import PLUGIN as CONVERSION
from transship.plugins.decompression import PLUGIN as DECOMPRESSION
from transship.sources.gate import gate_from
from transship.sources.web import PartTarget, SourceRequest, WebSource
from transship.stores.file import FileStore


@dataclass(frozen=True, slots=True)
class Case:
    """One step and its peer, both ready to run any number of times."""

    peer_name: str
    ours: Callable[[], None]
    peer: Callable[[], None]
    close: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Directory:
    """A workspace for plugins that reserves nothing."""

    path: Path

    def new_file(self, label: str) -> Path:
        """Return a path that was not used before."""
        return self.path / f"{uuid4()}.{label}.part"

    def reserve(self, path: Path, size_bytes: int) -> None:
        """Accept."""


def random_file(path: Path, size: int) -> Path:
    with path.open("wb") as stream:
        for _ in range(size // (1024 * 1024)):
            stream.write(os.urandom(1024 * 1024))
    return path


def _half_empty_file(path: Path, size: int) -> Path:
    """Create a raw disk in which every second 8 MiB hold data, similar to a fresh system."""
    step = 8 * 1024 * 1024
    with path.open("wb") as stream:
        for offset in range(0, size, 2 * step):
            stream.seek(offset)
            stream.write(os.urandom(step))
        stream.truncate(size)
    return path


def _shell(command: str) -> None:
    subprocess.run(["bash", "-c", command], check=True, stdout=subprocess.DEVNULL)


def digest(directory: Path, size: int) -> Case:
    """Md5 and sha512 of one file."""
    image = random_file(directory / "image", size)
    return Case(
        "md5sum & sha512sum at the same time",
        lambda: _drop(file_digests(image, ["md5", "sha512"], StopToken(), lambda _done, _total: None)),
        lambda: _shell(f"md5sum {image} & sha512sum {image}; wait"),
    )


def download(directory: Path, size: int) -> Case:
    """One file over HTTP from loopback."""
    image = random_file(directory / "image", size)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    settings = Settings(home=directory, uri=UriSettings(internal_hosts=(f"127.0.0.1:{port}",)))
    source = WebSource(gate_from(settings), settings.download, settings.imports.image_size_cap_bytes)
    url = f"http://127.0.0.1:{port}/{image.name}"

    def fetch() -> None:
        part = directory / "part"
        part.unlink(missing_ok=True)
        source.fetch(SourceRequest(url), PartTarget(part, _drop, _drop, lambda *_: None), StopToken())

    return Case(
        "curl",
        fetch,
        lambda: _shell(f"curl -sf -o {directory}/curl {url}"),
        server.shutdown,
    )


def ranges(directory: Path, size: int) -> Case:
    """One file from a server that limits each connection to 20 MB/s."""
    file = RangedFile(memoryview(bytes(size)))
    file.bytes_per_s = 20_000_000
    server = WebServer()
    server.__enter__()
    url = server.on("/image", file)
    settings = Settings(home=directory, uri=UriSettings(internal_hosts=(f"127.0.0.1:{server.port}",)))

    def fetch(connections: int) -> None:
        part = directory / "part"
        part.unlink(missing_ok=True)
        limits = settings.download.model_copy(update={"connections": connections, "range_bytes": size // 16})
        source = WebSource(gate_from(settings), limits, settings.imports.image_size_cap_bytes)
        source.fetch(SourceRequest(url), PartTarget(part, _drop, _drop, lambda *_: None), StopToken())

    return Case(
        "one connection",
        lambda: fetch(4),
        lambda: fetch(1),
        lambda: server.__exit__(None, None, None),
    )


def decompress(directory: Path, size: int) -> Case:
    """One gzip file."""
    image = _half_empty_file(directory / "image", size)
    _shell(f"gzip -1 -k {image}")
    packed = directory / "image.gz"
    return Case(
        "gzip -dc",
        lambda: _run_plugin(DECOMPRESSION, directory, packed, "raw"),
        lambda: _shell(f"gzip -dc {packed} > {directory}/unpacked"),
    )


def convert(directory: Path, size: int) -> Case:
    """One qcow2 to raw, with inspection before and after."""
    image = _half_empty_file(directory / "image", size)
    qcow2 = directory / "image.qcow2"
    _shell(f"qemu-img convert -f raw -O qcow2 {image} {qcow2}")
    return Case(
        "qemu-img convert without inspection",
        lambda: _run_plugin(CONVERSION, directory, qcow2, "qcow2"),
        lambda: _shell(f"qemu-img convert -f qcow2 -O raw {qcow2} {directory}/converted"),
    )


def store(directory: Path, size: int) -> Case:
    """A staged file written durably to a store on the same file system."""
    staged = random_file(directory / "staged", size)
    target = directory / "store"
    target.mkdir()
    driver = FileStore("bench", target, 0o640)

    def put() -> None:
        image_id = str(uuid4())
        driver.put(image_id, StagedFile(staged, size, 1), _drop, StopToken())
        driver.delete(driver.url_of(image_id))

    return Case(
        "cp + sync of the file",
        put,
        lambda: _shell(f"cp {staged} {target}/copy && sync {target}/copy && rm {target}/copy"),
    )


def _run_plugin(plugin: object, directory: Path, path: Path, disk_format: str) -> None:
    now = utc_now()
    image = Image(str(uuid4()), ImageStatus.IMPORTING, now, now, disk_format=disk_format, container_format="bare")
    work = PluginWork(
        image=image,
        path=path,
        roles=(),
        settings=Settings(home=directory),
        workspace=Directory(directory),
        progress=lambda *_: None,
        stop=StopToken(),
    )
    outcome = plugin.run(work)  # type: ignore[attr-defined]  # both plugins have the contract's run
    if outcome.path is not None:
        outcome.path.unlink()


def _drop(_: object) -> None:
    """Ignore a value."""


CASES: Final[Mapping[str, Callable[[Path, int], Case]]] = {
    "download": download,
    "ranges": ranges,
    "decompress": decompress,
    "convert": convert,
    "digest": digest,
    "store": store,
}
