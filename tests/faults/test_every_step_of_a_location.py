"""A registration of a location that dies or loses its image at any of its steps leaves the world in order.

The data are in a directory that the store ``one`` has, and belong to somebody else until their image is active.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.images import read_image
from tests.fakes.keystone import SERVICE_PASSWORD, SERVICE_USER, Keystone
from tests.fakes.stepped_import import go_on, import_in_a_process
from tests.fakes.web_server import WebServer, only_sized
from tests.faults.test_every_step import (
    BODY,
    DIGEST,
    Import,
    World,
    api_server,
    server,
    site,
    those_struck,
    walk,
    world,
)
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus

pytestmark = pytest.mark.faults

__all__ = ["api_server", "server", "site", "world"]

FEWEST_STEPS = 6
WRONG = "0" * 128


@dataclass
class Locations:
    """A `World` whose imports register locations as a service.

    Attributes:
        digest: that requests announce; empty: none.
    """

    world: World
    digest: str = ""
    files: dict[str, Path] = field(default_factory=dict)

    def ask(self) -> Import:
        image_id = self.world.imports.create()
        path = self.world.site.home / "one" / f"golden-{len(self.files)}"
        path.write_bytes(BODY)
        self.files[image_id] = path
        body: dict[str, Any] = {"url": f"file://{path}"}
        if self.digest:
            body["validation_data"] = {"os_hash_algo": "sha512", "os_hash_value": self.digest}
        asked = self.world.imports.api("POST", f"/v2/images/{image_id}/locations", json=body)
        assert asked.status_code == 202, asked.text
        return Import(image_id)

    def assert_sound(self, each: Import, step: str) -> None:
        image = read_image(self.world.site.catalog, each.image_id)
        has_data = image.status is ImageStatus.ACTIVE
        assert bool(image.locations) == has_data, step
        assert image.os_hash_value in ((DIGEST,) if has_data and self.digest else (None, DIGEST)), step
        assert self.files[each.image_id].read_bytes() == BODY, step

    def assert_active(self, each: Import) -> None:
        image, task = read_image(self.world.site.catalog, each.image_id), self.world.task(each)
        assert (image.status, task.status) == (ImageStatus.ACTIVE, TaskStatus.SUCCESS), (each.step, task.message)
        assert (image.os_hash_value, image.size, image.importing_to) == (DIGEST, len(BODY), ()), each.step
        assert [location.store for location in image.locations] == ["one"], each.step
        assert self.world.rows(each) == (1, 0, 0), each.step
        assert self.world.imports.lease(each.image_id) == "free", each.step


@pytest.fixture
def locations(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Locations]:
    with Keystone() as keystone:
        world.site.set(
            api__auth="keystone",
            auth__auth_url=keystone.url,
            auth__username=SERVICE_USER,
            auth__password=SERVICE_PASSWORD,
            auth__project_name="service",
        )
        world.imports.token = keystone.token("demo", "nova", roles=["service", "member", "reader"])
        world.imports.api("GET", "/v2/info/stores")
        made = Locations(world)
        monkeypatch.setattr(world, "ask", made.ask)
        monkeypatch.setattr(world, "assert_sound", made.assert_sound)
        yield made


@pytest.mark.parametrize("digest", ["", DIGEST], ids=["hashed-later", "proven-first"])
def test_a_registration_whose_process_is_killed_at_any_step_is_completed(locations: Locations, digest: str) -> None:
    locations.digest, world = digest, locations.world

    def after(killed: list[Import]) -> None:
        for each in those_struck(killed):
            world.resume(each)
            world.carry(each)
        world.sweep()
        for each in killed:
            locations.assert_active(each)

    walk(world, after, stop=False, fewest=FEWEST_STEPS)


def test_a_wrong_digest_frees_the_image_at_whatever_step_the_process_is_killed(locations: Locations) -> None:
    locations.digest, world = WRONG, locations.world

    def after(killed: list[Import]) -> None:
        for each in those_struck(killed):
            world.resume(each)
            world.carry(each)
        world.sweep()
        for each in killed:
            image, task = read_image(world.site.catalog, each.image_id), world.task(each)
            assert (image.status, image.import_task, image.size) == (ImageStatus.QUEUED, None, None), each.step
            assert (task.status, DIGEST in task.message) == (TaskStatus.FAILURE, True), (each.step, task.message)
            assert world.rows(each) == (0, 0, 0), each.step
            world.delete(each)
            assert locations.files[each.image_id].read_bytes() == BODY, each.step

    walk(world, after, stop=False, fewest=FEWEST_STEPS)


def test_an_image_deleted_at_any_step_takes_its_data_along_only_once_it_has_them(locations: Locations) -> None:
    world = locations.world

    def after(standing: list[Import]) -> None:
        had_data = {}
        for each in standing:
            had_data[each.image_id] = bool(read_image(world.site.catalog, each.image_id).locations)
            world.delete(each)
        world.sweep()
        for each in those_struck(standing):
            go_on(each.struck)
        world.sweep()
        for each in standing:
            world.assert_nothing_left(each)
            assert locations.files[each.image_id].exists() != had_data[each.image_id], each.step

    walk(world, after, stop=True, fewest=FEWEST_STEPS)


def test_a_retry_computes_the_digests_that_are_missing(locations: Locations, server: WebServer) -> None:
    world = locations.world
    world.site.set(stores=json.dumps({"zero": {"dir": str(world.site.home / "zero")}, "web": {"type": "http"}}))
    url = server.on("/b.img", only_sized(BODY))
    image_id = world.imports.create()
    asked = world.imports.api("POST", f"/v2/images/{image_id}/locations", json={"url": url})
    assert asked.status_code == 202, asked.text
    each = Import(image_id)
    first = world.task(each)

    def attempt() -> None:
        import_in_a_process(first.method, first.parameters, each.run_id)

    attempt()
    image = read_image(world.site.catalog, image_id)
    assert (image.status, image.os_hash_value, world.task(each).status) == (
        ImageStatus.ACTIVE, None, TaskStatus.FAILURE
    )  # fmt: skip
    server.serve("/b.img", BODY)
    attempt()
    image = read_image(world.site.catalog, image_id)
    assert (image.status, image.os_hash_value, image.size) == (ImageStatus.ACTIVE, DIGEST, len(BODY))
    assert (world.task(each).status, world.task(each).attempt) == (TaskStatus.SUCCESS, 2)
    # There is nothing left to do.
    attempt()
    assert world.task(each).attempt == 2
