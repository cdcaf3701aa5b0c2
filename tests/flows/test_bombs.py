"""Bombs at full size, from a real web server: refused within the bound, and nothing is left of them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.bombs import GIB, MIB, gzip_of_zeros, lha_of_zeros, zip_of_zeros
from tests.fakes.web_imports import assert_nothing_left, newest_task, run
from tests.fakes.web_server import WebServer
from tests.flows.conftest import Site
from transship.domain.task import TaskStatus

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("prefect_client")]

needs_lhasa = pytest.mark.skipif(shutil.which("lhasa") is None, reason="lhasa is missing; apt-get install lhasa")

CAP = {"imports__image_size_cap_bytes": str(GIB)}
TOO_LARGE = "decompressed image of {} is larger than the 1.0 GiB that imports.image_size_cap_bytes allows"


@contextmanager
def watched(directory: Path) -> Iterator[list[int]]:
    """Measure the space used by a directory's files continuously; the list holds the maximum in the end."""
    most, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            occupied = 0
            for path in directory.glob("*"):
                try:
                    occupied += path.stat().st_blocks * 512
                except FileNotFoundError:
                    continue
            most[0] = max(most[0], occupied)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


@pytest.mark.parametrize(
    ("bomb", "limits", "reason"),
    [
        pytest.param(lambda: gzip_of_zeros(10 * GIB), CAP, TOO_LARGE.format("1.0 GiB"), id="gzip, cap"),
        pytest.param(
            lambda: gzip_of_zeros(10 * GIB), {}, "GiB that decompression.max_ratio allows", id="gzip, default settings"
        ),
        pytest.param(
            lambda: zip_of_zeros(10 * GIB), {}, "GiB that decompression.max_ratio allows", id="zip, default settings"
        ),
        pytest.param(
            lha_of_zeros,
            {},
            "image of 4.0 GiB is larger than the 1.0 GiB that decompression",
            id="LHA, default settings",
        ),
        pytest.param(lambda: zip_of_zeros(10 * GIB), CAP, TOO_LARGE.format("10.0 GiB"), id="zip"),
        pytest.param(
            lambda: zip_of_zeros(10 * GIB, stated_bytes=GIB // 2),
            CAP,
            "more comes out of it than it states",
            id="zip that states a twentieth",
        ),
        pytest.param(
            lambda: lha_of_zeros(stated_bytes=MIB), CAP, "its checksum is wrong", id="LHA that lies", marks=needs_lhasa
        ),
    ],
)
def test_a_bomb_is_refused_within_the_bound_and_leaves_nothing(
    site: Site, server: WebServer, bomb: Callable[[], bytes], limits: dict[str, str], reason: str
) -> None:
    packed = bomb()
    assert len(packed) < 11 * MIB
    site.set(imports__plugins="image_decompression", **limits)
    with watched(site.settings.staging_dir) as most_bytes:
        state, image_id = run(server.serve("/bomb", packed))
    assert state.is_failed()
    assert reason in str(state.message)
    assert newest_task(site.catalog, image_id).status is TaskStatus.FAILURE
    assert_nothing_left(site, image_id, str(state.message))
    # Zeros take no room, so all that the disk ever held is the archive itself.
    assert most_bytes[0] < len(packed) + 2 * MIB
