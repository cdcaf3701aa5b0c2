"""``/v2/tasks``: the import tasks of all images, of all projects for administrators; read only.

Source: Images API v2, "Tasks". This service does not accept the deprecated import tasks.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from starlette.responses import JSONResponse, Response

from transship.api.bodies import storable
from transship.api.images import MEDIA_TYPE
from transship.api.query import choice, page_limit, page_marker, page_url
from transship.api.site import Call
from transship.api.views import task_record, task_summary
from transship.catalog.task_list import EQUATABLE, TaskQuery, TaskSortKey, find_tasks
from transship.catalog.tasks import get_task
from transship.domain.errors import BadRequest, TaskNotFound
from transship.domain.methods import IMPORT_TASK_TYPE, LOCATION_TASK_TYPE, METHODS
from transship.domain.policies import Action
from transship.domain.task import TaskStatus

_COLLECTION: Final = "/v2/tasks"
TYPES: Final = ("import", IMPORT_TASK_TYPE, LOCATION_TASK_TYPE)


def list_tasks(call: Call) -> Response:
    """``GET /v2/tasks``: one page of all tasks that have not expired; by default newest first."""
    viewer = call.viewer
    call.site.policy.refuse(Action.TASKS_API_ACCESS, viewer)
    values = dict(call.request.query_params)
    if not storable(values):
        raise BadRequest("The query string holds a NUL character.")
    sort_key = choice(values, "sort_key", {str(key): key for key in TaskSortKey})
    query = TaskQuery(
        status=choice(values, "status", {str(status): status for status in TaskStatus}),
        sort_key=TaskSortKey.CREATED_AT if sort_key is None else sort_key,
        descending=choice(values, "sort_dir", {"desc": True, "asc": False}) is not False,
        limit=page_limit(values, call.site.settings.api),
        marker=page_marker(values),
        owner=None if viewer.is_admin else viewer.project_id,
        methods=_methods_of(choice(values, "type", {type_: type_ for type_ in TYPES})),
        equal={name: values[name] for name in EQUATABLE if name in values},
    )
    nobodys = not viewer.is_admin and not viewer.project_id
    with call.site.catalog.read() as connection:
        tasks = [] if nobodys or not query.limit else find_tasks(connection, query, datetime.now(UTC))
    values.pop("marker", None)
    page: dict[str, object] = {
        "tasks": [task_summary(task) for task in tasks],
        "first": page_url(_COLLECTION, list(values.items())),
        "schema": "/v2/schemas/tasks",
    }
    if tasks and len(tasks) == query.limit:
        page["next"] = page_url(_COLLECTION, [*values.items(), ("marker", tasks[-1].id)])
    return JSONResponse(page, media_type=MEDIA_TYPE)


def _methods_of(task_type: str | None) -> tuple[str, ...] | None:
    """Return the methods whose tasks are of a type; None for all."""
    if task_type is None:
        return None
    return tuple(method for method, facts in METHODS.items() if facts.task_type == task_type)


def show_task(call: Call) -> Response:
    """``GET /v2/tasks/{task_id}``: one task with its request and its result."""
    viewer = call.viewer
    call.site.policy.refuse(Action.TASKS_API_ACCESS, viewer)
    with call.site.catalog.statement() as connection:
        task = get_task(connection, call.task_id)
    if not (viewer.is_admin or viewer.owns(task.owner)):
        raise TaskNotFound(task.id)
    return JSONResponse(task_record(task), media_type=MEDIA_TYPE)
