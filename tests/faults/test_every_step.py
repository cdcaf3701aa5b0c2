"""An import that dies, stands still or loses its image at any of its steps leaves the world in order.

The steps are found by walking: one image's process is killed at its first step, the next one's at its second, until
one comes to its end. So a step that is added later is tested without anybody thinking of it. What follows a death is
done for many images at once, as it would be where a host dies.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from tasks.sweep import sweep_staging, sweep_stores
from tests.acceptance.conftest import api_server
from tests.fakes.asked_imports import AskedImports
from tests.fakes.images import read_image
from tests.fakes.images_api import ApiServer
from tests.fakes.remote_glance import RemoteGlance
from tests.fakes.running_import import staging_names
from tests.fakes.stepped_import import Ended, go_on, import_in_a_process
from tests.fakes.system import until
from tests.fakes.web_server import WebServer
from tests.flows.conftest import Site, server, site
from transship.catalog.endings import resume_or_end
from transship.catalog.leases import lease_of
from transship.catalog.schema import LOCATIONS, SECRETS, STAGED
from transship.catalog.tasks import tasks_of_image
from transship.domain.clock import utc_now
from transship.domain.image import ImageStatus
from transship.domain.methods import ImportMethod
from transship.domain.task import ImportTask, TaskStatus

pytestmark = pytest.mark.faults

__all__ = ["api_server", "server", "site"]

BODY = os.urandom(100_000)
DIGEST = hashlib.sha512(BODY).hexdigest()
TARGETS = ("one", "two")
FEWEST_STEPS = 12
"""Less would mean that the walk no longer sees what an import does; a location is registered in fewer."""
AT_ONCE = 12
"""Processes that stand still at the same time."""


@dataclass
class Import:
    """One import of the walk.

    Attributes:
        run_id: of its flow run.
        step: where its first process was struck; empty: nowhere.
    """

    image_id: str
    run_id: str = field(default_factory=lambda: str(uuid4()))
    struck: Ended = field(default_factory=lambda: Ended("", 0))

    @property
    def step(self) -> str:
        return self.struck.step


@dataclass
class World:
    """The Images API, a catalogue, three stores, staging, and imports in processes of their own."""

    imports: AskedImports
    sources: WebServer
    remote: RemoteGlance
    method: str = ImportMethod.WEB_DOWNLOAD
    seen: list[str] = field(default_factory=list)

    @property
    def site(self) -> Site:
        return self.imports.site

    def ask(self) -> Import:
        """Ask for an import of a new image by the method of this walk."""
        image_id = self.imports.create()
        method: dict[str, str] = {"name": self.method}
        match self.method:
            case ImportMethod.WEB_DOWNLOAD:
                method["uri"] = self.sources.url("/a.img")
            case ImportMethod.GLANCE_DIRECT:
                assert self.imports.stage(image_id, BODY).status_code == 204
            case ImportMethod.GLANCE_DOWNLOAD:
                method |= {"glance_image_id": self.remote.image(BODY), "glance_region": "elsewhere"}
            case _:
                assert self._file(image_id).status_code == 204
        asked = self.imports.api(
            "POST", f"/v2/images/{image_id}/import", json={"method": method, "stores": list(TARGETS)}
        )
        assert asked.status_code == 202, asked.text
        return Import(image_id)

    def _file(self, image_id: str):  # type: ignore[no-untyped-def]  # what httpx returns
        headers = {"Content-Type": "application/octet-stream"}
        return self.imports.api("PUT", f"/v2/images/{image_id}/file", content=BODY, headers=headers)

    def carry(self, each: Import, *, at: int = -1, stop: bool = False) -> Ended:
        """Run an import in a process, and check what clients see at every moment, whatever happens."""
        task = self.task(each)
        ended = import_in_a_process(task.method, task.parameters, each.run_id, at=at, stop=stop)
        if ended.step:
            self.seen.append(ended.step)
        self.assert_sound(each, ended.step)
        return ended

    def resume(self, each: Import) -> None:
        """Act as the keeper after a worker is lost and its lease has expired."""
        catalog = self.site.catalog

        def over() -> bool:
            with catalog.read() as connection:
                return not lease_of(connection, each.image_id).live

        until(over, 180.0, "the end of the lease")
        if self.imports.lease(each.image_id) == "held":
            assert resume_or_end(
                catalog, each.image_id, "the worker was lost", crash_retries=9, now=utc_now(), time_to_live_h=1
            )

    def delete(self, each: Import) -> None:
        gone = self.imports.api("DELETE", f"/v2/images/{each.image_id}")
        assert gone.status_code == 204, (each.step, gone.text)

    def sweep(self) -> None:
        """Run housekeeping until it has nothing left to do."""

        def done() -> bool:
            sweep_staging.fn("here")
            sweep_stores.fn()
            with self.site.catalog.read() as connection:
                deleting = select(func.count()).select_from(LOCATIONS).where(LOCATIONS.c.state == "deleting")
                return connection.execute(deleting).scalar_one() == 0

        until(done, 180.0, "housekeeping's end")

    def task(self, each: Import) -> ImportTask:
        with self.site.catalog.read() as connection:
            return tasks_of_image(connection, each.image_id, utc_now())[0]

    def rows(self, each: Import) -> tuple[int, int, int]:
        """Return how many rows name copies, staged files and secrets of an image."""
        with self.site.catalog.read() as connection:
            return (
                self._count(connection, LOCATIONS, LOCATIONS.c.image_id == each.image_id),
                self._count(connection, STAGED, STAGED.c.image_id == each.image_id),
                self._count(connection, SECRETS, SECRETS.c.task_id == self.task(each).id),
            )

    @staticmethod
    def _count(connection, table, condition) -> int:  # type: ignore[no-untyped-def]  # whatever SQLAlchemy takes
        return int(connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one())

    @property
    def stores(self) -> tuple[str, ...]:
        """Stores that hold the image at the end."""
        return ("zero", *TARGETS) if self.method == ImportMethod.COPY_IMAGE else TARGETS

    def assert_sound(self, each: Import, step: str) -> None:
        """Check what clients can rely on at every moment of an import."""
        image, task = read_image(self.site.catalog, each.image_id), self.task(each)
        holders = {location.store for location in image.locations}
        if image.status is ImageStatus.ACTIVE:
            assert image.os_hash_value == DIGEST, step
            assert holders, step
        for store in holders:
            assert self.site.stored(store)[each.image_id] == BODY, (store, step)
        assert holders & set(TARGETS) in (set(), set(TARGETS)), step
        if not task.status.final:
            assert set(image.importing_to) <= set(TARGETS), step
            assert [*image.importing_to, *image.failed_import], step

    def assert_active(self, each: Import) -> None:
        now, task = read_image(self.site.catalog, each.image_id), self.task(each)
        assert (now.status, task.status) == (ImageStatus.ACTIVE, TaskStatus.SUCCESS), (each.step, task.message)
        assert (now.os_hash_value, now.importing_to, now.failed_import) == (DIGEST, (), ()), each.step
        assert {location.store for location in now.locations} == set(self.stores), each.step
        assert now.import_task is None, each.step
        for store in self.stores:
            assert self.site.stored(store)[each.image_id] == BODY, each.step
        assert self.rows(each) == (len(self.stores), 0, 0), each.step
        self.assert_no_files(each, *(store for store in ("zero", *TARGETS) if store not in self.stores))

    def assert_no_files(self, each: Import, *stores: str) -> None:
        staged = [name for name in staging_names(self.site.settings) if name.startswith(each.image_id)]
        assert staged == [], each.step
        for store in stores:
            assert [name for name in self.site.stored(store) if each.image_id in name] == [], (store, each.step)

    def assert_nothing_left(self, each: Import) -> None:
        self.assert_no_files(each, "zero", *TARGETS)
        assert self.rows(each) == (0, 0, 0), each.step
        assert self.imports.lease(each.image_id) == "free", each.step
        assert self.task(each).status.final, each.step


@pytest.fixture
def world(site: Site, api_server: ApiServer, server: WebServer) -> World:
    stores = {store: {"dir": str(site.home / store)} for store in ("zero", *TARGETS)}
    remote = RemoteGlance(server)
    site.set(
        stores=json.dumps(stores),
        default_store="zero",
        # Real leases, so short that no test waits for them.
        lease__ttl_s="0.6",
        lease__renew_s="0.1",
        imports__enabled_methods="web-download,glance-direct,glance-download,copy-image",
        remotes=json.dumps({"elsewhere": {"url": remote.url}}),
    )
    server.serve("/a.img", BODY)
    return World(AskedImports(site, api_server), server, remote)


def walk(world: World, after: Callable[[list[Import]], None], *, stop: bool, fewest: int = FEWEST_STEPS) -> None:
    """Kill or stop an import at each of its steps; ``after`` continues with several of them at a time."""
    struck: list[Import] = []
    for number in count():
        each = world.ask()
        each.struck = world.carry(each, at=number, stop=stop)
        struck.append(each)
        if len(struck) == AT_ONCE or not each.step:
            after(struck)
            struck.clear()
        if not each.step:
            break
    print(f"{world.method}: {len(world.seen)} steps, {len(set(world.seen))} of them by name: {world.seen}")
    assert len(set(world.seen)) >= fewest, world.seen


def those_struck(imports: list[Import]) -> Iterator[Import]:
    return (each for each in imports if each.step)


METHODS = [ImportMethod.WEB_DOWNLOAD, ImportMethod.GLANCE_DIRECT, ImportMethod.GLANCE_DOWNLOAD, ImportMethod.COPY_IMAGE]


@pytest.mark.parametrize("method", METHODS)
def test_an_import_whose_process_is_killed_at_any_step_becomes_active(world: World, method: ImportMethod) -> None:
    world.method = method

    def after(killed: list[Import]) -> None:
        for each in those_struck(killed):
            world.resume(each)
            world.carry(each)
        world.sweep()
        for each in killed:
            world.assert_active(each)

    walk(world, after, stop=False)


def test_a_stale_worker_that_wakes_after_the_take_over_at_any_step_changes_nothing(world: World) -> None:
    def after(asleep: list[Import]) -> None:
        for each in those_struck(asleep):
            world.resume(each)
            world.carry(each)
        for each in those_struck(asleep):
            go_on(each.struck)
        world.sweep()
        for each in asleep:
            world.assert_active(each)

    walk(world, after, stop=True)


def test_an_image_deleted_at_any_step_of_its_import_leaves_nothing(world: World) -> None:
    def after(standing: list[Import]) -> None:
        for each in standing:
            world.delete(each)
        # What housekeeping removes before the worker wakes must not come back.
        world.sweep()
        for each in those_struck(standing):
            go_on(each.struck)
        world.sweep()
        for each in standing:
            world.assert_nothing_left(each)

    walk(world, after, stop=True)


def test_a_failing_import_whose_process_is_killed_at_any_step_of_its_undo_frees_the_image(world: World) -> None:
    """The second store fails, and all must succeed: the first one's copy is removed."""
    (world.site.home / "two").touch()

    def after(killed: list[Import]) -> None:
        for each in those_struck(killed):
            world.resume(each)
            world.carry(each)
        world.sweep()
        for each in killed:
            image, task = read_image(world.site.catalog, each.image_id), world.task(each)
            assert (image.status, image.import_task) == (ImageStatus.QUEUED, None), each.step
            assert task.status is TaskStatus.FAILURE, each.step
            assert image.import_message == task.message != "", each.step
            assert set(image.failed_import) == set(TARGETS), each.step
            assert world.site.stored("one") == {}, each.step
            world.delete(each)
        world.sweep()
        for each in killed:
            world.assert_nothing_left(each)

    walk(world, after, stop=False)
