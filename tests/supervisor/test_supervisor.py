"""The supervisor runs small real processes; every wait is for a line that one of them writes."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from config.settings import Settings
from tests.fakes.ports import free_port
from tests.fakes.supervised import start as supervised_process
from tests.fakes.system import until
from transship.domain.errors import ConfigurationRefused
from transship.host.processes import children, descendants, start_time
from transship.supervisor.component import Condition
from transship.supervisor.home import is_locked, read_holder, status_path
from transship.supervisor.launch import stop_running
from transship.supervisor.reloading import FIXED, refuse_fixed_changes
from transship.supervisor.status import Phase, SupervisorStatus, read_status
from transship.supervisor.supervisor import DEBOUNCE_S, RELOAD_SIGNAL

pytestmark = pytest.mark.faults


def sh(script: str) -> list[str]:
    return ["bash", "-c", script]


def ended(pid: int) -> bool:
    """Whether a process has ended, or does within a moment: a kill takes effect when the kernel gets to it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Release a reader of a pipe; the pipe is opened for reading and writing, because opening only one side blocks."""
    descriptor = os.open(gate, os.O_RDWR)
    try:
        os.write(descriptor, b"go\n")
        yield
    finally:
        os.close(descriptor)


SLEEPER = sh("echo alive $$; exec sleep 1000")


@dataclass
class Running:
    """A supervisor in a separate process, and the lines that it has shown."""

    home: Path
    process: subprocess.Popen[str]
    unread: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings.model_validate({"home": self.home})

    def line_with(self, text: str) -> str:
        """Return the first line that holds a text and was not returned before."""
        assert self.process.stdout is not None
        for line in self.unread:
            if text in line:
                self.unread.remove(line)
                return line
        for line in self.process.stdout:
            if text in line:
                return line.rstrip()
            self.unread.append(line.rstrip())
        pytest.fail(f"ended without a line with {text!r}: {self.unread}")

    def pid_after(self, text: str) -> int:
        return int(self.line_with(text).split()[-1])

    def rest(self) -> list[str]:
        """Return all lines that were not returned before, until the end."""
        assert self.process.stdout is not None
        return [*self.unread, *(line.rstrip() for line in self.process.stdout)]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)


class Starter:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.started: list[Running] = []
        self.limits: list[threading.Timer] = []

    def __call__(
        self, *components: Mapping[str, object], detach: bool = False, standstill_s: float = 60.0, **supervisor: float
    ) -> Running:
        table = self.home.with_suffix(".json")
        asked = {"home": str(self.home), "components": components, "detach": detach, "supervisor": supervisor}
        asked["standstill_s"] = standstill_s
        process = supervised_process(table, asked)
        self.started.append(Running(self.home, process))
        # A line that never comes ends the test instead of the patience of whoever runs it.
        limit = threading.Timer(300, process.kill)
        limit.daemon = True
        limit.start()
        self.limits.append(limit)
        return self.started[-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path / "home")
    yield starter
    for limit in starter.limits:
        limit.cancel()
    for running in starter.started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(120)
        if running.process.stdout:
            running.process.stdout.close()
    stop_running(Settings.model_validate({"home": starter.home}), True, lambda _: None)


def test_a_component_that_was_stopped_by_a_signal_is_killed_and_started_anew(start: Starter) -> None:
    running = start({"name": "still", "argv": SLEEPER}, {"name": "steady", "argv": SLEEPER}, standstill_s=0.5)
    still, steady = running.pid_after("alive"), running.pid_after("alive")
    os.kill(still, signal.SIGSTOP)
    running.line_with("has been stopped by a signal for 0.5 s: killing it")
    assert ended(still)
    assert running.pid_after("alive") not in (still, steady)
    assert start_time(steady) is not None


def test_lines_carry_time_and_name_and_lie_in_a_log_of_their_own(start: Starter) -> None:
    running = start({"name": "talker", "argv": sh("echo one; echo two >&2; exec sleep 1000")})
    assert running.line_with("one").split()[1:] == ["talker", "one"]
    running.line_with("two")
    running.line_with("ready after")
    assert running.end() == 0
    talk = (running.home / "log" / "talker.log").read_text().splitlines()
    assert all(line.startswith("time=20") for line in talk)
    found = [line.split(" ", 1)[1] for line in talk]
    assert found == [f"level=info component=talker event={word}" for word in ("one", "two")]


def test_a_service_manager_hears_that_everything_is_up(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(120)
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        running = start({"name": "steady", "argv": SLEEPER})
        assert manager.recv(100) == b"READY=1"
    running.line_with("ready after")
    assert running.end() == 0


def test_a_stage_starts_when_the_one_before_has_ended_well(start: Starter) -> None:
    running = start(
        {"name": "later", "argv": sh("cat done; exec sleep 1000"), "stage": 1},
        {"name": "first", "argv": sh("echo 'made before' > done"), "once": True},
    )
    running.line_with("starting first")
    running.line_with("made before")
    running.line_with("first is done after")
    running.line_with("starting later")
    running.line_with("later is up after")
    running.line_with("ready after")
    assert running.end() == 0


def test_a_line_says_that_a_component_is_up(start: Starter) -> None:
    slow = sh("mkfifo gate; echo waiting; read line < gate; echo 'Worker started!'; exec sleep 1000")
    running = start({"name": "worker", "argv": slow, "settle_s": 1000.0, "ready_text": "started!"})
    running.line_with("waiting")
    status = read_status(status_path(running.settings))
    assert status is not None
    assert (status.phase, status.components[0].condition) == (Phase.STARTING, Condition.STARTING)
    running.line_with("waiting for worker for 10 s")
    with opened(running.home / "gate"):
        running.line_with("worker is up after")
        running.line_with("ready after")
    assert running.end() == 0


def logged(running: Running) -> str:
    """Return what the supervisor has logged."""
    return (running.home / "log" / "supervisor.log").read_text()


@pytest.mark.parametrize(
    ("number", "sender"), [(signal.SIGINT, " from a terminal (Ctrl-C)"), (signal.SIGTERM, "")], ids=["Ctrl-C", "kill"]
)
def test_the_log_says_which_signal_stopped_everything(start: Starter, number: signal.Signals, sender: str) -> None:
    running = start({"name": "server", "argv": SLEEPER})
    running.line_with("ready after")
    assert running.end(number) == 0
    assert f"{number.name} received{sender}: stopping" in logged(running)
    assert "server ended (killed by SIGTERM), as asked" in logged(running)


def test_the_log_says_that_down_stopped_everything(start: Starter) -> None:
    running = start({"name": "server", "argv": SLEEPER})
    running.line_with("ready after")
    assert stop_running(running.settings, now=False, on_wait=lambda _: None)
    assert f"SIGTERM received from 'transship down', process {os.getpid()}: stopping" in logged(running)


def test_a_component_that_dies_is_started_again_and_the_end_is_told(start: Starter) -> None:
    running = start({"name": "mortal", "argv": SLEEPER})
    first = running.pid_after("alive")
    running.line_with("ready after")
    os.kill(first, signal.SIGKILL)
    assert "killed by SIGKILL" in running.line_with("mortal ended")
    assert running.pid_after("alive") != first
    status = read_status(status_path(running.settings))
    assert status is not None
    assert (status.components[0].restarts, status.components[0].last_exit) == (1, "killed by SIGKILL")
    assert running.end() == 0


def test_a_component_that_keeps_dying_fails_the_start_and_stops_the_rest(start: Starter) -> None:
    running = start(
        {"name": "steady", "argv": SLEEPER},
        {"name": "broken", "argv": sh("echo no good; exit 7"), "once": True, "stage": 1},
    )
    steady = running.pid_after("alive")
    assert "broken did not start: exit status 7" in running.line_with("did not start")
    assert running.process.wait(120) == 1
    assert ended(steady)
    assert "stopping: broken did not start: exit status 7, 3 times" in logged(running)


def test_a_health_check_that_nobody_answers_fails_the_start_in_time(start: Starter) -> None:
    deaf = {"name": "deaf", "argv": SLEEPER, "health_url": "http://127.0.0.1:9/healthcheck"}
    running = start(deaf, start_timeout_s=0.5)
    assert "deaf did not start: not ready after 0.5 s" in running.line_with("did not start")
    assert running.process.wait(120) == 1


def test_a_command_that_does_not_exist_fails_the_start(start: Starter) -> None:
    running = start({"name": "typo", "argv": ["/no/such/command"], "settle_s": 60.0})
    running.line_with("typo did not start")
    assert running.process.wait(120) == 1


def test_stop_follows_the_ranks(start: Starter) -> None:
    farewell = "trap 'echo leaving; exit 0' TERM; echo alive; while :; do sleep 0.05; done"
    running = start(
        {"name": "server", "argv": sh(farewell), "stop_rank": 3, "kill_after_s": 200},
        {"name": "worker", "argv": sh(farewell), "stop_rank": 0, "kill_after_s": 200},
        {"name": "api", "argv": sh(farewell), "stop_rank": 1, "kill_after_s": 200},
    )
    for _ in range(3):
        running.line_with("alive")
    running.line_with("ready after")
    running.process.send_signal(signal.SIGINT)
    left = [line.split()[1] for line in running.rest() if line.endswith("leaving")]
    assert left == ["worker", "api", "server"]
    assert running.process.wait(120) == 0


def test_stop_kills_a_whole_group_that_ignores_it(start: Starter) -> None:
    stubborn = sh("trap '' TERM; sleep 1000 & echo grandchild $!; while :; do wait; done")
    running = start({"name": "stubborn", "argv": stubborn, "kill_after_s": 0.2})
    grandchild = running.pid_after("grandchild")
    running.line_with("ready after")
    assert running.end() == 0
    assert ended(grandchild)


def test_a_second_signal_does_not_wait(start: Starter) -> None:
    stubborn = sh("trap '' TERM; echo alive; while :; do sleep 0.05; done")
    running = start({"name": "stubborn", "argv": stubborn, "kill_after_s": 1000})
    running.line_with("alive")
    running.line_with("ready after")
    assert stop_running(running.settings, now=True, on_wait=lambda _: None)
    assert any("received again" in line for line in running.rest())
    assert running.process.wait(120) == 0


def test_a_second_signal_is_not_sent_to_a_supervisor_that_has_not_heard_the_first(start: Starter) -> None:
    """As where it lay still for a moment: it would take both for one, and let everything end in its time."""
    stubborn = sh("trap '' TERM; echo alive; while :; do sleep 0.05; done")
    running = start({"name": "stubborn", "argv": stubborn, "kill_after_s": 1000})
    running.line_with("alive")
    running.line_with("ready after")
    holder = read_holder(running.settings)
    assert holder is not None
    told = threading.Event()
    os.kill(holder.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        stopped = threads.submit(stop_running, running.settings, True, lambda _: told.set())
        assert told.wait(60)
        # Time enough for a second signal from somebody who sends it by the clock alone.
        threading.Event().wait(4 * DEBOUNCE_S)
        os.kill(holder.pid, signal.SIGCONT)
        assert stopped.result()
    assert any("received again" in line for line in running.rest())
    assert running.process.wait(120) == 0


def test_orphans_of_a_killed_component_are_killed_before_its_restart(start: Starter) -> None:
    # setsid: the grandchild has left the group, as the runs of a Prefect worker may.
    running = start({"name": "parent", "argv": sh("setsid sleep 1000 & echo orphan $!; echo alive $$; wait")})
    orphan = running.pid_after("orphan")
    parent = running.pid_after("alive")
    running.line_with("ready after")
    os.kill(parent, signal.SIGKILL)
    running.line_with("orphan")
    assert ended(orphan)
    assert running.end() == 0


def test_orphans_of_a_killed_grandchild_are_killed_while_the_component_lives(start: Starter) -> None:
    run = "bash -c 'sleep 1000 & echo image-tool $!; wait' & echo run $!; while :; do wait; sleep 0.05; done"
    running = start({"name": "worker", "argv": sh(run)})
    run_pid = running.pid_after("worker         run")
    tool = running.pid_after("image-tool")
    os.kill(run_pid, signal.SIGKILL)
    running.line_with("left behind")
    assert ended(tool)
    assert running.end() == 0


def test_nothing_outlives_a_killed_supervisor(start: Starter) -> None:
    running = start(
        {"name": "parent", "argv": sh("setsid sleep 1000 & echo orphan $!; trap '' TERM; echo alive $$; wait")}
    )
    orphan = running.pid_after("orphan")
    parent = running.pid_after("alive")
    running.line_with("ready after")
    holder = read_holder(running.settings)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert running.process.wait(120) == 128 + signal.SIGKILL
    assert "supervisor killed by SIGKILL: all components have been stopped" in logged(running)
    assert all(ended(pid) for pid in (holder.pid, parent, orphan))
    assert not is_locked(running.settings)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_children_take_signals_again_that_whoever_started_us_ignores(start: Starter, number: signal.Signals) -> None:
    previous = signal.signal(number, signal.SIG_IGN)
    try:
        running = start({"name": "child", "argv": sh("grep SigIgn /proc/self/status; exec sleep 1000")})
    finally:
        signal.signal(number, previous)
    ignored = int(running.line_with("SigIgn").split()[-1], 16)
    assert not ignored & sum(1 << (each - 1) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    running.line_with("ready after")
    assert running.end(signal.SIGINT) == 0


def test_a_second_supervisor_is_refused_and_the_first_goes_on(start: Starter) -> None:
    running = start({"name": "only", "argv": SLEEPER})
    running.line_with("ready after")
    holder = read_holder(running.settings)
    assert holder is not None
    second = start({"name": "only", "argv": SLEEPER})
    assert any(f"is in use by process {holder.pid}" in line for line in second.rest())
    assert second.process.wait(120) == 1
    assert running.process.poll() is None
    assert running.end() == 0


def test_a_start_in_the_background_returns_when_ready_and_down_leaves_nothing(start: Starter) -> None:
    running = start({"name": "server", "argv": SLEEPER}, detach=True)
    assert running.process.wait(120) == 0
    holder = read_holder(running.settings)
    status = read_status(status_path(running.settings))
    assert holder is not None
    assert status is not None
    assert (status.phase, status.components[0].condition) == (Phase.READY, Condition.UP)
    below = descendants(holder.pid)
    assert children(holder.pid) == [status.components[0].pid]
    assert stop_running(running.settings, now=False, on_wait=lambda _: None)
    assert all(ended(pid) for pid in (holder.pid, *below))
    assert not stop_running(running.settings, now=False, on_wait=lambda _: None)


def test_a_failed_start_in_the_background_shows_the_last_words(start: Starter) -> None:
    running = start({"name": "broken", "argv": sh("echo the reason; exit 3"), "once": True}, detach=True)
    shown = running.rest()
    assert running.process.wait(120) == 1
    assert [line for line in shown if line.startswith("broken")] == ["broken the reason"]
    assert any("broken did not start: exit status 3" in line for line in shown)
    assert not is_locked(running.settings)


ACCEPTING = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1].removeprefix("--socket=")))
print("accepting", flush=True)
while True:
    talk, _ = listener.accept()
    asked = talk.recv(100)
    if asked == b"die":
        sys.exit(1)
    talk.sendall(b"answer to " + asked)
    talk.close()
"""


def test_who_connects_while_a_component_is_away_is_served_by_the_next_one(start: Starter) -> None:
    port = free_port()
    running = start(
        {"name": "api", "argv": [sys.executable, "-c", ACCEPTING], "listen": ["127.0.0.1", port], "settle_s": 0.1}
    )
    running.line_with("accepting")
    running.line_with("ready after")
    with socket.create_connection(("127.0.0.1", port)) as talk:
        talk.sendall(b"die")
        running.line_with("starting it again")
    # It is away now, for the second that it waits to be started again.
    with socket.create_connection(("127.0.0.1", port), timeout=120) as talk:
        talk.sendall(b"question")
        assert talk.recv(100) == b"answer to question"
    assert running.end() == 0


def test_an_address_that_is_taken_fails_the_start(start: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = start({"name": "api", "argv": SLEEPER, "listen": ["127.0.0.1", port]})
        assert f"api.port: port {port} of 127.0.0.1 is taken by another program" in running.line_with("error")
        assert running.process.wait(120) == 1


SERVING = "trap 'echo finishing $$' HUP; echo serving $$; while :; do sleep 0.05; done"


def reloaded(running: Running, *components: Mapping[str, object]) -> str:
    """Reload with another process table; return what became of each."""
    table = running.home.with_suffix(".json")
    asked = json.loads(table.read_text(encoding="utf-8"))
    table.write_text(json.dumps({**asked, "components": components}), encoding="utf-8")
    holder = read_holder(running.settings)
    assert holder is not None
    os.kill(holder.pid, RELOAD_SIGNAL)

    def done() -> str:
        status = read_status(status_path(running.settings))
        return status.last_reload if status is not None else ""

    return str(until(done, what="the end of a reload"))


def test_a_reload_replaces_a_component_when_the_next_one_is_up(start: Starter) -> None:
    api: dict[str, object] = {"name": "api", "renewal": "replace", "ready_text": "serving", "settle_s": 1000.0}
    running = start({**api, "argv": sh(SERVING)})
    first = running.pid_after("serving")
    running.line_with("ready after")
    assert reloaded(running, {**api, "argv": sh(SERVING)}).startswith("api: replaced")
    second = running.pid_after("serving")
    assert running.pid_after("finishing") == first
    status = read_status(status_path(running.settings))
    assert status is not None
    assert (status.components[0].pid, status.reload_failed) == (second, False)
    # It is still answering somebody, and is not taken for a stranger.
    running.line_with("reload")
    os.kill(first, 0)
    assert running.end() == 0
    assert ended(first)


def test_a_reload_keeps_a_component_whose_successor_does_not_come_up(start: Starter) -> None:
    api: dict[str, object] = {"name": "api", "renewal": "replace", "ready_text": "serving", "settle_s": 1000.0}
    running = start({**api, "argv": sh(SERVING)}, {"name": "later", "argv": SLEEPER})
    first = running.pid_after("serving")
    later = running.pid_after("alive")
    running.line_with("ready after")
    said = reloaded(running, {**api, "argv": sh("exit 7")}, {"name": "later", "argv": SLEEPER})
    assert "api did not start: exit status 7" in said
    assert "not reloaded" in said
    status = read_status(status_path(running.settings))
    assert status is not None
    assert [component.pid for component in status.components] == [first, later]
    assert status.reload_failed
    assert running.end() == 0


def test_a_reload_tells_a_component_to_read_its_settings_again(start: Starter) -> None:
    told = "trap 'echo taken up' HUP; echo 'taken up'; while :; do sleep 0.05; done"
    worker: dict[str, object] = {"name": "worker", "renewal": "signal", "ready_text": "taken up", "settle_s": 1000.0}
    running = start({**worker, "argv": sh(told)})
    running.line_with("ready after")
    pid = status_of(running).components[0].pid
    assert "new imports get new processes" in reloaded(running, {**worker, "argv": sh(told)})
    assert status_of(running).components[0].pid == pid
    assert running.end() == 0


def test_a_reload_says_what_a_component_complains_of(start: Starter) -> None:
    told = "trap 'echo taken up: no such plugin' HUP; echo 'taken up'; while :; do sleep 0.05; done"
    worker: dict[str, object] = {"name": "worker", "renewal": "signal", "ready_text": "taken up", "settle_s": 1000.0}
    running = start({**worker, "argv": sh(told)})
    running.line_with("ready after")
    assert "worker did not apply the current code and settings: no such plugin" in reloaded(
        running, {**worker, "argv": sh(told)}
    )
    assert running.end() == 0


@pytest.mark.parametrize("renewal", ["keep", "signal"])
def test_a_reload_starts_again_what_would_be_started_in_another_way(start: Starter, renewal: str) -> None:
    component: dict[str, object] = {"name": "server", "renewal": renewal}
    running = start({**component, "argv": SLEEPER})
    first = running.pid_after("alive")
    running.line_with("ready after")
    assert reloaded(running, {**component, "argv": sh("echo other $$; exec sleep 1000")}) == "server: restarted"
    assert running.pid_after("other") != first
    assert ended(first)
    assert running.end() == 0


def test_a_reload_leaves_alone_what_has_not_changed_and_does_the_rest_again(start: Starter) -> None:
    server = {"name": "server", "argv": SLEEPER, "renewal": "keep"}
    once = {"name": "deploy", "argv": sh("echo applied"), "once": True}
    running = start(server, once)
    first = running.pid_after("alive")
    running.line_with("applied")
    running.line_with("ready after")
    said = reloaded(running, server, once).splitlines()
    assert said[0].startswith("server: keeps running")
    assert said[1] == "deploy: run again"
    running.line_with("applied")
    assert status_of(running).components[0].pid == first
    assert status_of(running).components[1].condition is Condition.DONE
    assert running.end() == 0


def status_of(running: Running) -> SupervisorStatus:
    status = read_status(status_path(running.settings))
    assert status is not None
    return status


@pytest.mark.parametrize("option", FIXED)
def test_a_reload_refuses_what_processes_have_to_agree_on(tmp_path: Path, option: str) -> None:
    section, _, name = option.rpartition(".")
    values = {
        "home": str(tmp_path / "other"),
        "api.port": 9393,
        "prefect.port": 4300,
        "prefect.api_url": "http://10.0.0.1:4200/api",
        "prefect.auth_string": "user:other",
        "staging.dir": str(tmp_path / "s"),
        "api.host": "::1",
    }
    value: object = values.get(option, "other")
    before = Settings.model_validate({"home": tmp_path})
    changed: dict[str, object] = {"home": tmp_path, **({section: {name: value}} if section else {name: value})}
    with pytest.raises(ConfigurationRefused, match=option):
        refuse_fixed_changes(before, Settings.model_validate(changed))
    refuse_fixed_changes(before, Settings.model_validate({"home": tmp_path, "prefect": {"retention_days": 3}}))


def test_what_the_disk_did_not_take_is_told_when_it_does(start: Starter) -> None:
    running = start({"name": "mortal", "argv": SLEEPER})
    pid = running.pid_after("alive")
    running.line_with("ready after")
    # Where the file is written before it takes its place: as if the disk were full, whoever runs this.
    full = status_path(running.settings).with_name(".status.json.part")
    full.mkdir()
    os.kill(pid, signal.SIGKILL)
    running.line_with("cannot be written")
    running.pid_after("alive")
    assert status_of(running).components[0].pid == pid
    full.rmdir()
    until(lambda: status_of(running).components[0].pid not in (None, pid), what="the status of now")
    assert running.end() == 0
