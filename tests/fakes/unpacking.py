"""Run the image_decompression plugin on bytes, and check that a refusal leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.plugin_workspace import FakeWorkspace, settings_with, work_on
from transship.domain.errors import ArchiveRefused
from transship.plugins.base import PluginOutcome
from transship.plugins.decompression import PLUGIN


def staged(folder: Path, content: bytes) -> Path:
    path = folder / "staged"
    path.write_bytes(content)
    return path


def unpack(path: Path, container: str = "bare", room: int = 1 << 50, **sections: object) -> PluginOutcome:
    work, workspace = work_on(path, settings_with(path.parent, **sections), container_format=container, room_bytes=room)
    try:
        return PLUGIN.run(work)
    except BaseException:
        assert_nothing_left(workspace)
        raise


def unpacked(path: Path, **sections: object) -> bytes:
    outcome = unpack(path, **sections)  # type: ignore[arg-type] # sections are keywords of settings
    assert outcome.path is not None
    return outcome.path.read_bytes()


def refusal(path: Path, **sections: object) -> ArchiveRefused:
    with pytest.raises(ArchiveRefused) as refused:
        unpack(path, **sections)  # type: ignore[arg-type] # sections are keywords of settings
    return refused.value


def assert_nothing_left(workspace: FakeWorkspace) -> None:
    assert list(workspace.directory.iterdir()) == []
