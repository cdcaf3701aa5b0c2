"""The keeper's work, one function a duty; `transship.keeper.__main__` calls them in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import IntegrityError

from config.settings import FileStoreSettings, Settings
from transship.catalog.endings import end_unheld, resume_or_end
from transship.catalog.engine import Catalog
from transship.catalog.hosts import Host, forget_hosts, hosts, live_hosts
from transship.catalog.images import get_image
from transship.catalog.journal import staged_upload
from transship.catalog.leases import LeaseState, lease_of
from transship.catalog.outbox import OutboxKind, OutboxRow, awaiting_dispatch, done, due, post, postpone, rows_with
from transship.catalog.removal import hosts_with_scrap, removable_locations
from transship.catalog.schema import KEEPERS
from transship.catalog.stores import forget_store, mirror_store, mirrored_stores
from transship.catalog.tasks import (
    get_task,
    mark_settled,
    purge_secrets,
    set_flow_run,
    set_status,
    unfinished_tasks,
    unsettled_tasks,
)
from transship.catalog.types import in_seconds
from transship.catalog.underway import (
    explain_waits,
    first_in_line,
    imports_wait,
    pending_imports,
    running_imports,
    underway,
)
from transship.catalog.uploads import end_lost_uploads, give_up_uploads
from transship.domain.clock import utc_now
from transship.domain.errors import (
    DispatchFailed,
    ImageNotFound,
    LockLost,
    PrefectAway,
    PrefectRefused,
    TaskNotFound,
    TransferFailed,
    UploadIncomplete,
)
from transship.domain.image import CONTAINER_FORMATS, DISK_FORMATS, Image
from transship.domain.import_request import ImportMethod
from transship.domain.push import RUNNER_SOCKET
from transship.domain.task import ImportTask, RunState, TaskStatus
from transship.domain.turns import next_turns, project_share
from transship.keeper.prefect_api import (
    CreatedRun,
    FlowRunState,
    PrefectApi,
    WantedRun,
)
from transship.keeper.push import LocalRunner
from transship.keeper.verdict import Action, Patience, Verdict, judge
from transship.keeper.waits import Situation, explain
from transship.stores.table import document_name
from transship.stores_in_force import explained, prepare_store

DEPLOYMENT: Final = "transship"
DEFAULT_QUEUE: Final = "default"
TOLD_AT_ONCE: Final = 20
"""Outbox rows between two looks at the other duties."""
STUCK_S: Final = 90.0
"""Longer than any start of a flow process that was seen on a loaded machine (20 s), with room."""
SETTLE_AFTER_S: Final = 60.0
"""A flow process tells Prefect its last state after the catalogue; this is its time to do so."""
NO_IMPORTS: Final = frozenset(OutboxKind) - {OutboxKind.DISPATCH}
"""What waits for no turn."""
UNBEGUN_FORGOTTEN_S: Final = 60.0
"""After so long a handed-over import that nobody began counts no longer as one that a worker is about to begin."""
UNEXPLAINED_S: Final = 2.0
"""Imports that wait for less are about to begin; nobody has to be told why."""
REFUSAL_PATIENCE_S: Final = 120.0
"""How long refusals that an operator can mend (no deployment yet, wrong password) are tried again."""
SWEEPS_APART_S: Final = 10.0
"""Sweeps that are asked for closer together are one; what comes too late for it is found by the next look."""
MENDABLE: Final = frozenset({401, 403, 404})

log = structlog.get_logger("transship.keeper")


def host_queue(host: str) -> str:
    """Return the name of the work queue whose runs one host alone takes."""
    return f"host-{host}"


@dataclass(frozen=True, slots=True)
class Keeper:
    """What the duties need.

    Attributes:
        owner: this process, in the keepers' lease.
    """

    settings: Settings
    catalog: Catalog
    prefect: PrefectApi
    owner: str

    @property
    def runner(self) -> LocalRunner:
        """The runner of this machine."""
        return LocalRunner(self.settings.run_dir / RUNNER_SOCKET)

    def stay_active(self, ttl_s: float) -> bool:
        """Take or renew the keepers' lease; return whether this keeper is the active one."""
        with self.catalog.write() as connection:
            taken = connection.execute(
                update(KEEPERS)
                .where(KEEPERS.c.id == 1, (KEEPERS.c.owner == self.owner) | (KEEPERS.c.expires_at < in_seconds(0)))
                .values(owner=self.owner, expires_at=in_seconds(ttl_s))
            )
        if taken.rowcount:
            return True
        try:
            with self.catalog.write() as connection:
                connection.execute(insert(KEEPERS).values(id=1, owner=self.owner, expires_at=in_seconds(ttl_s)))
        except IntegrityError:
            return False
        return True

    def step_down(self) -> None:
        """Give the keepers' lease up, so that another one is active at once."""
        with self.catalog.write() as connection:
            connection.execute(update(KEEPERS).where(KEEPERS.c.owner == self.owner).values(expires_at=in_seconds(-1.0)))

    def tell(self) -> int:
        """Tell Prefect what the outbox holds; return how many rows were told."""
        rows = self._rows_in_turn()[:TOLD_AT_ONCE]
        told = 0
        for row in rows:
            try:
                self._tell_one(row)
            except PrefectAway as away:
                wait_s = min(30.0, 0.2 * 2 ** min(row.attempts, 10))
                self._postpone(row, wait_s, str(away))
                log.warning("Prefect away, kept for later", key=row.key, wait_s=wait_s, reason=str(away))
            except PrefectRefused as refused:
                self._refused(row, refused)
            else:
                told += 1
        return told

    def _rows_in_turn(self) -> list[OutboxRow]:
        """Return those rows that may be told now: what is no import, then the imports whose turn it is."""
        with self.catalog.read() as connection:
            rows = due(connection, TOLD_AT_ONCE, NO_IMPORTS)
            if imports_wait(connection):
                rows += rows_with(connection, self._turns(connection))
        return rows

    def _turns(self, connection: Connection) -> tuple[int, ...]:
        """Return the outbox rows of the imports whose turn it is, in order."""
        limits = self.settings.imports
        known = hosts(connection)
        carried = underway(connection, UNBEGUN_FORGOTTEN_S, [host.name for host in known if host.alive])
        room = max(0, limits.dispatch_ahead - carried.unbegun)
        waiting = first_in_line(connection, room) if room else []
        return next_turns(waiting, carried.by_project, room=room, limit_per_project=self._share(known))

    def _share(self, known: Sequence[Host]) -> int:
        """Return how many imports one project may have under way; 0: no limit."""
        slots = sum(host.slots for host in known if host.alive) or self.settings.prefect.worker_limit
        pool = self.prefect.known_pool
        if pool is not None and pool.limit is not None:
            slots = min(slots, pool.limit)
        told_apart = self.settings.api.auth != "none"
        return project_share(slots, self.settings.imports.max_per_project, told_apart=told_apart)

    def look_at_pool(self) -> None:
        """Learn the work pool's limit, which bounds the worker slots that projects share."""
        self.prefect.pool(self.settings.prefect.work_pool)

    def explain_waits(self) -> int:
        """Write on each import that no worker has begun what it waits for; return how many there are.

        Whether Prefect answers or not: that it does not is one of the reasons.
        """
        with self.catalog.read() as connection:
            waiting = pending_imports(connection, UNEXPLAINED_S)
            known, running = hosts(connection), running_imports(connection)
        if not waiting:
            return 0
        pool_name, pool, away = self.settings.prefect.work_pool, None, ""
        try:
            pool = self.prefect.pool(pool_name)
        except (PrefectAway, PrefectRefused) as fault:
            away = str(fault)
        now = Situation(away, pool, pool_name, known, running, self._share(known))
        explained = [
            (wait, explain(wait, host_queue(wait.host) if wait.host else DEFAULT_QUEUE, now)) for wait in waiting
        ]
        explain_waits(self.catalog, explained, utc_now())
        return len(waiting)

    def _tell_one(self, row: OutboxRow) -> None:
        duty: Mapping[OutboxKind, Callable[[OutboxRow], None]] = {
            OutboxKind.DISPATCH: self._dispatch,
            OutboxKind.CANCEL: self._cancel,
            OutboxKind.SWEEP: self._sweep,
        }
        duty[row.kind](row)

    def _dispatch(self, row: OutboxRow) -> None:
        with self.catalog.read() as connection:
            try:
                task = get_task(connection, str(row.task_id))
                image = get_image(connection, task.image_id)
                lease = lease_of(connection, image.id)
            except (TaskNotFound, ImageNotFound):
                self._done(row)
                return
        # A worker begins what Prefect was told of: only this row's end was missed, by a keeper that was killed.
        begun = lease.task_id == task.id and lease.state == "held"
        if begun or task.status.final or task.attempt != row.payload["attempt"]:
            self._done(row)
            return
        run_id = self._start_again(task) or self._create_run(task, image, row.key)
        with self.catalog.write() as connection:
            set_flow_run(connection, task.id, run_id)
            done(connection, row)
        log.info("import dispatched", task_id=task.id, image_id=task.image_id, flow_run_id=run_id, attempt=task.attempt)

    def _start_again(self, task: ImportTask) -> str | None:
        """Schedule the run that the task has; return its id, None when Prefect has no such run."""
        if task.flow_run_id is None:
            return None
        try:
            self.prefect.set_state(task.flow_run_id, RunState.AWAITING_RETRY, task.message)
        except PrefectRefused as refused:
            if refused.status == 404:
                return None
            raise
        return task.flow_run_id

    def _create_run(self, task: ImportTask, image: Image, key: str) -> str:
        wanted = WantedRun(
            f"{task.method}/{DEPLOYMENT}",
            f"{task.method} {image.name or ''} {image.id[:8]}".replace("  ", " "),
            run_parameters(task, image),
            key,
            self.queue_of(task),
            (f"image:{image.id}",),
        )
        return self._start(wanted).id

    def queue_of(self, task: ImportTask) -> str:
        """Return the work queue of a task's run: where uploaded data lie, they are imported."""
        if task.method != ImportMethod.GLANCE_DIRECT:
            return DEFAULT_QUEUE
        try:
            with self.catalog.read() as connection:
                return host_queue(staged_upload(connection, task.image_id).host)
        except UploadIncomplete:
            # Any worker can say so on the task.
            return DEFAULT_QUEUE

    def _start(self, wanted: WantedRun) -> CreatedRun:
        """Make a run: pushed to this machine's runner if that has a slot for it, else scheduled for any worker."""
        slot = None if self.prefect.limits_active_runs(wanted.deployment) else self.runner.reserve(wanted.queue)
        if slot is None:
            return self.prefect.schedule(wanted)
        with slot:
            run = self.prefect.claim(wanted, f"the worker of {self.settings.host_name}")
            # Under a key that was used before, Prefect answers with the earlier run, which somebody may have.
            pushed = run.as_asked and slot.push(run.answer)
        log.info("run pushed" if pushed else "run not pushed", flow_run_id=run.id)
        return run

    def _cancel(self, row: OutboxRow) -> None:
        run_id = str(row.payload["flow_run_id"])
        run = self.prefect.states([run_id]).get(run_id)
        if run is not None and not run.final:
            waits = run.type in ("SCHEDULED", "PAUSED")
            name = RunState.CANCELLED if waits else RunState.CANCELLING
            # Not forced: it may have ended since, and nobody would end what is Cancelling then.
            self.prefect.ask_state(run_id, name, "the image was deleted")
        self._done(row)

    def ask_for_sweep(self) -> None:
        """Have housekeeping run soon, on every host."""
        with self.catalog.write() as connection:
            post(connection, OutboxKind.SWEEP, "sweep", None)

    def sweep_what_is_due(self) -> bool:
        """Ask for a sweep if there is something to remove now; return whether there is.

        A copy may be removed only when its writer's lease has ended: after the sweep that its import's end asked for.
        """
        with self.catalog.read() as connection:
            due_now = removable_locations(connection, older_than_s=self.settings.lease.ttl_s)
            found = bool(due_now or hosts_with_scrap(connection))
        if found:
            self.ask_for_sweep()
        return found

    def _sweep(self, row: OutboxRow) -> None:
        with self.catalog.read() as connection:
            # When everything starts, no worker was heard of yet: this host has one, or soon will.
            hosts = {self.settings.host_name, *live_hosts(connection), *hosts_with_scrap(connection)}
        moment = int(utc_now().timestamp() // SWEEPS_APART_S)
        # Only a worker of its own host reaches a staging directory; one that is gone has one run waiting, not many.
        waiting = self.prefect.waiting_tags(_sweep_tag(host) for host in hosts)
        for host in sorted(host for host in hosts if _sweep_tag(host) not in waiting):
            key, tags = f"sweep/{host}/{moment}", (_sweep_tag(host),)
            wanted = WantedRun(f"housekeeping/{DEPLOYMENT}", "housekeeping", {}, key, host_queue(host), tags)
            self.prefect.schedule(wanted)
        self._done(row)

    def _refused(self, row: OutboxRow, refused: PrefectRefused) -> None:
        self.prefect.forget_deployments()
        if refused.status in MENDABLE and row.age_s < REFUSAL_PATIENCE_S:
            self._postpone(row, 2.0, str(refused))
            log.warning("Prefect refused, trying again", key=row.key, reason=str(refused))
            return
        log.error("Prefect refused", key=row.key, reason=str(refused))
        if row.kind is OutboxKind.DISPATCH and row.task_id is not None:
            self._end(row.task_id, str(DispatchFailed(str(refused))))
        self._done(row)

    def _done(self, row: OutboxRow) -> None:
        with self.catalog.write() as connection:
            done(connection, row)

    def _postpone(self, row: OutboxRow, wait_s: float, reason: str) -> None:
        with self.catalog.write() as connection:
            postpone(connection, row, wait_s, reason)

    def reconcile(self) -> int:
        """Look at every unfinished import and put right what is wrong; return how many were."""
        with self.catalog.read() as connection:
            tasks = unfinished_tasks(connection)
            untold = awaiting_dispatch(connection)
        if not tasks:
            return 0
        runs = self.prefect.states(task.flow_run_id for task in tasks if task.flow_run_id)
        acted = 0
        for task in tasks:
            try:
                with self.catalog.read() as connection:
                    lease = lease_of(connection, task.image_id)
                    # Read again after Prefect was asked: the import may have moved on meanwhile.
                    fresh = get_task(connection, task.id)
            except LockLost:
                continue
            if fresh.status.final or fresh.attempt != task.attempt:
                continue
            run = runs.get(fresh.flow_run_id or "")
            patience = Patience(self.settings.lease.pending_timeout_s, STUCK_S)
            if fresh.id in untold and _ended_before(lease, run, patience):
                continue
            acted += self._act(fresh, judge(fresh, lease, run, patience), run)
        return acted

    def _act(self, task: ImportTask, verdict: Verdict, run: FlowRunState | None) -> bool:
        match verdict.action:
            case Action.NOTHING:
                return False
            case Action.RESUME:
                log.warning("import lost its worker", task_id=task.id, image_id=task.image_id, reason=verdict.reason)
                resume_or_end(
                    self.catalog,
                    task.image_id,
                    verdict.reason,
                    crash_retries=self.settings.lease.crash_retries,
                    now=utc_now(),
                    time_to_live_h=self.settings.imports.task_time_to_live_h,
                    rerun_ttl_s=self.settings.lease.rerun_ttl_s,
                )
            case Action.END:
                self._end(task.id, verdict.reason)
            case Action.RESCHEDULE if run is not None:
                log.warning("run rescheduled", task_id=task.id, flow_run_id=run.id, reason=verdict.reason)
                self.prefect.set_state(run.id, RunState.AWAITING_RETRY, verdict.reason)
            case Action.MIRROR if verdict.status is not None:
                with self.catalog.write() as connection:
                    set_status(connection, task.id, verdict.status, utc_now())
        return True

    def _end(self, task_id: str, reason: str) -> None:
        ended = end_unheld(
            self.catalog,
            task_id,
            reason,
            now=utc_now(),
            time_to_live_h=self.settings.imports.task_time_to_live_h,
            rerun_ttl_s=self.settings.lease.rerun_ttl_s,
        )
        if ended:
            log.warning("import ended", task_id=task_id, reason=reason)

    def settle(self) -> int:
        """Show in Prefect how tasks ended whose flow run did not say so itself; return how many were put right."""
        now = utc_now()
        with self.catalog.read() as connection:
            tasks = unsettled_tasks(connection, now - timedelta(seconds=SETTLE_AFTER_S))
        if not tasks:
            return 0
        runs = self.prefect.states(str(task.flow_run_id) for task in tasks)
        wrong = 0
        for task in tasks:
            run = runs.get(str(task.flow_run_id))
            if run is not None and _contradicts(task, run, (now - task.updated_at).total_seconds()):
                name = RunState.IMPORTED if task.status is TaskStatus.SUCCESS else RunState.FAILED
                self.prefect.set_state(run.id, name, task.message)
                wrong += 1
        with self.catalog.write() as connection:
            mark_settled(connection, [task.id for task in tasks])
        return wrong

    def mirror_stores(self) -> int:
        """Copy store settings that were edited in the Prefect UI into the catalogue; return how many changed."""
        documents = {str(document["name"]): document for document in self.prefect.store_blocks()}
        found = {
            store_id: settings_of_block(documents[document_name(store_id)])
            for store_id in self.settings.all_stores
            if document_name(store_id) in documents
        }
        wanted = {store_id: settings_json for store_id, settings_json in found.items() if settings_json is not None}
        changed = 0
        with self.catalog.read() as connection:
            kept = mirrored_stores(connection, self.catalog)
        for store_id, settings_json in wanted.items():
            if kept.get(store_id) != settings_json:
                self._prepare_edited(store_id, settings_json)
                with self.catalog.write() as connection:
                    mirror_store(connection, self.catalog, store_id, settings_json, utc_now())
                changed += 1
        for store_id in kept.keys() - wanted.keys():
            with self.catalog.write() as connection:
                forget_store(connection, store_id)
            changed += 1
        return changed

    def _prepare_edited(self, store_id: str, settings_json: str) -> None:
        """Prepare the directory that an edit may have named; what cannot be prepared stays unused until it is."""
        settings = FileStoreSettings.model_validate_json(settings_json)
        try:
            if prepare_store(self.catalog, store_id, settings):
                log.info("store prepared", store=store_id, directory=str(settings.dir))
        except TransferFailed as fault:
            log.warning("store not prepared", store=store_id, reason=explained(fault, settings))

    def end_lost_uploads(self) -> int:
        """Free images whose upload lost its process; return how many."""
        ended = end_lost_uploads(self.catalog, utc_now())
        for image_id in ended:
            log.warning("upload lost its process; the image is queued again", image_id=image_id)
        return len(ended)

    def purge(self) -> None:
        """Remove secrets of tasks that nobody may start again, the uploaded data of such imports, and hosts of old."""
        kept_since = utc_now() - timedelta(seconds=self.settings.lease.rerun_ttl_s)
        with self.catalog.write() as connection:
            purge_secrets(connection, kept_since)
            forget_hosts(connection)
        for image_id in give_up_uploads(self.catalog, kept_since, utc_now()):
            log.info("uploaded data are kept no longer; the image is queued again", image_id=image_id)


def _sweep_tag(host: str) -> str:
    return f"sweep:{host}"


def settings_of_block(document: Mapping[str, Any]) -> str | None:
    """Return the store settings of a block document as JSON, None (and a logged warning) when they cannot be used."""
    held = document["data"]
    try:
        settings = FileStoreSettings.model_validate(
            {
                "dir": held["directory"],
                "description": held.get("description", ""),
                "weight": held.get("weight", 0),
                "file_mode": held.get("file_mode", "0640"),
            }
        )
    except (KeyError, ValueError) as error:
        log.warning("store block cannot be used", block=document.get("name"), reason=type(error).__name__)
        return None
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True)


def run_parameters(task: ImportTask, image: Image) -> dict[str, Any]:
    """Return the parameters of a task's flow run: ids and what a person wants to see, no secret."""
    asked = task.input.get("import_req")
    request: Mapping[str, object] = asked if isinstance(asked, Mapping) else {}
    parameters: dict[str, Any] = {
        "image_id": image.id,
        "task_id": task.id,
        "stores": task.input.get("backend"),
        "all_stores_must_succeed": request.get("all_stores_must_succeed", True),
    }
    if task.method in (ImportMethod.GLANCE_DIRECT, ImportMethod.COPY_IMAGE):
        return parameters
    said = request.get("method")
    method: Mapping[str, object] = said if isinstance(said, Mapping) else {}
    parameters |= {"name": image.name, "project_id": image.owner}
    if task.method == ImportMethod.GLANCE_DOWNLOAD:
        names = ("glance_region", "glance_image_id", "glance_service_interface")
        return {**parameters, **{name: method[name] for name in names if name in method}}
    parameters["uri"] = method.get("uri", "")
    if image.disk_format in DISK_FORMATS:
        parameters["disk_format"] = image.disk_format
    if image.container_format in CONTAINER_FORMATS:
        parameters["container_format"] = image.container_format
    return parameters


def _ended_before(lease: LeaseState, run: FlowRunState | None, patience: Patience) -> bool:
    """Return whether a run shows the end of an earlier attempt, because Prefect was not told of this one yet."""
    waits = lease.state == "queued" and lease.age_s <= patience.pending_timeout_s
    return waits and run is not None and run.type in ("CRASHED", "COMPLETED", "FAILED")


def _contradicts(task: ImportTask, run: FlowRunState, ended_for_s: float) -> bool:
    """Return whether a run shows something else than its task's end, and is not a newer attempt."""
    if run.age_s < ended_for_s - 5.0 and not run.final:
        return False
    if task.status is TaskStatus.SUCCESS:
        return run.type != "COMPLETED"
    return not run.final
