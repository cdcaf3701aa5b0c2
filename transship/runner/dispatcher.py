"""The dispatcher: one event loop that fetches runs, carries them out, and supervises its executors."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog
from prefect.exceptions import ObjectNotFound
from sqlalchemy.exc import SQLAlchemyError

from config.loading import SNAPSHOT_VARIABLE
from config.settings import Settings
from config.snapshot import newest_snapshot, read_snapshot
from deployments.pool import apply_queues
from transship.catalog.carriers import Standing, standings_of
from transship.catalog.engine import Catalog
from transship.catalog.hosts import HEARD_EVERY_S, note_host
from transship.catalog.leases import expire_lease_of_dead, process_name
from transship.domain.errors import ConfigurationRefused, TransshipError
from transship.host.processes import (
    Standstills,
    children,
    descendants,
    end_strangers,
    in_our_session,
    resident_bytes,
    running_children,
    signal_group,
    signal_process,
    start_time,
    variable_of,
)
from transship.host.runner_status import (
    ExecutorStatus,
    RunnerStatus,
    last_runner_status,
    runner_status_path,
    write_runner_status,
)
from transship.runner import events, pins
from transship.runner.cold import RUN_VARIABLE
from transship.runner.duties import FAULTS, Work, every, keep_connected, keep_doing, reason_of
from transship.runner.engine import Engine
from transship.runner.orphans import give_back_orphans
from transship.runner.pool import Pool
from transship.runner.recycling import WearLimits
from transship.runner.template import ForkedTemplate
from transship.runner.worker import WarmWorker

BEAT_EVERY_S: Final = 30.0
ORPHANS_EVERY_S: Final = 30.0
HANGS_EVERY_S: Final = 2.0
RENEW_EVERY_S: Final = 5.0
STATUS_EVERY_S: Final = 5.0
STATUS_SETTLE_S: Final = 0.2
"""Changes within this time are written together."""

WARM_AGAIN_S: Final = 60.0
"""Delay before an unusable warm engine is tried again."""

TEMPLATE_AGAIN_S: Final = 1.0
ORPHANS_AGAIN_S: Final = 0.05
TAKER: Final = "transship.commands.take_settings"
"""Module that reads the settings of a standalone worker again."""

log = structlog.get_logger("transship.runner")


class Phase(StrEnum):
    """What the dispatcher is doing."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Dispatcher:
    """Serves the queues of this host until it is stopped.

    After SIGTERM or SIGINT it waits some time for running imports, then interrupts them to be resumed later; a second
    signal interrupts them at once. SIGHUP applies the newest settings and starts a new template with the current code.

    Args:
        settings: in force.
        queues: work queues to take runs from.
        entrypoints: module paths of the flows.
        on_ready: called when runs are taken, and after each reload, with any problem; empty: none.
        template: already forked from this process; None: a fresh interpreter becomes the first template.
    """

    def __init__(
        self,
        settings: Settings,
        queues: tuple[str, ...],
        entrypoints: tuple[str, ...],
        on_ready: Callable[[str], None],
        template: ForkedTemplate | None = None,
    ) -> None:
        self.settings, self.queues, self.on_ready = settings, queues, on_ready
        self.phase = Phase.STARTING
        self._strangers: set[int] = set()
        self._standstills = Standstills(settings.lease.ttl_s)
        self._changed = asyncio.Event()
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._reload, self._mend = asyncio.Event(), asyncio.Event()
        self._parent = os.getppid()
        self._opening = threading.Lock()
        self._catalog: Catalog | None = None
        self.pool = Pool(
            settings.prefect.worker_limit,
            wear_limits(settings),
            entrypoints,
            os.environ,
            self._changed.set,
            first=template,
        )
        self.pool.on_template_lost = self._mend.set
        self.pool.on_executor_end = self._kill_orphans
        self._former = last_runner_status(runner_status_path(settings))
        self.worker = WarmWorker(
            pool=None,
            cancel_grace_s=settings.runner.cancel_grace_s,
            name=settings.host_name,
            work_pool_name=settings.prefect.work_pool,
            work_queues=list(queues),
            limit=settings.prefect.worker_limit,
            create_pool_if_not_found=False,
        )
        self.worker.on_death = self._give_lease_up
        self.engine = Engine(self.pool, self.worker, self._changed.set)

    async def run(self) -> None:
        """Serve until stopped; all child processes have ended afterwards.

        Raises:
            httpx.HTTPError, PrefectException: Prefect does not answer, or denies access.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        warming = asyncio.create_task(self._warm_up())
        try:
            async with self.worker:
                await apply_queues(self.worker.client, self.settings)
                await self._end_runs_of_former()
                await warming
                async with asyncio.TaskGroup() as group:
                    duties = [group.create_task(keep_doing(name, duty)) for name, duty in self._duties().items()]
                    await self._serve()
                    for duty in duties:
                        duty.cancel()
        finally:
            warming.cancel()
            self.pool.kill_all()
            if self._catalog is not None:
                self._catalog.close()
        # Only after a clean end: otherwise the next dispatcher needs the file to find the runs that were left.
        with suppress(FileNotFoundError):
            runner_status_path(self.settings).unlink()

    async def _serve(self) -> None:
        # The catalogue must know this host before anything relies on it.
        await self._show_life()
        self._enter(Phase.SERVING)
        self.on_ready("")
        await self._stop.wait()
        self._enter(Phase.DRAINING)
        await self._drain()

    def _duties(self) -> Mapping[str, Work]:
        regular: dict[str, tuple[float, Work]] = {
            "look for runs": (self.settings.prefect.poll_interval_s, self._look),
            "worker heartbeat to Prefect": (
                self.worker.heartbeat_interval_seconds,
                self.worker._sync_and_initialize,  # noqa: SLF001 - pinned
            ),
            "host heartbeat to the catalogue": (HEARD_EVERY_S, self._show_life),
            "heartbeats of runs": (BEAT_EVERY_S, self._beat),
            "give back orphans": (ORPHANS_EVERY_S, self._give_back_orphans),
            "kill orphans": (ORPHANS_EVERY_S, self._sweep),
            "end what hangs": (HANGS_EVERY_S, self._end_what_hangs),
            "renew rested executors": (RENEW_EVERY_S, self._renew_rested),
        }
        return {
            "follow events": partial(keep_connected, "follow events", self._follow_events),
            "look when woken": self._on_wake,
            "keep the engine": self._keep_engine,
            "reload": self._on_reload,
            "write status": self._keep_status,
            **{name: partial(every, name, seconds, work) for name, (seconds, work) in regular.items()},
        }

    # --- looking for runs ---

    async def _look(self) -> None:
        await self.worker.get_and_submit_flow_runs()
        await self.worker.look_for_stopped()

    async def _on_wake(self) -> None:
        """Fetch runs at once when an event says that one waits; events that arrive meanwhile share one request."""
        while True:
            await self.worker.wake.wait()
            self.worker.wake.clear()
            try:
                await self.worker.get_and_submit_flow_runs()
            except FAULTS as fault:
                log.warning("looking for runs failed", reason=reason_of(fault))

    async def _follow_events(self) -> None:
        while (pool := self.worker._work_pool) is None:  # noqa: SLF001 - pinned
            await asyncio.sleep(0.2)
        await events.follow(pool.id, self.worker)

    async def _give_back_orphans(self) -> None:
        client, pool, name = self.worker.client, self.settings.prefect.work_pool, self.worker.name
        await give_back_orphans(client, pool, self.queues, self.worker.known_ids, name)

    async def _end_runs_of_former(self) -> None:
        """Report the end of runs that died with a former dispatcher of this host."""
        for lost in self._former.executors if self._former is not None else ():
            if lost.flow_run_id and start_time(lost.pid) != lost.started:
                await self._end_run_of(lost)

    async def _end_run_of(self, lost: ExecutorStatus) -> None:
        try:
            run = await self.worker.client.read_flow_run(UUID(lost.flow_run_id))
        except ObjectNotFound:
            return
        had_it = await self._give_lease_up(run.id, lost.pid)
        # With a higher run count, the run belongs to another process, here or on another host.
        same_attempt = run.run_count == lost.run_count + 1
        if run.state is not None and run.state.is_running() and (had_it or same_attempt):
            await self.worker._propose_crashed_state(run, "its process ended with its worker")  # noqa: SLF001 - pinned

    async def _give_lease_up(self, flow_run_id: UUID, pid: int) -> bool:
        """Release the lease of a dead process, so its import is resumed at once instead of when the lease expires.

        Returns:
            Whether the process had a lease.
        """
        try:
            return await asyncio.to_thread(self._expire_lease, flow_run_id, pid)
        except (TransshipError, SQLAlchemyError) as fault:
            log.warning("lease of a dead process not released; it will expire", reason=reason_of(fault))
            return False

    def _expire_lease(self, flow_run_id: UUID, pid: int) -> bool:
        process = process_name(self.settings.host_name, pid)
        had_it = expire_lease_of_dead(self._open_catalog(), str(flow_run_id), process)
        if had_it:
            log.info("lease of a dead process released", flow_run_id=str(flow_run_id), pid=pid)
        return had_it

    def _open_catalog(self) -> Catalog:
        """Return the catalogue, opened once; several duties call this, each in its own thread."""
        with self._opening:
            if self._catalog is None:
                self._catalog = Catalog.open(self.settings)
            return self._catalog

    async def _show_life(self) -> None:
        """Write this host's row in the catalogue; the host serves its staging whether Prefect answers or not."""
        try:
            await asyncio.to_thread(self._note_host)
        except (TransshipError, SQLAlchemyError) as fault:
            log.warning("heartbeat not written", reason=reason_of(fault))

    def _note_host(self) -> None:
        with self._open_catalog().statement() as connection:
            note_host(connection, self.settings.host_name, int(self.worker.limiter.total_tokens))

    # --- what hangs ---

    async def _end_what_hangs(self) -> None:
        self._end_stopped()
        processes = self.worker.runs.processes()
        if not processes:
            return
        try:
            standings = await asyncio.to_thread(self._standings, processes)
        except (TransshipError, SQLAlchemyError) as fault:
            log.warning("owners of imports not read from the catalogue", reason=reason_of(fault))
            return
        self.worker.runs.give_up_lost(standings, asyncio.get_running_loop().time())

    def _standings(self, processes: Mapping[UUID, int]) -> dict[UUID, Standing]:
        host = self.settings.host_name
        names = {str(flow_run_id): process_name(host, pid) for flow_run_id, pid in processes.items()}
        with self._open_catalog().statement() as connection:
            return {UUID(run): standing for run, standing in standings_of(connection, names).items()}

    def _end_stopped(self) -> None:
        """Kill processes that were stopped by a signal and not continued in time, because they cannot end otherwise.

        If a process started by a run is stopped, the run hangs too, so the run is ended.
        """
        executors = {one.pid for one in self.pool.executors if one.pid}
        runs = set(self.worker.runs.processes().values())
        trees = {pid: {pid, *descendants(pid)} for pid in executors | runs}
        template = self.pool.template_pid
        watched = {template} - {0} | set().union(*trees.values())
        overdue = self._standstills.overdue(watched, asyncio.get_running_loop().time())
        for pid, tree in trees.items():
            if tree & overdue:
                log.warning("killing a stopped process", pid=pid, stopped=sorted(tree & overdue))
                if not self.pool.give_up(pid):
                    signal_group(pid, signal.SIGKILL)
        if template in overdue:
            log.warning("killing the stopped template", pid=template)
            signal_process(template, signal.SIGKILL)

    async def _beat(self) -> None:
        self.worker.runs.beat()

    # --- the engine ---

    async def _warm_up(self) -> None:
        """Use the warm engine if it is configured and passes its test; else use the cold engine, and log why."""
        if self.settings.runner.engine == "cold":
            self.engine.cool_down("runner.engine is cold")
            return
        if lacking := pins.problems(pins.WORKER_PINS) + pins.missing_attributes(self.worker):
            self.engine.cool_down("; ".join(lacking))
            return
        await self.engine.warm_up()

    async def _keep_engine(self) -> None:
        """Restart a dead template, and try the warm engine again if it was unusable."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WARM_AGAIN_S):
                    await self._mend.wait()
            lost = self._mend.is_set()
            self._mend.clear()
            if lost:
                await asyncio.sleep(TEMPLATE_AGAIN_S)
            if self._stop.is_set():
                continue
            if lost or (self.worker.pool is None and self.settings.runner.engine == "warm"):
                await self._warm_up()

    async def _renew_rested(self) -> None:
        self.pool.renew_rested()

    async def _sweep(self) -> None:
        self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kill the children that dead processes had started in separate sessions; this process adopted them."""
        runs = {str(flow_run_id) for flow_run_id in self.worker.known_ids}
        spared = {pid for pid in children(os.getpid()) if pid not in self._strangers and is_our_own(pid, runs)}
        self._strangers = set(end_strangers(self.pool.pids | spared))
        if self._strangers:
            # By then the killed processes can be reaped, and their children have been adopted.
            asyncio.get_running_loop().call_later(ORPHANS_AGAIN_S, self._kill_orphans)

    async def _on_reload(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            if not self._stop.is_set():
                self.on_ready(await self._apply_newest())

    async def _apply_newest(self) -> str:
        """Apply the newest settings and code; return what prevents it, empty if nothing does."""
        try:
            self.settings = settings = await self._newest_settings()
        except ConfigurationRefused as refused:
            log.warning("new settings not applied; the former ones stay in force", reason=str(refused))
            return str(refused)
        limit = settings.prefect.worker_limit
        self.worker.limiter.total_tokens = limit
        self.worker.cancel_grace_s = settings.runner.cancel_grace_s
        self.pool.resize(limit, wear_limits(settings))
        log.info("reloading: new runs get new processes, running ones continue", limit=limit)
        await self._warm_up()
        return self.engine.fault

    async def _newest_settings(self) -> Settings:
        """Return the newest settings, for all processes started from now on.

        A supervisor reads the settings before it sends SIGHUP; without one, this process has them read.

        Raises:
            ConfigurationRefused: they are invalid; the former ones stay in force.
        """
        if not read_snapshot(Path(os.environ[SNAPSHOT_VARIABLE])).supervised:
            await take_settings()
        newest = newest_snapshot(self.settings.run_dir)
        if newest is None:
            raise ConfigurationRefused(str(self.settings.run_dir), "settings in force", "were removed")
        settings = read_snapshot(newest).loaded.settings
        # A running generation keeps its settings; the next one and fresh interpreters get the new ones.
        os.environ[SNAPSHOT_VARIABLE] = str(newest)
        return settings

    # --- stopping ---

    def _on_stop(self) -> None:
        # If the supervisor was killed, it does not wait.
        if self._stop.is_set() or os.getppid() != self._parent:
            self._hurry.set()
        self._stop.set()

    async def _drain(self) -> None:
        """Wait for running imports to end, then interrupt the rest, to be resumed later."""
        self.worker.draining = True
        # Runs that wait for an executor are not claimed yet.
        self.pool.refuse("the runner is stopping")
        limits = self.settings.supervisor
        if not await self._empty(limits.drain_s):
            log.warning("running imports are interrupted, to be resumed later", runs=self.worker.carried)
            for pid in running_children(os.getpid()):
                if pid != self.pool.template_pid:
                    signal_process(pid, signal.SIGTERM)
        closing = asyncio.create_task(self.pool.close())
        await asyncio.wait([closing], timeout=limits.kill_after_s)
        self.pool.kill_all()
        await closing
        self._hurry.clear()
        await self._empty(limits.kill_after_s)

    async def _empty(self, limit_s: float) -> bool:
        """Wait until there are no runs; return False when the time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while self.worker.carried:
            if loop.time() >= end or self._hurry.is_set():
                return False
            await asyncio.sleep(0.05)
        return True

    # --- telling ---

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._changed.set()

    async def _keep_status(self) -> None:
        while True:
            self._write_status()
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_EVERY_S):
                    await self._changed.wait()
            await asyncio.sleep(STATUS_SETTLE_S)
            self._changed.clear()

    def _write_status(self) -> None:
        try:
            write_runner_status(runner_status_path(self.settings), self.status())
        except OSError as error:
            # A full disk must not end running imports.
            log.warning("status not written", reason=error.strerror)

    def status(self) -> RunnerStatus:
        """Return the current status."""
        now = asyncio.get_running_loop().time()
        counts = {str(flow_run_id): held.flow_run.run_count for flow_run_id, held in self.worker.runs.held.items()}
        executors = tuple(
            ExecutorStatus(
                pid=one.pid,
                condition=one.condition,
                runs=one.runs,
                rss_bytes=resident_bytes(one.pid),
                flow_run_id=one.run_id,
                for_s=round(now - one.since, 1),
                started=start_time(one.pid) or 0,
                run_count=counts.get(one.run_id, 0),
            )
            for one in self.pool.executors
        )
        return RunnerStatus(
            pid=os.getpid(),
            started=start_time(os.getpid()) or 0,
            phase=self.phase,
            engine="cold" if self.worker.pool is None else "warm",
            reason=self.engine.reason,
            limit=int(self.worker.limiter.total_tokens),
            carried=self.worker.carried,
            template_pid=self.pool.template_pid,
            queues=self.queues,
            executors=executors,
            written_at=time.time(),
        )


async def take_settings() -> None:
    """Read the settings again in a separate process that validates them all.

    Raises:
        ConfigurationRefused: they are invalid; no snapshot was taken.
    """
    try:
        taker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", TAKER),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await taker.communicate()
    except OSError as error:
        raise ConfigurationRefused("reload", "settings", f"cannot be read: {error}") from error
    if taker.returncode:
        raise ConfigurationRefused("reload", "settings", said.decode(errors="replace").strip())


def is_our_own(pid: int, runs: set[str]) -> bool:
    """Whether a child that is not an executor was started by this process, rather than adopted.

    Prefect sets the run's id in the environment of processes that it starts for a run. Executors and templates have
    separate sessions, so processes that they leave behind are never in this process's session.

    Args:
        runs: ids of the current runs.
    """
    run = variable_of(pid, RUN_VARIABLE)
    return run in runs if run else in_our_session(pid)


def wear_limits(settings: Settings) -> WearLimits:
    """Return the limits at which executors are replaced."""
    return WearLimits(settings.runner.executor_runs, settings.runner.executor_growth_bytes)
