"""``POST …/import`` and the resulting tasks."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from config.settings import DownloadSettings, UriSettings
from tests.fakes.images_api import FORMATS, SOURCE, ApiMaker, ImagesApi
from transship.catalog.bell import Ring
from transship.catalog.schema import OUTBOX, TASKS
from transship.catalog.tasks import read_secrets, report_progress
from transship.domain.task import StoreProgress, TaskProgress
from transship.keeper.waking import Wakeups

WEB: dict[str, Any] = {"method": {"name": "web-download", "uri": SOURCE}}


def _import(api: ImagesApi, image_id: str, body: object, **headers: str) -> Any:
    return api.client.post(
        f"/v2/images/{image_id}/import", json=body, headers={"Accept": "application/json", **headers}
    )


def _tasks(api: ImagesApi, image_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.client.get(f"/v2/images/{image_id}/tasks").json()["tasks"]
    return found


def test_an_accepted_import_is_an_empty_202_that_leaves_task_lock_and_message_to_the_keeper(api: ImagesApi) -> None:
    image_id = api.create(**FORMATS)
    answer = _import(api, image_id, WEB)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (202, b"", "0")
    task = _tasks(api, image_id)[0]
    assert task["request_id"] == answer.headers["x-openstack-request-id"]
    image = api.image(image_id)
    assert (image["status"], image["os_glance_import_task"]) == ("importing", task["id"])
    assert (image["os_glance_importing_to_stores"], image["os_glance_failed_import"]) == ("fast", "")
    with api.catalog.read() as connection:
        assert connection.execute(OUTBOX.select()).one().task_id == task["id"]


def test_an_accepted_import_and_a_deleted_image_ring_for_the_keeper(make_api: ApiMaker) -> None:
    api = make_api(notifications={"drivers": ["log"]})
    api.settings.run_dir.mkdir()
    with closing(Wakeups(api.settings, api.catalog)) as wakeups:
        # On PostgreSQL it listens from the first wait on.
        wakeups.wait(0)
        image_id = api.create(**FORMATS)
        assert wakeups.wait(60) == {Ring.NEWS}
        assert _import(api, image_id, WEB).status_code == 202
        assert Ring.WORK in wakeups.wait(60)
        wakeups.wait(0.5)
        assert api.client.delete(f"/v2/images/{image_id}").status_code == 204
        assert Ring.WORK in wakeups.wait(60)


def test_a_task_shows_what_was_asked_for(api: ImagesApi) -> None:
    image_id = api.create(**FORMATS)
    _import(api, image_id, {**WEB, "stores": ["archive", "fast"], "all_stores_must_succeed": False})
    task = _tasks(api, image_id)[0]
    assert task.pop("created_at") == task.pop("updated_at")
    assert task == {
        "id": task["id"],
        "type": "api_image_import",
        "status": "pending",
        "owner": "",
        "expires_at": None,
        "deleted": False,
        "deleted_at": None,
        "image_id": image_id,
        "request_id": task["request_id"],
        "user_id": "",
        "input": {
            "image_id": image_id,
            "import_req": {**WEB, "stores": ["archive", "fast"], "all_stores_must_succeed": False},
            "backend": ["archive", "fast"],
        },
        "result": None,
        "message": "",
        "progress": None,
        "flow_run_id": None,
    }


def test_a_task_shows_the_whole_progress_that_its_worker_reports(api: ImagesApi) -> None:
    image_id = api.create(**FORMATS)
    task = api.begin(image_id).task
    store = StoreProgress("fast", "uploading", 5, 10, "away", 2, 3, "waits for a slot")
    progress = TaskProgress("stage", 20, 50, 4, (store,), 8, 24.0, 6, 7, 9, "waits for its turn")
    for part in (store, progress):
        unsaid = [field.name for field in fields(part) if getattr(part, field.name) == field.default]
        assert unsaid == [], "each field has to be seen"
    with api.catalog.write() as connection:
        report_progress(connection, task.id, task.attempt, "staging", progress, datetime.now(UTC))
    shown = _tasks(api, image_id)[0]["progress"]
    assert shown == {**asdict(progress), "stores": [asdict(store)]}
    assert (shown["left_s"], shown["stores"][0]["left_s"]) == (8, 3)


def test_a_finished_task_tells_its_result_and_when_it_leaves(api: ImagesApi) -> None:
    task = _tasks(api, api.active(b"data"))[0]
    assert (task["status"], task["result"]) == ("success", {"image_id": task["image_id"]})
    assert task["expires_at"] > task["updated_at"]
    assert task["flow_run_id"].startswith("run-of-")


def test_an_expired_task_is_not_listed(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    with api.catalog.write() as connection:
        connection.execute(TASKS.update().values(expires_at=TASKS.c.created_at))
    assert _tasks(api, image_id) == []


def test_secrets_of_a_request_are_in_no_task_and_no_log(api: ImagesApi) -> None:
    image_id = api.create(**FORMATS)
    body = {
        "method": {"name": "web-download", "uri": f"{SOURCE}?token=s3cret", "auth": "s3cret"},
        "password": "s3cret",
    }
    with capture_logs() as logged:
        assert _import(api, image_id, body).status_code == 202
    task = _tasks(api, image_id)[0]
    assert task["input"]["import_req"] == WEB
    assert "s3cret" not in json.dumps(task) + repr(logged)
    unknown = next(entry["keys"] for entry in logged if "unknown keys" in entry["event"])
    assert unknown == "password,method.auth"
    with api.catalog.read() as connection:
        assert read_secrets(connection, api.catalog, task["id"])["uri"].endswith("?token=s3cret")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ([], 400, "JSON object"),
        ({}, 400, "'method' field"),
        ({"method": "web-download"}, 400, "'method'"),
        ({"method": None}, 400, "'method'"),
        ({"method": []}, 400, "'method'"),
        ({"method": {}}, 400, "'name' field"),
        ({"method": {"name": "teleport"}}, 400, "Unknown import method name 'teleport'"),
        ({"method": {"name": ["web-download"]}}, 400, "Unknown import method"),
        ({"method": {"name": "glance-direct"}}, 409, "is queued; it needs to be uploading"),
        ({"method": {"name": "glance-direct", "uri": SOURCE}}, 400, "'uri' belongs to the web-download method"),
        ({"method": {"name": "glance-download"}}, 400, "Unknown import method"),
        ({"method": {"name": "copy-image"}}, 409, "needs to be active to use 'copy-image'"),
        ({**WEB, "all_stores": "yes"}, 400, "'all_stores' must be boolean value only"),
        ({**WEB, "all_stores_must_succeed": 1}, 400, "'all_stores_must_succeed' must be boolean value only"),
        ({"method": {"name": "web-download"}}, 400, "'uri'"),
        ({"method": {"name": "web-download", "uri": 7}}, 400, "'uri'"),
        ({"method": {"name": "web-download", "uri": ""}}, 400, "'uri'"),
        ({**WEB, "stores": []}, 400, "'stores' is empty"),
        ({**WEB, "stores": None}, 400, "'stores'"),
        ({**WEB, "stores": "fast"}, 400, "'stores'"),
        ({**WEB, "stores": ["fast", 7]}, 400, "'stores'"),
        ({**WEB, "stores": ["fast", "fast"]}, 400, "more than once"),
        ({**WEB, "stores": ["fast"], "all_stores": True}, 400, "exclude each other"),
        ({**WEB, "stores": ["tape"]}, 409, "Unknown store 'tape'"),
        ({**WEB, "stores": ["os_glance_staging_store"]}, 409, "Unknown store"),
        ({**WEB, "stores": ["os_glance_tasks_store"]}, 409, "Unknown store"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_refused_and_changes_nothing(
    api: ImagesApi, body: object, status: int, reason: str
) -> None:
    image_id = api.create(**FORMATS)
    before = api.image(image_id)
    answer = _import(api, image_id, body)
    assert answer.status_code == status
    assert reason in answer.json()["message"]
    assert api.image(image_id) == before
    assert _tasks(api, image_id) == []


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://93.184.215.14/x",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://93.184.215.14:8080/x",
        "http://93.184.215.14:70000/x",
        "http://93.184.215.14:0/x",
        "http://[::1/x",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost./",
        "http://user:pass@93.184.215.14/x",
        "no uri at all",
    ],
)
def test_a_uri_that_the_rules_refuse_is_a_400_that_names_the_rule(api: ImagesApi, uri: str) -> None:
    image_id = api.create(**FORMATS)
    answer = _import(api, image_id, {"method": {"name": "web-download", "uri": uri}})
    assert answer.status_code == 400
    assert "URI for web-download does not pass filtering" in answer.json()["message"]
    assert "pass@" not in answer.text
    assert api.image(image_id)["status"] == "queued"


@pytest.mark.parametrize(
    ("rules", "uri", "status"),
    [
        ({}, "http://93.184.215.14:443/x", 202),
        ({"allowed_ports": (8080,)}, "http://93.184.215.14/x", 202),
        ({"allowed_ports": (8080,)}, "http://93.184.215.14:80/x", 400),
        ({"allowed_schemes": (), "disallowed_schemes": ("http",)}, "http://93.184.215.14/x", 400),
        ({"allowed_schemes": (), "disallowed_schemes": ("http",)}, "https://93.184.215.14/x", 202),
        ({"allowed_hosts": ("93.184.215.14",), "disallowed_hosts": ("93.184.215.14",)}, SOURCE, 202),
        ({"disallowed_hosts": ("93.184.215.14",)}, SOURCE, 400),
        ({"allowed_hosts": ("127.0.0.1",)}, "http://127.0.0.1/x", 202),
        ({"internal_hosts": ("127.0.0.1:4711",)}, "http://127.0.0.1:4711/disk.qcow2", 202),
        ({"internal_hosts": ("127.0.0.1:4711",)}, "http://127.0.0.1/disk.qcow2", 400),
        ({"internal_hosts": ("127.0.0.1:4711",)}, "http://93.184.215.14:4711/disk.qcow2", 400),
    ],
)
def test_the_sites_lists_decide_on_uris(make_api: ApiMaker, rules: dict[str, object], uri: str, status: int) -> None:
    api = make_api(uri=UriSettings.model_validate(rules))
    body = {"method": {"name": "web-download", "uri": uri}}
    assert _import(api, api.create(**FORMATS), body).status_code == status


@pytest.mark.parametrize("missing", ["container_format", "disk_format"])
def test_an_image_without_formats_is_a_conflict_that_names_the_field(api: ImagesApi, missing: str) -> None:
    image_id = api.create(**{name: value for name, value in FORMATS.items() if name != missing})
    answer = _import(api, image_id, WEB)
    assert answer.status_code == 409
    assert missing in answer.json()["message"]


def test_a_second_import_is_a_conflict_and_changes_nothing(api: ImagesApi) -> None:
    image_id = api.create(**FORMATS)
    _import(api, image_id, WEB)
    before = api.image(image_id)
    answer = _import(api, image_id, {**WEB, "stores": ["archive"]})
    assert answer.status_code == 409
    assert "prior operation is still in progress" in answer.json()["message"]
    assert api.image(image_id) == before
    assert len(_tasks(api, image_id)) == 1


def test_an_active_image_is_a_conflict(api: ImagesApi) -> None:
    assert _import(api, api.active(b"data"), WEB).status_code == 409


def test_an_unknown_image_is_not_found_after_the_body_was_judged(api: ImagesApi) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    assert _import(api, unknown, WEB).status_code == 404
    assert _import(api, unknown, {}).status_code == 400


@pytest.mark.parametrize(
    ("body", "header", "status", "stores"),
    [
        ({}, None, 202, "fast"),
        ({"all_stores": True}, None, 202, "archive,fast"),
        ({"all_stores": False, "all_stores_must_succeed": False}, None, 202, "fast"),
        ({"stores": ["archive"]}, None, 202, "archive"),
        ({}, "archive", 202, "archive"),
        ({}, "tape", 409, None),
        ({"stores": ["fast"]}, "archive", 400, None),
        ({"all_stores": True}, "archive", 400, None),
    ],
)
def test_targets_come_from_body_header_or_default(
    api: ImagesApi, body: dict[str, object], header: str | None, status: int, stores: str | None
) -> None:
    image_id = api.create(**FORMATS)
    headers = {} if header is None else {"X-Image-Meta-Store": header}
    assert _import(api, image_id, {**WEB, **body}, **headers).status_code == status
    assert api.image(image_id).get("os_glance_importing_to_stores") == stores


# --- name servers ------------------------------------------------------------------------------


class Names:
    """Stands before this machine's resolver: ``*.slow.example`` hangs until released, the others answer at once."""

    FAULTS: ClassVar = {"away.example": socket.EAI_AGAIN, "broken.example": socket.EAI_FAIL}

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._system = socket.getaddrinfo
        self.released = threading.Event()
        monkeypatch.setattr("transship.sources.gate.socket.getaddrinfo", self._find)

    def _find(self, host: Any, *arguments: Any, **options: Any) -> Any:
        if not str(host).endswith(".example"):
            return self._system(host, *arguments, **options)
        if host.endswith("slow.example"):
            self.released.wait(600)
        raise socket.gaierror(self.FAULTS.get(host, socket.EAI_NONAME), "as the test wants")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    found = Names(monkeypatch)
    yield found
    found.released.set()


def _from(host: str) -> dict[str, Any]:
    return {"method": {"name": "web-download", "uri": f"http://{host}/disk.qcow2?token=s3cret"}}


@pytest.mark.parametrize(
    ("host", "status", "words"),
    [
        ("away.example", 503, "cannot be judged now: http://away.example/disk.qcow2: the name servers do not answer"),
        ("broken.example", 503, "for host broken.example now (names_unanswered); try again later"),
        ("nowhere.example", 400, "host nowhere.example has no address (not_resolvable); check its spelling"),
    ],
)
@pytest.mark.usefixtures("names")
def test_name_servers_that_do_not_answer_are_no_fault_of_the_request(
    api: ImagesApi, host: str, status: int, words: str
) -> None:
    image_id = api.create(**FORMATS)
    answer = _import(api, image_id, _from(host))
    assert answer.status_code == status
    assert words in answer.text
    assert "s3cret" not in answer.text
    assert (api.image(image_id)["status"], _tasks(api, image_id)) == ("queued", [])


def test_requests_that_name_a_slow_zone_hold_up_no_other(make_api: ApiMaker, names: Names) -> None:
    api = make_api(download=DownloadSettings(connect_timeout_s=300))
    waiting, quick = api.create(**FORMATS), api.create(**FORMATS)
    with ThreadPoolExecutor(60) as clients:
        slow = [clients.submit(_import, api, waiting, _from(f"{number}.slow.example")) for number in range(60)]
        wait(slow, 0.5)
        assert not any(one.done() for one in slow)
        assert api.client.get("/healthcheck").text == "OK"
        assert api.image(quick)["status"] == "queued"
        assert _import(api, quick, _from("nowhere.example")).status_code == 400
        assert _import(api, quick, WEB).status_code == 202
        names.released.set()
        assert {one.result().status_code for one in slow} == {400}


def test_a_name_that_nobody_resolves_in_time_is_a_503(make_api: ApiMaker, names: Names) -> None:
    api = make_api(download=DownloadSettings(connect_timeout_s=2))
    image_id = api.create(**FORMATS)
    answer = _import(api, image_id, _from("slow.example"))
    assert answer.status_code == 503
    assert "its name could not be resolved in time (names_unanswered); try again later" in answer.text
    assert not names.released.is_set()
    assert _import(api, image_id, WEB).status_code == 202
