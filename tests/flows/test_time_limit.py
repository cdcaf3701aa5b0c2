"""An attempt of an import has a time limit: after that it is stopped and undone, and the image is freed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.digest import file_digests
from tasks.session import ImportSession
from tests.flows.conftest import Site
from tests.flows.test_carrying import Carried, half_done
from transship.plugins.limited_command import Limits, run_limited


def wait_for_ever(session: ImportSession, home: Path) -> None:
    while True:
        session.stop.wait(3600.0)


def hash_zeros(session: ImportSession, home: Path) -> None:
    with (home / "blank").open("wb") as file:
        file.truncate(1 << 42)
    file_digests(home / "blank", ["md5", "sha512"], session.stop, session.board.advance)


def run_a_program(session: ImportSession, home: Path) -> None:
    run_limited(["/bin/sleep", "3600"], Limits(3600, 1 << 30, 0, 3600.0), session.stop)


@pytest.mark.parametrize("work", [wait_for_ever, hash_zeros, run_a_program])
def test_an_import_that_runs_for_too_long_fails_in_its_step(
    site: Site, work: Callable[[ImportSession, Path], None]
) -> None:
    site.set(imports__timeout_s="0.2", lease__renew_s="0.05")
    carried = Carried(site)

    def steps(session: ImportSession, undo: ExitStack) -> str:
        half_done(session, undo)
        session.board.enter("convert")
        work(session, site.home)
        return "done"

    state = carried.by(steps)
    assert state.name == "Failed", state
    assert "longer than the 0.2 seconds that imports.timeout_s allows" in str(state.message)
    assert "raise the limit" in str(state.message)
    carried.assert_free(str(state.message))
    assert site.stored() == {}
