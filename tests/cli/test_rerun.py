"""``transship rerun``."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.cli.conftest import Site
from tests.fakes.images_api import FORMATS
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.system import until
from transship.catalog.endings import fail_import
from transship.catalog.imports import begin_import
from transship.catalog.tasks import set_flow_run
from transship.commands.rerun import rerun
from transship.domain.errors import CommandRefused


def active_with_failed(site: Site) -> str:
    image_id = site.api.create(**FORMATS)
    site.api.activate(image_id, b"data", failed={"archive": "store archive is full"})
    return image_id


def test_an_active_image_is_copied_to_the_stores_that_failed(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    image_id = active_with_failed(site)
    site.worker.failure = "still full"
    assert rerun(site.invocation, image_id, "") == 1
    shown = capsys.readouterr().out
    assert "store archive does not have the image (still full)" in shown
    assert f"transship rerun {image_id} --store archive" in shown
    task = site.api.client.get(f"/v2/images/{image_id}/tasks").json()["tasks"][0]
    assert task["input"]["import_req"]["method"] == {"name": "copy-image"}
    assert task["input"]["backend"] == ["archive"]


@pytest.mark.parametrize(("store", "words"), [("", "no store failed"), ("fast", "already present")])
def test_what_did_not_fail_is_not_done_again(site: Site, store: str, words: str) -> None:
    image_id = site.api.active(b"data")
    with pytest.raises(Exception, match=words):
        rerun(site.invocation, image_id, store)


def test_a_copy_is_followed_to_its_end(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    image_id = site.api.create(name="mine", **FORMATS)
    site.api.activate(image_id, b"data", failed={"archive": "store archive is full"})
    site.worker.target = "archive"
    site.worker.changed = b"data"
    assert rerun(site.invocation, "mine", "archive") == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["stores", "archive,", "fast"] in [[words[0], *sorted(words[1:])] for words in shown]


def test_an_image_is_found_by_its_name_if_only_one_has_it(site: Site) -> None:
    first, second = (site.api.create(name="twice", **FORMATS) for _ in range(2))
    with pytest.raises(CommandRefused, match=r"2 images are named twice: .*; name one by its id") as refused:
        rerun(site.invocation, "twice", "")
    assert all(image_id in str(refused.value) for image_id in (first, second))
    with pytest.raises(CommandRefused, match="no import of it has failed"):
        rerun(site.invocation, site.api.create(name="once", **FORMATS), "")
    for wanted in ("nobody", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(CommandRefused, match=rf"{wanted}; 'transship images' lists all"):
            rerun(site.invocation, wanted, "")


def test_an_image_that_was_never_imported_has_nothing_to_do_again(site: Site) -> None:
    with pytest.raises(CommandRefused, match="no import of it has failed"):
        rerun(site.invocation, site.api.create(**FORMATS), "")


@pytest.mark.real
@pytest.mark.parametrize("may_pass", [True, False])
def test_a_run_that_is_retried_in_vain_is_told_with_its_reason(
    site: Site, prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str], *, may_pass: bool
) -> None:
    flow = prefect_server.ask("POST", "/flows/", {"name": "web-download"})
    run_id = prefect_server.ask("POST", "/flow_runs/", {"flow_id": flow["id"], "state": {"type": "FAILED"}})["id"]
    image_id = site.api.create(**FORMATS)
    begun, now = site.api.begin(image_id), datetime.now(UTC)
    with site.api.catalog.write() as connection:
        set_flow_run(connection, begun.task.id, run_id)
    fail_import(
        site.api.catalog, begun.lease, "no luck", {}, rerunnable=may_pass, now=now, time_to_live_h=48, rerun_ttl_s=60.0
    )

    def carry() -> None:
        """Do what a worker does with the run."""
        until(lambda: prefect_server.ask("GET", f"/flow_runs/{run_id}")["state"]["name"] == "AwaitingRetry")
        if may_pass:
            again = begin_import(site.api.catalog, begun.task.id, run_id, "test", ttl_s=60.0, now=now)
            fail_import(
                site.api.catalog,
                again.lease,
                "no luck again",
                {},
                rerunnable=False,
                now=now,
                time_to_live_h=48,
                rerun_ttl_s=60.0,
            )
            return
        end = {"type": "COMPLETED", "name": "Superseded", "message": "Nothing done: start a new import"}
        prefect_server.ask("POST", f"/flow_runs/{run_id}/set_state", {"state": end, "force": True})

    worker = threading.Thread(target=carry)
    worker.start()
    prefect = {"prefect.api_url": prefect_server.url, "prefect.auth_string": prefect_server.auth_string}
    invocation = replace(site.invocation, overrides={**site.invocation.overrides, **prefect})
    if may_pass:
        assert rerun(invocation, image_id, "") == 1
        shown = capsys.readouterr().out
        assert f"/runs/flow-run/{run_id}" in shown
        assert "error: no luck again" in shown
    else:
        with pytest.raises(CommandRefused, match="start a new import"):
            rerun(invocation, image_id, "")
    worker.join()
