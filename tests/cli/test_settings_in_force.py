"""Commands use the settings of the running components, whatever the files contain now."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from config.loading import SNAPSHOT_VARIABLE
from config.snapshot import Snapshot, Sources, newest_snapshot, read_snapshot, take_snapshot
from tests.cli.test_worker import told
from transship.cli import main
from transship.commands.context import Invocation
from transship.commands.take_settings import main as take_settings
from transship.host.processes import start_time
from transship.host.runner_status import RunnerStatus, write_runner_status
from transship.supervisor.home import HomeLock, first_start, status_path
from transship.supervisor.status import Phase, SupervisorStatus, write_status

__all__ = ["told"]

BROKEN = "[imports\n"
USABLE = "[imports]\nmax_parallel_stores = 3\n"


@dataclass
class Home:
    """A home directory in which something runs: this process, as far as commands can tell."""

    path: Path
    monkeypatch: pytest.MonkeyPatch
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def toml(self) -> Path:
        return self.path / "transship.toml"

    def take(self, *, supervised: bool = True) -> Snapshot:
        sources = Sources(environ={"TRANSSHIP_HOME": str(self.path), **self.variables})
        loaded = sources.load()
        first_start(loaded.settings)
        return read_snapshot(take_snapshot(loaded, sources, supervised=supervised))

    def command(self, *arguments: str) -> int:
        self.monkeypatch.setattr(sys, "argv", ["transship", *arguments])
        with pytest.raises(SystemExit) as ended:
            sys.exit(main())
        return int(ended.value.code or 0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TRANSSHIP_HOME", str(tmp_path))
    made = Home(tmp_path, monkeypatch)
    made.toml.write_text(USABLE)
    return made


@pytest.fixture
def running(home: Home) -> Iterator[Home]:
    settings = home.take().loaded.settings
    lock = HomeLock.take(settings)
    lock.write_holder()
    write_status(status_path(settings), SupervisorStatus(Phase.READY, os.getpid(), "", (), 0))
    yield home
    lock.release()


def stores_at_once(home: Home, **named: Mapping[str, str]) -> int:
    return Invocation(**named).settings.imports.max_parallel_stores


def test_what_runs_decides_and_nothing_else(running: Home) -> None:
    for text in (BROKEN, USABLE.replace("3", "5"), "[imports]\nno_such_option = 1\n"):
        running.toml.write_text(text)
        assert stores_at_once(running) == 3
    running.monkeypatch.setenv("TRANSSHIP_IMPORTS__MAX_PARALLEL_STORES", "7")
    assert stores_at_once(running) == 3


def test_where_nothing_runs_the_files_decide(home: Home) -> None:
    home.take()
    home.toml.write_text(USABLE.replace("3", "5"))
    assert stores_at_once(home) == 5


def test_options_of_the_command_ask_for_other_settings(running: Home) -> None:
    assert stores_at_once(running, overrides={"imports.max_parallel_stores": "9"}) == 9
    assert stores_at_once(running, overrides={"home": str(running.path)}) == 3


def test_a_worker_alone_has_a_snapshot_too(home: Home) -> None:
    settings = home.take(supervised=False).loaded.settings
    pid = os.getpid()
    status = RunnerStatus(pid, start_time(pid) or 0, "serving", "warm", "", 1, 0, 0, (), ())
    write_runner_status(settings.run_dir / "runner.json", status)
    home.toml.write_text(BROKEN)
    assert stores_at_once(home) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BROKEN, "is not TOML"),
        ("[imports]\nno_such_option = 1\n", "no_such_option"),
        ('[imports]\nplugins = ["nobody_has"]\n', "nobody_has"),
        ('[staging]\ndir = "/elsewhere"\n', "staging.dir: cannot change while anything runs"),
        ('[api]\npolicy_file = "/nowhere.yaml"\n', "api.policy_file"),
    ],
    ids=["TOML", "name", "plugin", "fixed", "policy"],
)
def test_a_reload_refuses_what_cannot_be_used_and_takes_nothing(
    running: Home, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    running.toml.write_text(text)
    before = newest_snapshot(running.path / "run")
    assert running.command("reload") == 1
    shown = capsys.readouterr().out
    assert "nothing was reloaded: " in shown
    assert said in shown
    assert newest_snapshot(running.path / "run") == before


def test_a_reload_from_other_sources_is_refused(running: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert running.command("--set", "api.port=9393", "reload") == 2
    assert running.command("--config", str(running.toml), "reload") == 2
    assert capsys.readouterr().err.count("from the same sources as the start") == 2


@pytest.mark.parametrize("text", [BROKEN, USABLE.replace("3", "5")])
def test_config_show_shows_what_is_in_force_and_says_what_is_not(
    running: Home, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    running.toml.write_text(text)
    assert running.command("config", "show") == 0
    shown = capsys.readouterr()
    assert ["imports.max_parallel_stores", "3", str(running.toml)] in [line.split() for line in shown.out.splitlines()]
    assert (str(running.toml) if text == BROKEN else "imports.max_parallel_stores; 'transship reload'") in shown.err


def test_a_worker_that_reloads_alone_takes_what_imports_can_use(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    before = home.take(supervised=False)
    home.monkeypatch.setenv(SNAPSHOT_VARIABLE, str(newest_snapshot(home.path / "run")))
    # What only an API needs is no concern of this host.
    home.toml.write_text(USABLE.replace("3", "5") + '[api]\npolicy_file = "/nowhere.yaml"\n')
    assert take_settings() == 0
    newest = newest_snapshot(home.path / "run")
    assert newest is not None
    found = read_snapshot(newest)
    assert found.loaded.settings.imports.max_parallel_stores == 5
    assert (found.supervised, found.sources) == (False, before.sources)
    home.toml.write_text(BROKEN)
    assert take_settings() == 1
    assert "is not TOML" in capsys.readouterr().out
    assert newest_snapshot(home.path / "run") == newest


@pytest.mark.real
def test_a_worker_hands_what_it_validated_to_the_runner(told: pytest.MonkeyPatch, tmp_path: Path) -> None:
    handed: list[Mapping[str, str]] = []

    class Started(Exception):
        pass

    def become(_program: str, _arguments: object, environment: Mapping[str, str]) -> None:
        handed.append(environment)
        raise Started

    told.setattr("os.execve", become)
    told.setattr("sys.argv", ["transship", "--set", "imports.max_parallel_stores=2", "worker"])
    with pytest.raises(Started):
        main()
    found = read_snapshot(Path(handed[0][SNAPSHOT_VARIABLE]))
    assert found.loaded.settings.imports.max_parallel_stores == 2
    assert found.loaded.origins["imports.max_parallel_stores"] == "command line"
    assert not found.supervised
    assert found.sources.load().settings == found.loaded.settings
