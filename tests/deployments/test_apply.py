"""The effects of applying to a real Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.automations import Automation, EventTrigger
from prefect.exceptions import ObjectNotFound

from blocks import FileStoreBlock
from config.settings import FileStoreSettings, Settings, store_limit_name
from config.settings.stores import KINDS, SHARED_KINDS
from deployments.apply import apply
from deployments.automations import NAME
from deployments.change import Action, Change
from deployments.fingerprint import APPLIED_VARIABLE
from tests.fakes.prefect_server import PrefectServer
from transship.domain.errors import ConfigurationRefused, ServiceRefused, ServiceUnreachable

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = (
    "glance-direct/glance-direct",
    "web-download/web-download",
    "glance-download/glance-download",
    "copy-image/copy-image",
    "location-import/location-import",
    "housekeeping/housekeeping",
    "test-store/test-store",
    "verify-images/verify-images",
)
WRITTEN = (
    *("name", "flow_id", "entrypoint", "version", "description", "tags", "parameter_openapi_schema"),
    *("enforce_parameter_schema", "work_pool_name", "work_queue_name", "pull_steps"),
)
"""What one may write of a deployment."""
OF_THE_MOMENT = {"id", "created", "updated", "flow_id", "work_queue_id", "last_polled", "status", "version_id"}


@pytest.fixture
def server(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    with prefect_server.as_client():
        yield prefect_server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose pool and store no other test uses."""
    unique = uuid4().hex[:8]
    return Settings.model_validate(
        {
            "home": tmp_path,
            "host_name": "here",
            "prefect": {"work_pool": f"pool-{unique}"},
            "stores": {f"fast-{unique}": {"dir": tmp_path / "images", "weight": 3}},
            "default_store": f"fast-{unique}",
        }
    )


def store_of(settings: Settings) -> str:
    return settings.default_store


def configured_anew(settings: Settings, **changes: object) -> Settings:
    store = settings.all_stores[store_of(settings)].model_copy(update=changes)
    return settings.model_copy(update={"stores": {store_of(settings): store}})


def without_deployments() -> None:
    with get_client(sync_client=True) as client:
        for name in DEPLOYMENTS:
            try:
                client.delete_deployment(client.read_deployment_by_name(name).id)
            except ObjectNotFound:
                continue


def deployments() -> dict[str, dict[str, Any]]:
    with get_client(sync_client=True) as client:
        found = {name: client.read_deployment_by_name(name).model_dump(mode="json") for name in DEPLOYMENTS}
    return {name: _lasting(one) for name, one in found.items()}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(one) for name, one in value.items() if name not in {*OF_THE_MOMENT, "deployment_id"}}
    if isinstance(value, list):
        return [_lasting(one) for one in value]
    return value


def saved_block(store_id: str) -> FileStoreBlock:
    return cast(FileStoreBlock, FileStoreBlock.load(store_id))


def actions(changes: tuple[Change, ...], kind: str) -> list[Action]:
    return [change.action for change in changes if change.kind == kind]


def test_the_first_apply_creates_and_the_second_changes_nothing(server: PrefectServer, settings: Settings) -> None:
    without_deployments()

    first, second = apply(settings), apply(settings)

    pool, store = settings.prefect.work_pool, store_of(settings)
    assert [(change.kind, change.name) for change in first] == [
        ("work pool", pool),
        ("work queue", f"{pool}/default"),
        ("work queue", f"{pool}/host-here"),
        *(("block type", kind.slug) for kind in (*SHARED_KINDS, *KINDS.values())),
        ("store block", f"image-store-file/{store}"),
        *(("deployment", name) for name in DEPLOYMENTS),
        ("automation", NAME),
    ]
    for kind in ("work pool", "store block", "deployment"):
        assert set(actions(first, kind)) == {Action.CREATED}
    assert {change.action for change in second} == {Action.UNCHANGED}


def automations() -> list[Automation]:
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/automations/filter", json={"automations": {"name": {"any_": [NAME]}}})
    return Automation.model_validate_list(found.json())


def _core(automation: Automation) -> dict[str, Any]:
    """The writable fields of an automation."""
    return automation.model_dump(mode="json", include={"name", "description", "enabled", "trigger", "actions"})


def test_the_logo_of_a_block_type_comes_from_the_server_itself(server: PrefectServer, settings: Settings) -> None:
    apply(settings)
    found = server.ask("GET", f"/block_types/slug/{FileStoreBlock.get_block_type_slug()}")
    path = found["logo_url"].removeprefix(server.url.removesuffix("/api") + "/")
    assert path != found["logo_url"]
    assert (Path(prefect.__file__).parent / "server" / "ui" / path).is_file()


def test_lost_runs_have_one_automation_however_often_one_applies(server: PrefectServer, settings: Settings) -> None:
    apply(settings)
    apply(settings)

    (automation,) = automations()
    trigger = automation.trigger
    assert isinstance(trigger, EventTrigger)
    with get_client(sync_client=True) as client:
        ids = {f"prefect.deployment.{client.read_deployment_by_name(name).id}" for name in DEPLOYMENTS}
    assert set(trigger.match_related.root["prefect.resource.id"]) == ids
    assert [action.type for action in automation.actions] == ["change-flow-run-state"]


def test_an_automation_that_was_switched_off_stays_off_and_is_mended_otherwise(
    server: PrefectServer, settings: Settings
) -> None:
    apply(settings)
    (before,) = automations()
    edited = _core(before) | {"enabled": False, "description": "mine"}
    server.ask("PUT", f"/automations/{before.id}", edited)

    (change,) = [change for change in apply(settings) if change.kind == "automation"]

    assert (change.action, change.detail) == (Action.UPDATED, "description")
    (after,) = automations()
    assert (after.id, after.enabled, after.description) == (before.id, False, before.description)
    server.ask("PATCH", f"/automations/{before.id}", {"enabled": True})


def test_automations_that_two_made_at_once_become_one(server: PrefectServer, settings: Settings) -> None:
    apply(settings)
    (one,) = automations()
    server.ask("POST", "/automations/", _core(one))

    apply(settings)

    assert len(automations()) == 1


def delete_deployment(server: PrefectServer) -> None:
    server.ask("DELETE", f"/deployments/{server.ask('GET', '/deployments/name/copy-image/copy-image')['id']}")


def edit_tags(server: PrefectServer) -> None:
    found = server.ask("GET", "/deployments/name/copy-image/copy-image")
    server.ask("PATCH", f"/deployments/{found['id']}", {"tags": ["edited"]})


def make_deployment_anew(server: PrefectServer) -> None:
    found = server.ask("GET", "/deployments/name/copy-image/copy-image")
    delete_deployment(server)
    server.ask("POST", "/deployments/", {name: found[name] for name in WRITTEN})


def forget_everything(server: PrefectServer) -> None:
    server.ask("DELETE", f"/variables/name/{APPLIED_VARIABLE}")


def delete_store_block(server: PrefectServer, settings: Settings) -> None:
    slug = FileStoreBlock.get_block_type_slug()
    found = server.ask("GET", f"/block_types/slug/{slug}/block_documents/name/{store_of(settings)}")
    server.ask("DELETE", f"/block_documents/{found['id']}")


def delete_limit(server: PrefectServer, settings: Settings) -> None:
    server.ask("DELETE", f"/v2/concurrency_limits/{store_limit_name(store_of(settings))}")


def delete_automation(server: PrefectServer, _settings: Settings) -> None:
    [found] = automations()
    server.ask("DELETE", f"/automations/{found.id}")


def edit_job_template(server: PrefectServer, settings: Settings) -> None:
    server.ask("PATCH", f"/work_pools/{settings.prefect.work_pool}", {"base_job_template": {}})


@pytest.mark.parametrize(
    ("change", "kind", "action"),
    [
        (delete_store_block, "store block", Action.CREATED),
        (delete_limit, "limit", Action.CREATED),
        (delete_automation, "automation", Action.CREATED),
        (edit_job_template, "work pool", Action.UPDATED),
    ],
)
def test_what_was_deleted_in_prefect_is_made_again(
    server: PrefectServer,
    settings: Settings,
    change: Callable[[PrefectServer, Settings], None],
    kind: str,
    action: Action,
) -> None:
    slots = settings.imports.model_copy(update={"store_slots": {store_of(settings): 2}})
    settings = settings.model_copy(update={"imports": slots})
    apply(settings)
    assert apply(settings, if_changed=True) == ()

    change(server, settings)

    assert actions(apply(settings, if_changed=True), kind) == [action]
    assert apply(settings, if_changed=True) == ()


@pytest.mark.parametrize("change", [delete_deployment, edit_tags, make_deployment_anew, forget_everything])
def test_what_has_changed_in_prefect_is_applied_again(
    server: PrefectServer, settings: Settings, change: Callable[[PrefectServer], None]
) -> None:
    made = deployments_of(apply(settings))
    assert apply(settings, if_changed=True) == ()

    change(server)

    again = apply(settings, if_changed=True)
    assert deployments_of(again) == made
    assert set(actions(apply(settings), "deployment")) == {Action.UNCHANGED}
    assert apply(settings, if_changed=True) == ()


def deployments_of(changes: tuple[Change, ...]) -> list[str]:
    return [change.name for change in changes if change.kind == "deployment"]


def test_changed_settings_are_applied_and_the_same_ones_are_only_looked_up(
    server: PrefectServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(settings)
    changed = configured_anew(settings, weight=9)
    assert actions(apply(changed, if_changed=True), "store block") == [Action.UPDATED]
    limited = changed.model_copy(
        update={"imports": changed.imports.model_copy(update={"store_slots": {store_of(settings): 2}})}
    )
    assert actions(apply(limited, if_changed=True), "limit") == [Action.CREATED]
    sent: list[str] = []
    send = httpx.AsyncClient.send

    async def counted(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        sent.append(request.url.path)
        return await send(client, request, **options)

    monkeypatch.setattr(httpx.AsyncClient, "send", counted)
    assert apply(limited, if_changed=True) == ()
    of_every_client = {"/api/admin/version", "/api/csrf-token"}
    ours = sorted(path for path in sent if path not in of_every_client)
    store, limit = store_of(settings), store_limit_name(store_of(settings))
    slug = FileStoreBlock.get_block_type_slug()
    assert ours == [
        "/api/automations/filter",
        f"/api/block_types/slug/{slug}/block_documents/name/{store}",
        "/api/deployments/filter",
        f"/api/v2/concurrency_limits/{limit}",
        f"/api/variables/name/{APPLIED_VARIABLE}",
        f"/api/work_pools/{settings.prefect.work_pool}",
    ]
    monkeypatch.undo()
    assert apply(settings, if_changed=True) != ()


def test_an_apply_that_failed_is_done_again(server: PrefectServer, settings: Settings, tmp_path: Path) -> None:
    apply(settings)
    definitions = tmp_path / "prefect.yaml"
    definitions.write_text(DEFINITION.format(module="flows.nowhere"))
    with pytest.raises(ConfigurationRefused):
        apply(configured_anew(settings, weight=9), definitions=definitions)

    assert actions(apply(settings, if_changed=True), "store block") == [Action.UPDATED]


def test_what_is_to_be_overwritten_is_overwritten_though_nothing_has_changed(
    server: PrefectServer, settings: Settings
) -> None:
    apply(settings)
    block = saved_block(store_of(settings))
    block.weight = 7
    block.save(store_of(settings), overwrite=True)
    assert apply(settings, if_changed=True) == ()

    assert actions(apply(settings, if_changed=True, overwrite=True), "store block") == [Action.UPDATED]


def test_prefect_deploy_makes_the_same_deployments(server: PrefectServer, settings: Settings) -> None:
    settings = settings.model_copy(update={"prefect": settings.prefect.model_copy(update={"work_pool": "imports"})})
    without_deployments()
    apply(settings)
    ours = deployments()
    without_deployments()

    deployed = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        env={**os.environ, **server.environment},
        capture_output=True,
        text=True,
        check=False,
    )

    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert deployments() == ours
    assert set(actions(apply(settings), "deployment")) == {Action.UNCHANGED}


def test_an_edit_of_a_store_in_prefect_is_kept_until_told_otherwise(server: PrefectServer, settings: Settings) -> None:
    apply(settings)
    store = store_of(settings)
    block = saved_block(store)
    block.weight = 7
    block.save(store, overwrite=True)

    for _ in range(2):
        kept = next(change for change in apply(settings) if change.kind == "store block")
        assert (kept.action, kept.detail) == (Action.KEPT, "weight: 7 in Prefect, 3 configured")
        assert saved_block(store).weight == 7

    assert actions(apply(settings, overwrite=True), "store block") == [Action.UPDATED]
    assert saved_block(store).weight == 3
    assert actions(apply(settings), "store block") == [Action.UNCHANGED]


def test_a_change_of_the_configuration_reaches_a_block_that_nobody_edited(
    server: PrefectServer, settings: Settings
) -> None:
    apply(settings)

    changes = apply(configured_anew(settings, weight=9))

    assert actions(changes, "store block") == [Action.UPDATED]
    assert saved_block(store_of(settings)).weight == 9


def test_an_edit_outlives_a_change_of_the_configuration(server: PrefectServer, settings: Settings) -> None:
    apply(settings)
    store = store_of(settings)
    block = saved_block(store)
    block.description = "edited"
    block.save(store, overwrite=True)

    assert actions(apply(configured_anew(settings, weight=9)), "store block") == [Action.KEPT]
    assert saved_block(store).description == "edited"


def test_what_operators_set_on_pool_queue_and_deployment_stays(server: PrefectServer, settings: Settings) -> None:
    apply(settings)
    pool = settings.prefect.work_pool
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("housekeeping/housekeeping")
        base = f"/deployments/{found.id}"
        schedule = {"schedule": {"cron": "0 3 * * *", "timezone": "UTC"}, "active": False}
        server.ask("POST", f"{base}/schedules", [schedule])
        server.ask("PATCH", base, {"tags": ["edited"], "paused": True})
        server.ask("PATCH", f"/work_pools/{pool}", {"concurrency_limit": 2, "base_job_template": {}})
        server.ask("PATCH", f"/work_pools/{pool}/queues/host-here", {"priority": 1, "concurrency_limit": 5})

    changes = {change.name: change for change in apply(settings)}

    assert (changes[pool].action, changes[pool].detail) == (Action.UPDATED, "job template")
    assert changes[f"{pool}/host-here"].action is Action.UNCHANGED
    updated = changes["housekeeping/housekeeping"]
    assert updated.action is Action.UPDATED
    assert "tags" in updated.detail
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("housekeeping/housekeeping")
        assert (found.tags, found.paused, found.schedules[0].active) == (["transship", "housekeeping"], True, False)
        assert client.read_work_pool(pool).concurrency_limit == 2
        assert client.read_work_queue_by_name("host-here", work_pool_name=pool).concurrency_limit == 5
    without_deployments()


def test_a_schedule_is_off_until_an_operator_switches_it_on(server: PrefectServer, settings: Settings) -> None:
    apply(settings)
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("verify-images/verify-images")
        (schedule,) = found.schedules
        assert (schedule.schedule.model_dump()["cron"], schedule.active) == ("0 1 * * 6", False)
        client.update_deployment_schedule(found.id, schedule.id, active=True)
    assert Action.UPDATED not in actions(apply(settings), "deployment")
    with get_client(sync_client=True) as client:
        assert client.read_deployment_by_name("verify-images/verify-images").schedules[0].active
    without_deployments()


def test_deployments_of_former_releases_are_removed_with_their_schedules(
    server: PrefectServer, settings: Settings
) -> None:
    apply(settings)
    found = server.ask("GET", "/deployments/name/housekeeping/housekeeping")
    schedule = {"schedule": {"cron": "*/10 * * * *", "timezone": "UTC"}, "active": True}
    former = {**{name: found[name] for name in WRITTEN}, "name": "transship", "schedules": [schedule]}
    mine = {**former, "name": "mine"}
    kept, gone = (server.ask("POST", "/deployments/", one)["id"] for one in (mine, former))

    changes = apply(settings)

    assert [change.name for change in changes if change.action is Action.REMOVED] == ["housekeeping/transship"]
    with get_client(sync_client=True) as client:
        assert client.read_deployment(kept).schedules
        with pytest.raises(ObjectNotFound):
            client.read_deployment(gone)
        client.delete_deployment(kept)
    assert Action.REMOVED not in actions(apply(settings), "deployment")


def test_a_run_that_waits_is_not_lost_when_its_deployment_is_updated(server: PrefectServer, settings: Settings) -> None:
    apply(settings)
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("housekeeping/housekeeping")
        run = server.ask("POST", f"/deployments/{found.id}/create_flow_run", {})["id"]
        server.ask("PATCH", f"/deployments/{found.id}", {"tags": ["edited"]})

    assert Action.UPDATED in actions(apply(settings), "deployment")

    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run).state_type is StateType.SCHEDULED
        server.ask("DELETE", f"/flow_runs/{run}")


def test_a_pool_of_another_type_is_refused(server: PrefectServer, settings: Settings) -> None:
    server.ask("POST", "/work_pools/", {"name": settings.prefect.work_pool, "type": "docker"})

    with pytest.raises(ConfigurationRefused, match="of type docker"):
        apply(settings)


def test_a_wrong_log_in_and_a_server_that_is_away_are_told_apart(server: PrefectServer, settings: Settings) -> None:
    away = PrefectServer()
    with away.as_client(), pytest.raises(ServiceUnreachable, match="Prefect at http://127"):
        apply(settings)

    away.url = server.url
    with away.as_client(), pytest.raises(ServiceRefused) as refused:
        apply(settings)
    assert refused.value.status == 401


PROBE = """
import json, sys
from pathlib import Path
from prefect import flow

@flow(name="{name}")
def probe(path: str) -> None:
    Path(path).write_text(json.dumps(sys.executable))
"""

DEFINITION = """
name: transship
pull: []
deployments:
  - name: transship
    entrypoint: {module}.probe
    version_type: prefect:simple
    tags: [transship]
    enforce_parameter_schema: true
    work_pool: {{name: imports, work_queue_name: default}}
"""


def test_any_worker_runs_flows_with_its_own_interpreter_whatever_its_path(
    server: PrefectServer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "probe_" + "".join(chr(ord("a") + int(digit, 16)) for digit in uuid4().hex[:8])
    (tmp_path / f"{module}.py").write_text(PROBE.format(name=module))
    definitions = tmp_path / "prefect.yaml"
    definitions.write_text(DEFINITION.format(module=module))
    monkeypatch.syspath_prepend(tmp_path)
    apply(settings, definitions=definitions)
    found_at = tmp_path / "found"
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{module}/transship")
        asked = {"parameters": {"path": str(found_at)}}
        run = server.ask("POST", f"/deployments/{deployment.id}/create_flow_run", asked)["id"]

    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "prefect", "worker", "start", "--run-once"),
            *("--pool", settings.prefect.work_pool, "--type", "process", "-q", "default"),
        ],
        env={**os.environ, **server.environment, "PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _ = worker.communicate(timeout=540)

    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run).state_type is StateType.COMPLETED, output
    assert json.loads(found_at.read_text()) == sys.executable


def test_a_flow_that_does_not_exist_is_named(server: PrefectServer, settings: Settings, tmp_path: Path) -> None:
    definitions = tmp_path / "prefect.yaml"
    definitions.write_text(DEFINITION.format(module="flows.nowhere"))

    with pytest.raises(ConfigurationRefused, match=r"flows\.nowhere"):
        apply(settings, definitions=definitions)


def test_the_settings_of_a_store_survive_the_way_through_its_block(tmp_path: Path) -> None:
    settings = FileStoreSettings(dir=tmp_path, description="SSD", weight=4, file_mode="0600")

    assert FileStoreBlock.of(settings).settings() == settings
