from __future__ import annotations

from pathlib import Path

import pytest

from transship.commands.local_file import LocalFile
from transship.domain.errors import CommandRefused


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandRefused):
        LocalFile.at(tmp_path / name)
