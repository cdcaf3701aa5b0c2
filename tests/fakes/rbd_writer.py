"""A process that writes to an RBD store or deletes from it, and kills itself at a named point.

python -m tests.fakes.rbd_writer POINT SETTINGS IMAGE_ID PATH SIZE EPOCH
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from config.settings.stores.rbd import RbdStoreSettings
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.stores.ceph.driver import RbdStore
from transship.stores.ceph.pool import Pool

KILL_POINTS: Final[Mapping[str, bool]] = {
    "created": False,
    "while writing": False,
    "snapshot protected": False,
    "renamed": True,
}
"""Points of a put, and whether the image is stored then."""


def killed_writer(point: str, settings: RbdStoreSettings, image_id: str, staged: StagedFile) -> None:
    """Run a process that is killed at a point of a put or a delete."""
    words = [settings.model_dump_json(), image_id, str(staged.path), str(staged.size), str(staged.epoch)]
    done = subprocess.run([sys.executable, "-m", "tests.fakes.rbd_writer", point, *words], check=False)
    assert done.returncode == -signal.SIGKILL


def _die(*_arguments: object, **_options: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _then_die(method: Callable[..., object]) -> Callable[..., Any]:
    def run(*arguments: object, **options: object) -> Any:
        method(*arguments, **options)
        _die()

    return run


def main(point: str, settings: str, image_id: str, path: str, size: str, epoch: str) -> None:
    store = RbdStore("shelf", RbdStoreSettings.model_validate_json(settings), "catalogue")
    store.open()
    if point == "created":
        Pool.create = _then_die(Pool.create)  # type: ignore[method-assign]
    elif point == "snapshot protected":
        Pool.publish = _die  # type: ignore[method-assign]
    elif point == "renamed":
        Pool.publish = _then_die(Pool.publish)  # type: ignore[method-assign]
    elif point == "deleting: unprotected":
        Pool._withdraw = _die  # type: ignore[method-assign]
    elif point == "deleting: renamed":
        Pool._remove = _die  # type: ignore[method-assign]
    if point.startswith("deleting"):
        store.delete(store.url_of(image_id))
        return

    def pace(_bytes: int) -> None:
        nonlocal left
        left -= 1
        if point == "while writing" and not left:
            _die()

    left = 3
    staged = StagedFile(Path(path), int(size), int(epoch), pace=pace)
    store.put(image_id, staged, lambda _done: None, StopToken())


if __name__ == "__main__":
    main(*sys.argv[1:])
