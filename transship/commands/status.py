"""``transship status``: the running components, their health, images and tasks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
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
from transship.commands.context import GREEN, RED, YELLOW, Invocation, coloured, print_json, table_lines
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


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the state.

    Attributes:
        facts: for programs, by their keys in the output of ``--json``.
        lines: for people.
        good: whether it is as it should be.
    """

    facts: Mapping[str, object]
    lines: Sequence[str] = ()
    good: bool = True


def status(invocation: Invocation, *, as_json: bool = False) -> int:
    """Print the state of everything; return 0 only if all of it is healthy."""
    snapshot = invocation.snapshot()
    settings = invocation.settings
    gathered = (_api, _worker, _directories, _notifications, _waits, _runner)
    if as_json:
        changed = what_differs(snapshot) if snapshot is not None else ""
        parts = [_processes(settings), *(_gathered(part, settings) for part in gathered)]
        good = all(part.good for part in parts)
        facts = {key: value for part in parts for key, value in part.facts.items() if key != "problem"}
        problems = [part.facts["problem"] for part in parts if "problem" in part.facts]
        addresses = dict(address_rows(settings))
        shown = {"home": str(settings.home), "changed_settings": changed, "addresses": addresses}
        print_json({"healthy": good, **shown, **facts, "problems": problems})
        return 0 if good else 1
    healthy = _shown(_processes(settings))
    print()
    if snapshot is not None and (text := what_differs(snapshot)):
        print(f"{'settings':<15} {coloured(text, YELLOW)}")
    for label, value in address_rows(settings):
        print(f"{label:<15} {value}")
    print()
    shown_good = [_shown(_gathered(part, settings)) for part in gathered]
    return 0 if healthy and all(shown_good) else 1


def _shown(part: Part) -> bool:
    """Print the lines of a part, and return whether it is as it should be."""
    for line in part.lines:
        print(line, flush=True)
    return part.good


def _gathered(gather: Callable[[Settings], Part], settings: Settings) -> Part:
    """Return a part, or why it cannot be shown."""
    try:
        return gather(settings)
    except TransshipError as error:
        return Part({"problem": str(error)}, [coloured(str(error), RED)], good=False)


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


def _processes(settings: Settings) -> Part:
    found = read_status(status_path(settings)) if is_locked(settings) else None
    if found is None:
        alone = lone_worker(settings)
        if alone is not None:
            line = f"worker {alone.pid}: {coloured(alone.phase, GREEN)}, for services on another host"
            return Part({"supervisor": None}, [line])
        line = coloured(f"nothing runs in {settings.home}; 'transship up' starts it", RED)
        return Part({"supervisor": None}, [line], good=False)
    healthy = is_healthy(found)
    state = coloured(found.phase, GREEN if healthy else YELLOW)
    lines = [f"supervisor {found.pid}: {state} since {found.started_at}", ""]
    if found.reload_failed:
        lines += [coloured(f"the last reload did not reach every component:\n{found.last_reload}", YELLOW), ""]
    now = datetime.now(UTC)
    rows = [component_row(component, now) for component in found.components]
    lines += table_lines(("COMPONENT", "CONDITION", "PID", "SINCE", "RESTARTS", "LAST END"), rows)
    return Part({"supervisor": asdict(found)}, lines, good=healthy)


def _api(settings: Settings) -> Part:
    healthy, text = ImagesApi(api_address(settings)).health()
    try:
        api = images_api(settings)
        images = list(api.images())
        tasks = _task_statuses(api, images)
    except CommandRefused as nobody:
        return Part({"problem": str(nobody)}, [coloured(f"images cannot be shown: {nobody}", YELLOW)], good=healthy)
    by_status = Counter(image.status for image in images)
    lines = [f"{'images':<15} {_counts(by_status)}", f"{'tasks':<15} {_counts(tasks)}"]
    facts: dict[str, object] = {"images": by_status, "tasks": tasks}
    if not healthy:
        facts["problem"] = f"Images API is not healthy: {text}"
        lines.append(coloured(f"Images API is not healthy: {text}", RED))
    return Part(facts, lines, good=healthy)


def _worker(settings: Settings) -> Part:
    if not settings.prefect.api_url and not is_locked(settings):
        return Part({"workers": []}, good=False)  # our own Prefect does not run, as the first line says
    online = PrefectHttp.of(settings).online_workers(settings.prefect.work_pool)
    text = ", ".join(online) or coloured("none is online, so imports wait", RED)
    return Part({"workers": online}, [f"{'workers':<15} {text}"], good=bool(online))


def _runner(settings: Settings) -> Part:
    """Return the status of this machine's runner; it is good if it takes runs, or this machine has none."""
    found = read_runner_status(runner_status_path(settings))
    if found is None:
        return Part({"runner": None}, [f"{'runner':<15} none on this machine"])
    engine = found.engine if not found.reason else coloured(f"{found.engine}: {found.reason}", YELLOW)
    lines = [f"{'runner':<15} {found.phase}, {found.carried} of {found.limit} runs, queues {', '.join(found.queues)}"]
    problem = found.problem(time.time())
    if problem:
        lines.append(coloured(f"{'':<15} {problem}", RED))
    lines += [f"{'engine':<15} {engine}", ""]
    if found.executors:
        rows = [executor_row(executor) for executor in found.executors]
        lines += table_lines(("EXECUTOR", "CONDITION", "SINCE", "RUNS", "MEMORY", "FLOW RUN"), rows)
    facts: dict[str, object] = {"runner": asdict(found)}
    return Part({**facts, "problem": f"runner: {problem}"} if problem else facts, lines, good=not problem)


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


def _notifications(settings: Settings) -> Part:
    found = notification_backlog(settings)
    return Part(
        {"notifications": [asdict(each) for each in found]},
        [
            f"{'notifications':<15} {coloured(f'{each.sink}: {each.text}', YELLOW if each.reason else GREEN)}"
            for each in found
        ],
    )


def _waits(settings: Settings) -> Part:
    """Return missing hosts, and waiting imports and uploads; good if all uploaded data can be reached."""
    looked_at = Catalog.as_it_is(settings)
    if looked_at is None:
        return Part({"hosts_gone": [], "waits": []})
    with closing(looked_at) as catalog, catalog.read() as connection:
        gone = [host for host in hosts(connection) if not host.alive]
        waits = wait_lines(connection)
    lines = [f"{'host gone':<15} {coloured(host_text(host), RED if host.staged else YELLOW)}" for host in gone]
    lines += [f"{'waits':<15} {coloured(text, YELLOW)}" for _, text in waits[:SHOWN_WAITS]]
    if len(waits) > SHOWN_WAITS:
        lines.append(f"{'waits':<15} and {len(waits) - SHOWN_WAITS} more")
    facts = {"hosts_gone": [host_text(host) for host in gone], "waits": [text for _, text in waits]}
    return Part(facts, lines, good=not any(host.staged for host in gone))


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


def _directories(settings: Settings) -> Part:
    """Return which stores this host can use; good if it can use all with images, and its staging directory.

    There is none before the first start.
    """
    looked_at = Catalog.as_it_is(settings)
    if looked_at is None:
        return Part({"stores": {}})
    with closing(looked_at) as catalog:
        found = stores_in_force(settings, catalog)
        problems = {store_id: store_problem(catalog, store_id, store) for store_id, store in found.items()}
        left = stores_left(settings, catalog)
        staging = staging_problem(settings, catalog)
    good = [store_id for store_id, problem in problems.items() if not problem]
    unusable = {
        **{store_id: problem for store_id, problem in problems.items() if problem},
        **{each.store: each.problem for each in left},
    }
    lines = [f"{'stores':<15} {', '.join(good) or 'none is usable'}"]
    lines += [f"{'':<15} {coloured(problem, RED)}" for problem in filter(None, (*unusable.values(), staging))]
    facts: dict[str, object] = {"stores": {**dict.fromkeys(good, "usable"), **unusable}}
    if staging:
        facts["problem"] = staging
    return Part(facts, lines, good=len(good) == len(problems) and not staging and not any(each.alone for each in left))


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
