"""The life of an import: locked, repeated, changed, deleted, silent, killed; and what is left afterwards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from tasks.sweep import sweep_staging, sweep_stores
from tests.fakes.asked_imports import AskedImports
from tests.fakes.images import NOW
from tests.fakes.running_import import session_of, staged_file, staging_names
from tests.fakes.stepped_import import import_in_a_process
from tests.fakes.system import until
from tests.fakes.web_server import Behaviour, Talk, WebServer
from transship.catalog.endings import end_unheld, resume_or_end
from transship.catalog.imports import Caller, Order, ask_import, begin_import
from transship.catalog.leases import expire_lease, lease_of, renew_lease
from transship.catalog.tasks import tasks_of_image
from transship.domain.clock import utc_now
from transship.domain.errors import AlreadyBeingCopied, LockLost
from transship.domain.image import ImageStatus
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.domain.task import ImportTask, TaskStatus
from transship.keeper.verdict import Action, TimeLimits, judge
from transship.stores.file import FileStore

pytestmark = pytest.mark.real

BODY = os.urandom(300_000)
DIGEST = hashlib.sha512(BODY).hexdigest()


def half_way(act: Callable[[], None]) -> Behaviour:
    """Serve the body; do something when half of it was sent."""

    def behave(talk: Talk) -> None:
        talk.head(200, {"Content-Length": str(len(BODY)), "ETag": '"v1"'})
        talk.send(BODY[: len(BODY) // 2])
        act()
        talk.send(BODY[len(BODY) // 2 :])

    return behave


def assert_active(imports: AskedImports, image_id: str) -> None:
    image = imports.image(image_id)
    assert (image.status, image.importing_to, image.failed_import) == (ImageStatus.ACTIVE, (), ())
    assert (image.os_hash_value, imports.site.stored()) == (DIGEST, {image_id: BODY})
    assert imports.task(image_id).status is TaskStatus.SUCCESS
    assert staging_names(imports.site.settings) == set()
    assert imports.lease(image_id) == "free"


def assert_failed(imports: AskedImports, image_id: str, reason: str) -> None:
    image, task = imports.image(image_id), imports.task(image_id)
    assert (image.status, image.importing_to, image.failed_import) == (ImageStatus.QUEUED, (), ("local",))
    assert task.status is TaskStatus.FAILURE
    assert image.import_message == task.message
    assert reason in task.message
    assert imports.site.stored() == {}
    assert imports.lease(image_id) == "free"


def test_row_28_a_misconfigured_staging_ends_the_import_with_the_reason(
    imports: AskedImports, server: WebServer
) -> None:
    staging = imports.site.home / "no-directory"
    staging.write_text("a file")
    imports.site.set(staging__dir=str(staging))
    _, image_id = imports.bring(server.serve("/a.img", BODY))
    assert_failed(imports, image_id, "staging.dir: cannot be used: Not a directory")
    assert str(imports.site.home) not in imports.task(image_id).message


def test_row_31_a_second_import_while_one_runs_is_a_409_and_changes_nothing(
    imports: AskedImports, server: WebServer
) -> None:
    refused: list[httpx.Response] = []
    image_id = imports.create()
    uri = server.on("/a.img", half_way(lambda: refused.append(imports.ask(image_id, uri))))
    assert imports.ask(image_id, uri).status_code == 202
    imports.carry(image_id)
    assert [answer.status_code for answer in refused] == [409]
    assert len(imports.tasks(image_id)) == 1
    assert_active(imports, image_id)


def test_case_61_a_change_that_is_made_while_an_import_runs_survives_it(
    imports: AskedImports, server: WebServer
) -> None:
    image_id = imports.create(name="before")
    answers: list[int] = []

    def act() -> None:
        answers.append(imports.ask(image_id, uri).status_code)
        answers.append(rename(imports, image_id).status_code)

    uri = server.on("/a.img", half_way(act))
    imports.ask(image_id, uri)
    imports.carry(image_id)
    assert answers == [409, 200]
    assert imports.image(image_id).name == "after"
    assert_active(imports, image_id)


def rename(imports: AskedImports, image_id: str) -> httpx.Response:
    return imports.api(
        "PATCH",
        f"/v2/images/{image_id}",
        json=[{"op": "replace", "path": "/name", "value": "after"}],
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
    )


def test_row_38_a_change_that_is_made_while_a_store_is_written_is_kept(
    imports: AskedImports, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = FileStore.put

    def put_after_a_change(store: FileStore, image_id: str, *arguments: object) -> object:
        assert rename(imports, image_id).status_code == 200
        return put(store, image_id, *arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(FileStore, "put", put_after_a_change)
    _, image_id = imports.bring(server.serve("/a.img", BODY), name="before")
    assert imports.image(image_id).name == "after"
    assert_active(imports, image_id)


def test_row_32_an_image_whose_import_fell_silent_is_freed_and_the_late_worker_changes_nothing(
    imports: AskedImports, server: WebServer
) -> None:
    catalog, uri = imports.site.catalog, server.serve("/a.img", BODY)
    image_id = imports.create()
    imports.ask(image_id, uri)
    silent = begin_import(catalog, imports.task(image_id).id, str(uuid4()), "silent", ttl_s=3600.0, now=NOW)
    assert imports.ask(image_id, uri).status_code == 409
    expire_lease(catalog, silent.lease)
    assert not resume_or_end(
        catalog, image_id, "the worker of this import was lost", crash_retries=0, now=utc_now(), time_to_live_h=1
    )
    assert_failed(imports, image_id, "the worker of this import was lost")
    assert imports.ask(image_id, uri).status_code == 202
    with pytest.raises(LockLost):
        renew_lease(catalog, silent.lease, 60.0)
    imports.carry(image_id)
    assert_active(imports, image_id)


def test_case_62_an_image_whose_copy_fell_silent_stays_active_and_can_be_copied_again(
    imports: AskedImports, server: WebServer
) -> None:
    catalog = imports.site.catalog
    _, image_id = imports.bring(server.serve("/a.img", BODY))
    copy = Order(ImportRequest(ImportMethod.COPY_IMAGE, stores=("other",)), ("other",))
    task = ask_import(catalog, image_id, copy, Caller(), utc_now())
    silent = begin_import(catalog, task.id, str(uuid4()), "silent", ttl_s=3600.0, now=utc_now())
    with pytest.raises(AlreadyBeingCopied):
        ask_import(catalog, image_id, copy, Caller(), utc_now())
    expire_lease(catalog, silent.lease)
    resume_or_end(catalog, image_id, "the worker was lost", crash_retries=0, now=utc_now(), time_to_live_h=1)
    ended = imports.task(image_id)
    assert (ended.id, ended.status) == (task.id, TaskStatus.FAILURE)
    assert "the worker was lost" in ended.message
    assert imports.image(image_id).status is ImageStatus.ACTIVE
    assert ask_import(catalog, image_id, copy, Caller(), utc_now()).status is TaskStatus.PENDING


def task_of_gone(imports: AskedImports, image_id: str) -> ImportTask:
    """Return the newest task of an image that is gone."""
    with imports.site.catalog.read() as connection:
        return tasks_of_image(connection, image_id, utc_now())[0]


@pytest.mark.parametrize("moment", ["while it is fetched", "while it waits", "when it is active"])
def test_row_33_an_image_that_is_deleted_in_whatever_state_leaves_nothing(
    imports: AskedImports, server: WebServer, moment: str
) -> None:
    image_id = imports.create()
    delete = lambda: gone.append(imports.api("DELETE", f"/v2/images/{image_id}").status_code)  # noqa: E731 - told twice
    gone: list[int] = []
    fetched = moment == "while it is fetched"
    imports.ask(image_id, server.on("/a.img", half_way(delete if fetched else lambda: None)))
    task_id = imports.task(image_id).id
    if moment == "while it waits":
        delete()
    else:
        imports.carry(image_id)
    if moment == "when it is active":
        delete()
    assert gone == [204]
    assert imports.api("GET", f"/v2/images/{image_id}").status_code == 404
    ended = task_of_gone(imports, image_id)
    assert (ended.id, ended.status.final) == (task_id, True)
    sweep_staging.fn("here")
    assert (imports.site.stored(), staging_names(imports.site.settings)) == ({}, set())
    assert imports.lease(image_id) == "free"


def test_case_64_a_delete_in_the_middle_of_an_import_ends_its_task_with_the_reason(
    imports: AskedImports, server: WebServer
) -> None:
    image_id = imports.create()
    gone: list[int] = []
    uri = server.on(
        "/a.img", half_way(lambda: gone.append(imports.api("DELETE", f"/v2/images/{image_id}").status_code))
    )
    imports.ask(image_id, uri)
    imports.carry(image_id)
    task = task_of_gone(imports, image_id)
    assert (gone, task.status, task.message) == ([204], TaskStatus.FAILURE, "the image was deleted")
    assert (imports.site.stored(), staging_names(imports.site.settings)) == ({}, set())


def killed_at(imports: AskedImports, uri: str, step: int) -> str:
    """Request an import, kill its process at a step, and act as the keeper."""
    imports.site.set(lease__ttl_s="0.6", lease__renew_s="0.1")
    image_id = imports.create()
    imports.ask(image_id, uri)
    assert carry_in_a_process(imports, image_id, str(uuid4()), at=step)

    def over() -> bool:
        with imports.site.catalog.read() as connection:
            return lease_of(connection, image_id).expired

    until(over, 180.0, "the end of the lease")
    assert imports.image(image_id).status is ImageStatus.IMPORTING
    assert resume_or_end(
        imports.site.catalog, image_id, "the worker was lost", crash_retries=3, now=utc_now(), time_to_live_h=1
    )
    assert imports.task(image_id).status is TaskStatus.PENDING
    return image_id


def test_row_34_an_import_whose_process_is_killed_goes_on_by_itself(imports: AskedImports, server: WebServer) -> None:
    image_id = killed_at(imports, server.serve("/a.img", BODY), 6)
    carry_on(imports, image_id)
    assert_active(imports, image_id)


def test_case_63_an_import_whose_process_is_killed_while_a_store_is_written_leaves_no_orphan(
    imports: AskedImports, server: WebServer
) -> None:
    image_id = killed_at(imports, server.serve("/a.img", BODY), 17)
    carry_on(imports, image_id)
    assert_active(imports, image_id)
    assert sweep_stores.fn().unknown == ()


def carry_on(imports: AskedImports, image_id: str) -> None:
    """Restart the import's run in another process."""
    assert not carry_in_a_process(imports, image_id, str(imports.task(image_id).flow_run_id))


def carry_in_a_process(imports: AskedImports, image_id: str, run_id: str, *, at: int = -1) -> str:
    """Carry an image's newest task in another process; return the step at which it died."""
    task = imports.task(image_id)
    return import_in_a_process(task.method, task.parameters, run_id, at=at).step


def test_row_35_an_import_that_no_worker_takes_is_pending_and_ends_with_a_reason_after_its_time(
    imports: AskedImports, server: WebServer
) -> None:
    image_id = imports.create()
    imports.ask(image_id, server.serve("/a.img", BODY))
    task = imports.task(image_id)
    assert (task.status, imports.lease(image_id)) == (TaskStatus.PENDING, "queued")
    with imports.site.catalog.read() as connection:
        lease = lease_of(connection, image_id)
    assert judge(task, lease, None, TimeLimits(7200.0, 90.0)).action is Action.NOTHING
    verdict = judge(task, lease, None, TimeLimits(-1.0, 90.0))
    assert verdict.action is Action.END
    assert end_unheld(imports.site.catalog, task.id, verdict.reason, now=utc_now(), time_to_live_h=1)
    assert_failed(imports, image_id, "ask the operator whether workers are running")


def test_case_65_of_what_lies_in_staging_only_the_files_of_deleted_images_go(
    imports: AskedImports, server: WebServer
) -> None:
    catalog, settings = imports.site.catalog, imports.site.settings
    names: list[str] = []
    for _ in range(2):
        image_id = imports.create()
        imports.ask(image_id, server.serve("/a.img", BODY))
        begun = begin_import(catalog, imports.task(image_id).id, str(uuid4()), "test", ttl_s=3600.0, now=utc_now())
        with session_of(settings, catalog, begun) as session:
            names.append(staged_file(session, b"data").name)
    # The API of another host: it cannot remove what lies here.
    imports.site.set(host_name="elsewhere")
    assert imports.api("DELETE", f"/v2/images/{names[0][:36]}").status_code == 204
    assert names[0] in staging_names(settings)
    (settings.staging_dir / "notes.txt").write_text("mine")
    swept = sweep_staging.fn("here")
    assert (swept.removed, swept.unknown) == ((names[0],), ("staging:here notes.txt",))
    assert staging_names(settings) == {names[1], "notes.txt"}
