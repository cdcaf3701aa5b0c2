"""``transship status``: the running components, their health, images and tasks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

from sqlalchemy import Connection

from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.catalog.hosts import Host, hosts
from transship.catalog.notifications import Backlog, backlog
from transship.catalog.unfinished_imports import WaitingImport, waiting_imports
from transship.catalog.uploads import waiting_uploads
from transship.commands.api_address import api_address
from transship.commands.configuration import what_differs
from transship.commands.context import GREEN, RED, YELLOW, Invocation, coloured, print_table
from transship.commands.images_api import ImagesApi, ImageView
from transship.commands.keystone_login import images_api
from transship.commands.prefect_http import PrefectHttp
from transship.commands.run import address_rows
from transship.domain.errors import CommandRefused, TransshipError, human_size
from transship.host.runner_status import ExecutorStatus, lone_worker, read_runner_status, runner_status_path
from transship.notify.sink import wanted_sinks
from transship.staging.opening import staging_problem
from transship.stores_in_force import store_problem, stores_in_force, stores_left
from transship.supervisor.component import Condition
from transship.supervisor.home import is_locked, status_path
from transship.supervisor.status import ComponentStatus, Phase, SupervisorStatus, read_status

GOOD = frozenset({Condition.UP, Condition.DONE})
SHOWN_WAITS = 20
"""Most waiting imports and uploads that are listed; the rest is counted."""
COUNTED_TASKS = 100
"""Tasks are counted for this many of the newest images: each costs a request."""


def status(invocation: Invocation) -> int:
    """Print the state of everything; return 0 only if all of it is healthy."""
    snapshot = invocation.snapshot()
    settings = invocation.settings
    healthy = _print_processes(settings)
    print()
    if snapshot is not None and (text := what_differs(snapshot)):
        print(f"{'settings':<15} {coloured(text, YELLOW)}")
    for label, value in address_rows(settings):
        print(f"{label:<15} {value}")
    print()
    parts = (_print_api, _print_worker, _print_directories, _print_notifications, _print_waits, _print_runner)
    good = [_is_good(part, settings) for part in parts]
    return 0 if healthy and all(good) else 1


def _is_good(part: Callable[[Settings], bool], settings: Settings) -> bool:
    """Print a part, or why it cannot be shown; return whether it is as it should be."""
    try:
        return part(settings)
    except TransshipError as error:
        print(coloured(str(error), RED))
        return False


def component_row(component: ComponentStatus, now: datetime) -> tuple[str, ...]:
    """Return the cells of one component."""
    age_s = int((now - datetime.fromisoformat(component.since)).total_seconds())
    return (
        component.name,
        component.condition,
        str(component.pid or "-"),
        duration(age_s),
        str(component.restarts),
        component.last_exit or "-",
    )


def duration(seconds: int) -> str:
    """Format a duration for display: ``3725`` becomes ``1h 2m``."""
    for unit_s, unit, part_s, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= unit_s:
            return f"{seconds // unit_s}{unit} {seconds % unit_s // part_s}{part}"
    return f"{max(0, seconds)}s"


def is_healthy(found: SupervisorStatus) -> bool:
    """Whether everything is up."""
    return found.phase is Phase.READY and all(component.condition in GOOD for component in found.components)


def _print_processes(settings: Settings) -> bool:
    found = read_status(status_path(settings)) if is_locked(settings) else None
    if found is None:
        alone = lone_worker(settings)
        if alone is not None:
            print(f"worker {alone.pid}: {coloured(alone.phase, GREEN)}, for services on another host")
            return True
        print(coloured(f"nothing runs in {settings.home}; 'transship up' starts it", RED))
        return False
    healthy = is_healthy(found)
    state = coloured(found.phase, GREEN if healthy else YELLOW)
    print(f"supervisor {found.pid}: {state} since {found.started_at}\n")
    if found.reload_failed:
        print(coloured(f"the last reload did not reach every component:\n{found.last_reload}\n", YELLOW))
    now = datetime.now(UTC)
    rows = [component_row(component, now) for component in found.components]
    print_table(("COMPONENT", "CONDITION", "PID", "SINCE", "RESTARTS", "LAST END"), rows)
    return healthy


def _print_api(settings: Settings) -> bool:
    healthy, text = ImagesApi(api_address(settings)).health()
    try:
        api = images_api(settings)
        images = list(api.images())
        tasks = _task_statuses(api, images)
    except CommandRefused as nobody:
        print(coloured(f"images cannot be shown: {nobody}", YELLOW))
        return healthy
    print(f"{'images':<15} {_counts(Counter(image.status for image in images))}")
    print(f"{'tasks':<15} {_counts(tasks)}")
    if not healthy:
        print(coloured(f"Images API is not healthy: {text}", RED))
    return healthy


def _print_worker(settings: Settings) -> bool:
    online = PrefectHttp.of(settings).online_workers(settings.prefect.work_pool)
    text = ", ".join(online) or coloured("none is online, so imports wait", RED)
    print(f"{'workers':<15} {text}")
    return bool(online)


def _print_runner(settings: Settings) -> bool:
    """Print the status of this machine's runner, and return whether it takes runs; a machine may have none."""
    found = read_runner_status(runner_status_path(settings))
    if found is None:
        print(f"{'runner':<15} none on this machine")
        return True
    engine = found.engine if not found.reason else coloured(f"{found.engine}: {found.reason}", YELLOW)
    print(f"{'runner':<15} {found.phase}, {found.carried} of {found.limit} runs, queues {', '.join(found.queues)}")
    problem = found.problem(time.time())
    if problem:
        print(coloured(f"{'':<15} {problem}", RED))
    print(f"{'engine':<15} {engine}\n")
    if found.executors:
        rows = [executor_row(executor) for executor in found.executors]
        print_table(("EXECUTOR", "CONDITION", "SINCE", "RUNS", "MEMORY", "FLOW RUN"), rows)
    return not problem


def executor_row(executor: ExecutorStatus) -> tuple[str, ...]:
    """Return the cells of one executor."""
    return (
        str(executor.pid or "-"),
        executor.condition,
        duration(int(executor.for_s)),
        str(executor.runs),
        human_size(executor.rss_bytes),
        executor.flow_run_id or "-",
    )


def _print_notifications(settings: Settings) -> bool:
    for each in notification_backlog(settings):
        print(f"{'notifications':<15} {coloured(f'{each.sink}: {each.text}', YELLOW if each.reason else GREEN)}")
    return True


def _print_waits(settings: Settings) -> bool:
    """Print missing hosts, and waiting imports and uploads; return whether all uploaded data can be reached."""
    looked_at = Catalog.as_it_is(settings)
    if looked_at is None:
        return True
    with closing(looked_at) as catalog, catalog.read() as connection:
        gone = [host for host in hosts(connection) if not host.alive]
        waits = wait_lines(connection)
    for host in gone:
        print(f"{'host gone':<15} {coloured(host_text(host), RED if host.staged else YELLOW)}")
    for _, text in waits[:SHOWN_WAITS]:
        print(f"{'waits':<15} {coloured(text, YELLOW)}")
    if len(waits) > SHOWN_WAITS:
        print(f"{'waits':<15} and {len(waits) - SHOWN_WAITS} more")
    return not any(host.staged for host in gone)


def host_text(host: Host) -> str:
    """Return a line about a host whose worker is gone."""
    heard = "never seen" if host.heard_at is None else f"last seen at {host.heard_at:%Y-%m-%d %H:%M:%S} UTC"
    remedy = (
        "start its worker, or upload the data again" if host.staged else "start its worker if the host is still in use"
    )
    return f"{host.name}: {heard}, holds uploaded data of {host.staged} images; {remedy}"


def wait_lines(connection: Connection) -> list[tuple[str, str]]:
    """Return what waits, ``import`` or ``upload``, and a line about it."""
    uploads = [("upload", f"{image_id}: the upload {text}") for image_id, text in waiting_uploads(connection)]
    return [*(("import", wait_line(wait)) for wait in waiting_imports(connection)), *uploads]


def wait_line(wait: WaitingImport) -> str:
    """Return a line about a waiting import."""
    message = wait.message or (
        f"pending since {wait.since:%Y-%m-%d %H:%M:%S} UTC for an unknown reason; see the keeper's log"
    )
    return f"{wait.image_id}: {message}"


def _print_directories(settings: Settings) -> bool:
    """Print which stores this host can use; return whether it can use its staging directory and all stores with images.

    Prints nothing before the first start.
    """
    looked_at = Catalog.as_it_is(settings)
    if looked_at is None:
        return True
    with closing(looked_at) as catalog:
        found = stores_in_force(settings, catalog)
        problems = {store_id: store_problem(catalog, store_id, store) for store_id, store in found.items()}
        left = stores_left(settings, catalog)
        staging = staging_problem(settings, catalog)
    good = [store_id for store_id, problem in problems.items() if not problem]
    print(f"{'stores':<15} {', '.join(good) or 'none is usable'}")
    for problem in filter(None, (*problems.values(), *(each.problem for each in left), staging)):
        print(f"{'':<15} {coloured(problem, RED)}")
    return len(good) == len(problems) and not staging and not any(each.alone for each in left)


def notification_backlog(settings: Settings) -> list[Backlog]:
    """Return the backlog of each notification driver from the catalogue; empty before the first start.

    Raises:
        ConfigurationRefused: the catalogue cannot be opened.
        CatalogUnavailable: it does not answer now.
    """
    looked_at = Catalog.as_it_is(settings)
    if looked_at is None:
        return []
    with closing(looked_at) as catalog, catalog.read() as connection:
        return backlog(connection, wanted_sinks(settings.notifications))


def _task_statuses(api: ImagesApi, images: list[ImageView]) -> Counter[str]:
    return Counter(task.status for image in images[:COUNTED_TASKS] for task in api.tasks(image.id))


def _counts(counted: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counted.items())) or "none"
