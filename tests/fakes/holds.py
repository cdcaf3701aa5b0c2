"""Hold imports of a running system at named points of their executor, so that something can be killed just then.

A point is a transaction, a single statement or a change of a directory, as in `tests.fakes.stepped_import`, named by
the function that wants it. The processes of the system learn of it by a `sitecustomize` of this module's making.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.fakes.system import until

HOOK: Final = '''
"""Let an import stand still at the point that a file named after its image holds."""

import importlib.abc, importlib.util, os, sys, threading, time
from contextlib import contextmanager

DIRECTORY = os.environ["HELD_IMPORTS"]
CHANGES = ("link", "unlink", "fsync")


def image_here():
    session = getattr(sys.modules.get("tasks.session"), "_CURRENT", None)
    found = session.get(None) if session is not None else None
    if found is not None:
        return found.lease.image_id
    contexts = sys.modules.get("prefect.context")
    run = contexts.FlowRunContext.get() if contexts is not None else None
    return str((run.parameters or {}).get("image_id", "")) if run is not None else ""


def caller():
    frame = sys._getframe(3)
    while frame.f_back is not None and frame.f_code.co_filename.endswith(("contextlib.py", "pathlib.py")):
        frame = frame.f_back
    return frame.f_code.co_name


def pass_by(change=""):
    image_id = image_here()
    wanted = os.path.join(DIRECTORY, image_id)
    if not image_id or not os.path.exists(wanted):
        return
    name = f"{change} in {caller()}" if change else caller()
    try:
        with open(wanted) as file:
            if file.read() != name:
                return
        rename(wanted, wanted + ".held")
    except FileNotFoundError:
        return  # another thread of this import was here first
    while os.path.exists(wanted + ".held"):
        time.sleep(0.05)


rename = os.rename


def hook(module):
    for name in ("write", "statement"):
        setattr(module.Catalog, name, held_transaction(getattr(module.Catalog, name)))
    for change in CHANGES:
        setattr(os, change, held(getattr(os, change), change))


def held_transaction(begin):
    @contextmanager
    def holding(catalog):
        pass_by()
        with begin(catalog) as connection:
            yield connection

    return holding


def held(act, name):
    def acting(*arguments, **options):
        pass_by(name)
        return act(*arguments, **options)

    return acting


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "transship.catalog.engine":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            hook(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
'''


class Holds:
    """Points at which imports of one system are held.

    Args:
        directory: empty.
    """

    def __init__(self, directory: Path) -> None:
        self._site, self._held = directory / "site", directory / "held"
        self._site.mkdir(parents=True)
        self._held.mkdir()
        (self._site / "sitecustomize.py").write_text(HOOK)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the system's processes need."""
        return {"PYTHONPATH": str(self._site), "HELD_IMPORTS": str(self._held)}

    def set(self, image_id: str, point: str) -> None:
        """Hold the import of an image when it first reaches a point."""
        whole = self._site / image_id
        whole.write_text(point)
        whole.rename(self._held / image_id)

    def reached(self) -> set[str]:
        """Return the images whose imports are held."""
        return {path.stem for path in self._held.glob("*.held")}

    def missing(self) -> dict[str, str]:
        """Return the points not reached yet, by image."""
        found = {}
        for path in self._held.iterdir():
            with suppress(FileNotFoundError):  # it was reached just now
                if path.suffix != ".held":
                    found[path.name] = path.read_text()
        return found

    def release(self) -> None:
        """Release all of them."""
        for path in self._held.glob("*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def standing(self, count: int, timeout_s: float) -> Iterator[None]:
        """Wait until this many imports are held; release them afterwards."""
        try:
            until(lambda: len(self.reached()) >= count, timeout_s, f"imports that stand still, not {self.missing()}")
            yield
        finally:
            self.release()
