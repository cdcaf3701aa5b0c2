from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import openstack
import pytest
import requests

from tests.fakes.system import System, assert_holds, openstack_command, until
from tests.fakes.web_server import Behaviour, WebServer, answer, cut, redirect, whole

pytestmark = pytest.mark.real

BODY = b"a disk" * 50_000


def test_an_image_at_a_url_becomes_active_in_the_store(system: System, source: WebServer) -> None:
    image = system.import_from(source.serve("/plain.img", BODY), name="plain")
    assert_holds(system, image, BODY)
    assert image["stores"] == "local"
    assert (image["os_glance_importing_to_stores"], image["os_glance_failed_import"]) == ("", "")
    assert "os_glance_import_task" not in image
    assert not [name for name in system.staged() if str(image["id"]) in name]


def test_people_can_read_the_run_in_prefect(system: System, source: WebServer) -> None:
    image_id = str(system.import_from(source.serve("/named.img", BODY), name="debian-12")["id"])
    run = until(lambda: _ended_run(system, image_id), 180.0, "end of the flow run")
    assert run["name"] == f"web-download debian-12 {image_id[:8]}"
    assert (run["state"]["name"], run["state"]["message"]) == ("Imported", "imported to local")
    names = until(lambda: _task_run_names(system, run["id"], "finish"), 180.0, "task runs")
    assert {"validate uri", "place local", "digest", "finish"} <= names
    artifacts = system.prefect("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    assert {"table"} <= {artifact["type"] for artifact in artifacts}


def _ended_run(system: System, image_id: str) -> dict[str, object] | None:
    run = system.flow_run(image_id)
    return run if run["state"]["type"] == "COMPLETED" else None


def _task_run_names(system: System, run_id: object, last: str) -> set[str]:
    runs = system.prefect("POST", "/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run_id]}}})
    names = {str(run["name"]) for run in runs}
    return names if last in names else set()


def test_the_task_tells_what_the_request_was_and_what_came_of_it(system: System, source: WebServer) -> None:
    image_id = system.create(name="told")
    asked = system.ask(image_id, source.serve("/told.img", BODY) + "?signature=secret")
    system.ended(image_id)
    task = system.task(image_id)
    assert asked.headers["x-openstack-request-id"] == task["request_id"]
    assert (task["status"], task["result"]) == ("success", {"image_id": image_id})
    assert task["input"]["import_req"]["method"]["name"] == "web-download"
    assert "secret" not in str(task)
    run = system.flow_run(image_id)
    assert "secret" not in str(run)
    assert "secret" not in system.logs()


def test_a_second_import_while_one_runs_is_refused_and_changes_nothing(system: System, source: WebServer) -> None:
    image_id = system.create()
    uri = source.serve("/twice.img", BODY)
    assert system.ask(image_id, uri).status_code == 202
    first = system.task(image_id)["id"]
    assert system.ask(image_id, uri).status_code == 409
    assert system.task(image_id)["id"] == first
    assert system.ended(image_id)["status"] == "success"


def test_the_openstack_command_imports_without_further_options(system: System, source: WebServer) -> None:
    uri = source.serve("/cli.img", BODY)
    arguments = ("image", "create", "--disk-format", "raw", "--container-format", "bare", "--import")
    image_id = openstack_command(system, *arguments[:-1], "-f", "value", "-c", "id", "by-cli")
    openstack_command(system, "image", "import", "--method", "web-download", "--uri", uri, image_id)
    system.ended(image_id)
    assert_holds(system, system.image(image_id), BODY)
    assert openstack_command(system, "image", "show", "-f", "value", "-c", "status", image_id) == "active"


# The SDK warns of its own future all over.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openstacksdk_imports(system: System, source: WebServer) -> None:
    uri = source.serve("/sdk.img", BODY)
    cloud = openstack.connect(
        load_envvars=False, load_yaml_config=False, auth_type="none", endpoint=system.settings.api_url
    )
    image = cloud.image.create_image("by-sdk", disk_format="raw", container_format="bare", allow_duplicates=True)
    cloud.image.import_image(image, method="web-download", uri=uri)
    found = cloud.image.wait_for_status(cloud.image.get_image(image.id), "active", interval=1, wait=300)
    assert found.size == len(BODY)
    assert b"".join(cloud.image.download_image(image.id, stream=True).iter_content(65536)) == BODY
    cloud.close()


def test_a_run_started_by_hand_makes_and_fills_an_image(system: System, source: WebServer) -> None:
    uri = source.serve("/by-hand.img", BODY)
    deployment = system.prefect("GET", "/deployments/name/web-download/web-download")
    parameters = {"uri": uri, "stores": ["local"], "disk_format": "raw", "container_format": "bare"}
    run = system.prefect("POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})

    def ended() -> bool:
        state = system.prefect("GET", f"/flow_runs/{run['id']}")["state"]
        return bool(state["type"] in ("COMPLETED", "FAILED", "CRASHED"))

    until(ended, 180.0, "the run started by hand")
    images = system.api("GET", "/v2/images?name=by-hand.img").json()["images"]
    assert len(images) == 1
    assert_holds(system, images[0], BODY)


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("http://user:password@host/x.img", id="user info"),
        pytest.param("http://host/x.img?token=1", id="query"),
        pytest.param("ftp://host/x.img", id="scheme"),
    ],
)
def test_a_run_started_by_hand_refuses_what_everybody_could_read(system: System, uri: str) -> None:
    deployment = system.prefect("GET", "/deployments/name/web-download/web-download")
    run = system.prefect("POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": {"uri": uri}})

    def ended() -> str:
        state = system.prefect("GET", f"/flow_runs/{run['id']}")["state"]
        return str(state["message"]) if state["type"] == "FAILED" else ""

    assert "URL" in until(ended, 180.0, "refusal")


def test_nobody_reaches_prefect_without_the_password(system: System) -> None:
    for path in ("/flow_runs/filter", "/block_documents/filter"):
        assert requests.post(system.settings.prefect_api_url + path, json={}, timeout=120).status_code == 401


def test_the_import_command_brings_a_local_file_and_compares_the_digest(system: System, tmp_path: Path) -> None:
    image = tmp_path / "local.raw"
    image.write_bytes(BODY)
    done = system.command("import", str(image))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sha512 matches the source" in done.stdout
    assert system.command("status").returncode == 0
    assert "local.raw" in system.command("images").stdout


def test_the_import_command_fails_with_the_reason(system: System, source: WebServer) -> None:
    done = system.command("import", source.url("/nothing-here.img"), "--disk-format", "raw")
    assert done.returncode == 1
    assert "404" in done.stdout + done.stderr


BAD: Mapping[str, tuple[Behaviour, Mapping[str, object], str]] = {
    "missing": (answer(404), {}, "404"),
    "web page": (whole(b"<!doctype html><html></html>", headers={"Content-Type": "text/html"}), {}, "web page"),
    "always truncated": (cut(BODY, 1000, etag=""), {}, "truncated"),
    "empty": (whole(b""), {}, "empty"),
    "wrong format": (whole(BODY), {"disk_format": "qcow2"}, "disk_format"),
    "forbidden redirect": (redirect("http://169.254.169.254/latest"), {}, "not accepted"),
    "gzip declared as a disk": (whole(gzip.compress(BODY)), {"disk_format": "qcow2"}, "disk_format"),
    "too large": (answer(200, {"Content-Length": str(2 << 40)}), {}, "larger"),
}


@pytest.fixture(scope="module")
def refused(system: System, source: WebServer) -> Mapping[str, str]:
    """Images whose imports cannot succeed, all asked for at once; image id by case."""
    images = {}
    for number, (name, (behaviour, body, _)) in enumerate(BAD.items()):
        images[name] = system.create(name=name, **body)
        asked = system.ask(images[name], source.on(f"/bad/{number}", behaviour))
        assert asked.status_code == 202, asked.text
    return images


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_its_reason_and_leaves_nothing(
    system: System, source: WebServer, refused: Mapping[str, str], case: str
) -> None:
    image_id, reason = refused[case], BAD[case][2]
    task = system.ended(image_id)
    image = system.image(image_id)
    assert (task["status"], image["status"]) == ("failure", "queued")
    assert reason in task["message"]
    assert image["os_glance_import_message"] == task["message"]
    assert (image["os_glance_importing_to_stores"], image["os_glance_failed_import"]) == ("", "local")
    assert image_id not in system.stored()
    # A part that the source allows to continue may stay; none of these does.
    assert not [name for name in system.staged() if image_id in name]
    assert system.ask(image_id, source.serve("/good.img", BODY)).status_code == 202
