"""A workspace for import plugins in a test's directory, with an allowance instead of free disk space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from config.settings import Settings
from transship.domain.errors import StagingFull
from transship.domain.image import Image, ImageStatus
from transship.domain.stop import StopToken
from transship.plugins.base import PluginWork


@dataclass
class FakeWorkspace:
    """Records reservations; refuses more than ``room_bytes``."""

    directory: Path
    room_bytes: int = 1 << 50
    reserved: dict[Path, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def new_file(self, label: str) -> Path:
        path = self.directory / f"image.1.{label}.{len(self.files)}"
        self.files.append(path)
        return path

    def reserve(self, path: Path, size_bytes: int) -> None:
        others = sum(size for other, size in self.reserved.items() if other != path)
        if others + size_bytes > self.room_bytes:
            raise StagingFull(size_bytes, self.room_bytes - others)
        self.reserved[path] = size_bytes


def settings_with(directory: Path, **sections: object) -> Settings:
    return Settings.model_validate({"home": str(directory), **sections})


def work_on(
    path: Path,
    settings: Settings,
    *,
    disk_format: str = "raw",
    container_format: str = "bare",
    roles: tuple[str, ...] = (),
    room_bytes: int = 1 << 50,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    stop: StopToken | None = None,
) -> tuple[PluginWork, FakeWorkspace]:
    directory = path.parent / "work"
    directory.mkdir(exist_ok=True)
    workspace = FakeWorkspace(directory, room_bytes)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    image = Image(
        id="9f0e8d46-2f58-4d4c-9d0a-6a3f7b1c2d3e",
        status=ImageStatus.IMPORTING,
        created_at=now,
        updated_at=now,
        disk_format=disk_format,
        container_format=container_format,
    )
    work = PluginWork(image, path, roles, settings, workspace, progress, stop or StopToken())
    return work, workspace
