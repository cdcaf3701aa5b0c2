"""A download with all its reports recorded."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from config.settings import DownloadSettings
from tests.fakes.web_server import WebServer
from transship.domain.stop import StopToken
from transship.domain.uri_filter import UriRules
from transship.sources.gate import Resolver, UriGate, direct_routes_from
from transship.sources.web import Downloaded, PartTarget, Reserve, SourceRequest, Validators, WebSource

LOOPBACK = UriRules(allowed_hosts=("127.0.0.1", "::1", "localhost"), allowed_ports=())
PLAIN = DownloadSettings(
    connect_timeout_s=60,
    idle_timeout_s=60,
    total_timeout_s=600,
    min_speed_bytes_per_s=0,
    chunk_bytes=64 * 1024,
)


class Names:
    """A resolver with a table; each answer in a list is given once, and the last one repeatedly."""

    def __init__(self, table: dict[str, list[tuple[str, ...]]]) -> None:
        self._table = table
        self.asked: list[str] = []

    def resolve(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append(host)
        answers = self._table.get(host, [()])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@dataclass
class Download:
    """One ``.part`` file and the reports of its downloads."""

    path: Path
    remembered: list[Validators] = field(default_factory=list)
    size_when_remembered: list[int] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)
    told: list[tuple[int, int]] = field(default_factory=list)
    stop: StopToken = field(default_factory=StopToken)

    def fetch(
        self,
        uri: str,
        *,
        rules: UriRules = LOOPBACK,
        resolver: Resolver | None = None,
        limits: DownloadSettings = PLAIN,
        cap_bytes: int = 1 << 30,
        step_bytes: int = 1 << 20,
        tls: ssl.SSLContext | None = None,
        resume: Validators | None = None,
        reserve: Reserve | None = None,
        slots_file: Path | None = None,
        private: Mapping[str, str] | None = None,
        pinned: str = "",
    ) -> Downloaded:
        proxied = bool(limits.proxy_url.get_secret_value())
        gate = UriGate(rules, resolver, proxied=proxied, direct=direct_routes_from(limits))
        source = WebSource(gate, limits, cap_bytes, reserve_step_bytes=step_bytes, tls=tls, slots_file=slots_file)
        target = PartTarget(
            self.path,
            remember=self._remember,
            reserve=reserve or self.reserved.append,
            progress=lambda done, total: self.told.append((done, total)),
            resume=resume,
        )
        return source.fetch(SourceRequest(uri, private or {}, pinned), target, self.stop)

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    def _remember(self, validators: Validators) -> None:
        self.remembered.append(validators)
        self.size_when_remembered.append(self.path.stat().st_size)


@pytest.fixture
def download(tmp_path: Path) -> Download:
    return Download(tmp_path / "image.part")


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as running:
        yield running
