"""``/v2/tasks``: the imports that administrators see."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.images_api import FORMATS, ImagesApi
from transship.catalog.schema import TASKS


def ids(api: ImagesApi, **query: str) -> list[str]:
    answer = api.client.get("/v2/tasks", params=query)
    assert answer.status_code == 200, answer.text
    return [task["id"] for task in answer.json()["tasks"]]


def made(api: ImagesApi, count: int) -> list[str]:
    """Begin imports of as many images; return their tasks, oldest first."""
    return [api.begin(api.create(**FORMATS)).task.id for _ in range(count)]


def test_the_list_tells_of_every_image_what_concerns_all_tasks(api: ImagesApi) -> None:
    api.active(b"data")
    [running] = made(api, 1)
    page = api.client.get("/v2/tasks").json()
    assert (page["first"], page["schema"]) == ("/v2/tasks", "/v2/schemas/tasks")
    assert "next" not in page
    newest, oldest = page["tasks"]
    assert (newest["id"], newest["status"], "expires_at" in newest) == (running, "processing", False)
    assert oldest == {
        "id": oldest["id"],
        "type": "api_image_import",
        "status": "success",
        "owner": "",
        "created_at": oldest["created_at"],
        "updated_at": oldest["updated_at"],
        "expires_at": oldest["expires_at"],
        "self": f"/v2/tasks/{oldest['id']}",
        "schema": "/v2/schemas/task",
    }
    assert oldest["created_at"].endswith("Z")


def test_a_task_is_shown_with_request_result_and_message(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    [task_id] = ids(api)
    shown = api.client.get(f"/v2/tasks/{task_id.upper()}").json()
    assert (shown["status"], shown["result"], shown["message"]) == ("success", {"image_id": image_id}, "done")
    assert (shown["image_id"], "input" in shown) == (image_id, True)


@pytest.mark.parametrize("sort_key", ["created_at", "updated_at", "expires_at", "status", "id", "owner"])
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_pages_follow_each_other_in_the_order_asked_for(api: ImagesApi, sort_key: str, sort_dir: str) -> None:
    api.active(b"data")
    made(api, 4)
    whole = ids(api, sort_key=sort_key, sort_dir=sort_dir)
    found: list[str] = []
    path = f"/v2/tasks?sort_key={sort_key}&sort_dir={sort_dir}&limit=2"
    while path:
        page = api.client.get(path).json()
        found += [task["id"] for task in page["tasks"]]
        path = page.get("next", "")
    assert (found, len(set(found))) == (whole, 5)


def test_the_newest_come_first(api: ImagesApi) -> None:
    tasks = made(api, 3)
    assert (ids(api), ids(api, sort_dir="asc"), ids(api, limit="0")) == (tasks[::-1], tasks, [])


def test_tasks_are_found_by_status_and_type(api: ImagesApi) -> None:
    api.active(b"data")
    [running] = made(api, 1)
    assert (ids(api, status="processing"), ids(api, status="failure")) == ([running], [])
    assert (len(ids(api, type="api_image_import")), ids(api, type="import")) == (2, [])


def test_tasks_are_found_by_what_is_known_of_them(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    [other] = made(api, 1)
    [task_id] = ids(api, image_id=image_id)
    assert task_id != other
    assert (ids(api, id=task_id), ids(api, id=task_id, image_id="nobody")) == ([task_id], [])
    assert (ids(api, owner="nobody"), ids(api, request_id="nobody"), ids(api, user_id="nobody")) == ([], [], [])
    assert len(ids(api, colour="blue")) == 2


def test_the_task_of_a_deleted_image_stays_until_it_expires(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    [task_id] = ids(api)
    assert api.client.delete(f"/v2/images/{image_id}").status_code == 204
    assert ids(api) == [task_id]
    with api.catalog.write() as connection:
        connection.execute(TASKS.update().values(expires_at=TASKS.c.created_at))
    assert ids(api) == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"status": "lost"}, "Invalid status"),
        ({"type": "conversion"}, "Invalid type"),
        ({"sort_key": "input"}, "Invalid sort_key"),
        ({"sort_dir": "up"}, "Invalid sort_dir"),
        ({"limit": "-1"}, "positive"),
        ({"limit": "many"}, "whole number"),
        ({"marker": "nobody"}, "Invalid marker"),
        ({"marker": "\0"}, "NUL"),
        ({"marker": ""}, "marker is empty"),
        ({"status": "SUCCESS"}, "Invalid status"),
    ],
)
def test_a_list_that_cannot_be_made_is_refused(api: ImagesApi, query: dict[str, str], words: str) -> None:
    answer = api.client.get("/v2/tasks", params=query)
    assert (answer.status_code, words in answer.text) == (400, True)


@pytest.mark.parametrize("task_id", ["nobody", "5d8730c6-d4be-4f28-9f6b-000000000000"])
def test_an_unknown_task_is_not_found(api: ImagesApi, task_id: str) -> None:
    assert api.client.get(f"/v2/tasks/{task_id}").status_code == 404


@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("DELETE", "/5d8730c6-d4be-4f28-9f6b-000000000000")])
def test_tasks_are_neither_made_nor_removed_here(api: ImagesApi, method: str, path: str) -> None:
    body: dict[str, Any] = {"json": {"type": "import"}} if method == "POST" else {}
    answer = api.client.request(method, f"/v2/tasks{path}", **body)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
