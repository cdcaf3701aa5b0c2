"""The command as a process: help, exit status, one line for an error."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.fernet import Fernet

from config.loading import load_files
from config.options import variable_of
from config.reading import REMEMBERED
from config.settings import Settings
from config.settings.stores import kinds
from tests.fakes.databases import DATABASES
from tests.fakes.images import prepare_stores, settings_in
from tests.fakes.parts_store import KIND
from tests.fakes.ports import free_port
from tests.fakes.privileges import without_privileges
from transship.catalog.engine import Catalog
from transship.cli import app, main
from transship.commands.configuration import print_warnings
from transship.commands.doctor import uncreated
from transship.host.processes import start_time
from transship.host.runner_status import RunnerStatus, write_runner_status
from transship.staging.area import StagingArea
from transship.staging.opening import open_staging
from transship.supervisor.home import HomeLock, first_start, status_path
from transship.supervisor.status import Phase, SupervisorStatus, write_status

COMMANDS = {
    *("up", "down", "status", "deploy", "doctor", "reload", "worker"),
    *("import", "rerun", "images", "check-uri", "config"),
}

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRANSSHIP_")}
    return subprocess.run(
        [sys.executable, "-m", "transship.cli", *arguments],
        env={**environment, "TRANSSHIP_HOME": str(home), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )


def in_process(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> int:
    """Run the command here; only where nothing of its own process matters."""
    monkeypatch.setattr(sys, "argv", ["transship", *arguments])
    monkeypatch.setenv("TRANSSHIP_HOME", str(home))
    with pytest.raises(SystemExit) as ended:
        sys.exit(main())
    return int(ended.value.code or 0)


def test_help_lists_every_command_with_a_line(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help")
    assert shown.returncode == 0
    lines = shown.stdout.partition("Commands:")[2].splitlines()
    described = {words[0]: words[1:] for line in lines if (words := line.split())}
    assert set(described) == COMMANDS
    assert all(described.values())
    assert len(app.registered_commands) + len(app.registered_groups) == len(COMMANDS)


def test_help_imports_neither_settings_nor_prefect() -> None:
    slow = "('prefect', 'pydantic', 'sqlalchemy', 'requests')"
    code = f"import sys, transship.cli; print([name for name in {slow} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["status", "doctor", "images"])
def test_a_command_that_only_shows_does_not_import_what_it_does_not_need(tmp_path: Path, command: str) -> None:
    Catalog.open(settings_in(tmp_path)).close()
    heavy = "('prefect', 'boto3', 'botocore', 'alembic', 'oslo_messaging', 'keystoneauth1')"
    code = (
        "import sys; from transship.cli import main\n"
        f"try: sys.argv = ['transship', {command!r}]; sys.exit(main())\n"
        f"finally: print('imported:', [name for name in {heavy} if name in sys.modules])"
    )
    variables = {**DATABASES.environment(tmp_path), "TRANSSHIP_HOME": str(tmp_path), "TRANSSHIP_API__PORT": "9"}
    shown = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert shown.stdout.splitlines()[-1] == "imported: []"


def test_the_version_is_shown(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == f"transship {version('transship')}\n"


def every_command() -> Iterator[tuple[str, ...]]:
    for name in sorted(COMMANDS - {"config"}):
        yield (name,)
    for name in ("show", "check", "sample", "new-key"):
        yield ("config", name)


@pytest.mark.parametrize("command", tuple(every_command()), ids=" ".join)
def test_the_help_of_each_command_has_examples_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert in_process(monkeypatch, tmp_path, *command, "--help") == 0
    examples = [line.strip() for line in capsys.readouterr().out.partition("Examples:\n")[2].splitlines()]
    assert examples
    for example in examples:
        words = shlex.split(re.split(r" [|>] ", example)[0])
        assert words[0] == "transship"
        # Takes the words, and asks for nothing else, before it shows the help.
        assert in_process(monkeypatch, tmp_path, *words[1:], "--help") == 0
        assert set(command) <= set(words)
        options = {word for word in words if word.startswith("--")}
        assert options <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) | {"--home"}


def test_lists_are_printed_as_json_with_the_keys_of_the_documentation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = glance(tmp_path)
    monkeypatch.setenv("TRANSSHIP_API__PORT", "9")
    Catalog.open(settings_in(tmp_path)).close()
    for name, value in DATABASES.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    printed = {}
    for command in ("status", "doctor", "check-uri http://127.0.0.1/x", "config show", f"config check {path}"):
        in_process(monkeypatch, tmp_path, *command.split(), "--json")
        printed[" ".join(command.split()[:2]).partition(" http")[0]] = json.loads(capsys.readouterr().out)
    documented = dict(
        re.findall(r"^\| `transship ([a-z -]+) --json` \| (.*) \|$", OPERATIONS.read_text(), re.MULTILINE)
    )
    for command, value in printed.items():
        keys = set(re.findall(r"`([a-z_]+)`", documented[command]))
        assert set(value[0] if isinstance(value, list) else value) <= keys, command
    status = printed["status"]
    assert not status["healthy"]
    assert status["problems"][0] == (
        "nothing listens at http://127.0.0.1:9 (Images API); 'transship up' starts everything on this machine"
    )
    assert printed["check-uri"]["rule"] == "loopback_address"
    assert {"option": "api.port", "value": "9393"}.items() <= printed["config check"]["options"][0].items()
    assert any(note["text"] for note in printed["config check"]["ignored"])
    assert {finding["level"] for finding in printed["doctor"]} <= {"ok", "warn", "fail"}


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    words = {"_TRANSSHIP_COMPLETE": "complete_bash", "COMP_WORDS": "transship co", "COMP_CWORD": "1"}
    program = str(Path(sys.executable).with_name("transship"))
    shown = subprocess.run([program], env={**os.environ, **words}, capture_output=True, text=True, check=False)
    assert shown.stdout.split() == ["config"]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("--set", "api.port=x", "config", "show"), 1, "error: command line: api.port"),
        (("--set", "api.prot=1", "config", "show"), 1, "did you mean api.port"),
        (("--set", "nonsense", "config", "show"), 2, "OPTION=VALUE"),
        (("--config", "/no/such.toml", "config", "show"), 1, "/no/such.toml is not a file"),
        (("up", "--config", "/no/such.toml"), 1, "/no/such.toml is not a file"),
        (("import",), 2, "no source was given; name a URL or a local file"),
        (("import", "/etc/hostname"), 2, "--disk-format"),
        (("import", "/etc"), 2, "/etc is a directory; name the file of an image"),
        (("import", "example.org/a.img"), 2, "does not exist; name a file that exists, or a whole URL"),
        (
            ("--set", "api.port=9", "images"),
            1,
            "nothing listens at http://127.0.0.1:9 (Images API); 'transship up' starts",
        ),
        (("no-such-command",), 2, "No such command"),
        (("import", "--no-such-option"), 2, "No such option"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    text: str,
) -> None:
    assert in_process(monkeypatch, tmp_path, *arguments) == status
    told = capsys.readouterr().err
    assert text in told
    assert "Traceback" not in told


@pytest.mark.parametrize("command", ["status", "doctor", "images", "down"])
def test_a_home_directory_of_another_user_is_an_error_with_its_remedy(tmp_path: Path, command: str) -> None:
    home = tmp_path / "home"
    first_start(Settings.model_validate({"home": home}))
    HomeLock.take(Settings.model_validate({"home": home})).release()
    (home / "run").chmod(0o000)
    # Without these capabilities root may not read everything.
    lost = "-dac_override,-dac_read_search"
    shown = subprocess.run(
        ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}", sys.executable, "-m", "transship.cli", command],
        env={**os.environ, "TRANSSHIP_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    (home / "run").chmod(0o700)
    assert shown.returncode == 1
    assert shown.stderr.startswith(f"error: {home}/run")
    assert shown.stderr.endswith("Permission denied; run this as the user who started the service\n")
    assert shown.stderr.count("\n") == 1


def test_an_error_is_no_trace(tmp_path: Path) -> None:
    failed = run(tmp_path, "--set", "api.port=0", "status")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1


def test_settings_are_shown_with_their_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRANSSHIP_DATABASE__URL", "postgresql://u:hush@db/c")
    assert in_process(monkeypatch, tmp_path, "--set", "api.port=9393", "config", "show") == 0
    shown = capsys.readouterr().out
    assert ["api.port", "9393", "command", "line"] in [line.split() for line in shown.splitlines()]
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("uri", "status", "rule"),
    [
        ("http://127.0.0.1/x", 1, "loopback_address"),
        ("ftp://93.184.215.14/x", 1, "allowed_schemes"),
        ("http://93.184.215.14/x", 0, ""),
    ],
)
def test_check_uri_names_the_rule_that_decides(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    uri: str,
    status: int,
    rule: str,
) -> None:
    assert in_process(monkeypatch, tmp_path, "check-uri", uri) == status
    assert rule in capsys.readouterr().out


def test_check_uri_tells_name_servers_that_do_not_answer_from_a_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "as the test wants")

    monkeypatch.setattr("transship.sources.gate.socket.getaddrinfo", away)
    assert in_process(monkeypatch, tmp_path, "check-uri", "http://mirror.example/x") == 1
    assert capsys.readouterr().out.splitlines() == [
        "undecided http://mirror.example/x",
        "rule       names_unanswered",
        "reason     the name servers do not answer for host mirror.example now; try again later",
    ]


def test_doctor_passes_before_the_first_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ports = {"TRANSSHIP_API__PORT": str(free_port()), "TRANSSHIP_PREFECT__API_URL": "http://127.0.0.1:9/api"}
    seen = run(home, "doctor", **ports)
    lines = {tuple(line.split()[:2]) for line in seen.stdout.splitlines()}
    assert {
        ("ok", "python"),
        ("ok", "setpriv"),
        ("ok", "permissions"),
        ("ok", "catalogue"),
        ("ok", "api.port"),
    } <= lines
    assert ("fail", "prefect") in lines
    assert seen.returncode == 1
    assert not home.exists()


def test_doctor_says_how_to_close_a_home_directory_that_is_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    seen = run(tmp_path, "doctor")
    assert f"chmod 700 {tmp_path}" in seen.stdout
    assert seen.returncode == 1


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_a_store_or_staging_that_is_not_mounted_is_named_with_the_remedy(tmp_path: Path, command: str) -> None:
    settings = settings_in(tmp_path, host_name="here")
    with closing(Catalog.open(settings)) as catalog:
        prepare_stores(settings, catalog)
        open_staging(catalog, StagingArea.of(settings))
    variables = {**DATABASES.environment(tmp_path), "TRANSSHIP_HOST_NAME": "here"}
    well = run(tmp_path, command, **variables)
    assert "not mounted" not in well.stdout
    for directory in (tmp_path / "images", settings.staging_dir):
        shutil.rmtree(directory)
        directory.mkdir()
    seen = run(tmp_path, command, **variables)
    assert f"Mount {tmp_path}/images and run 'transship deploy'" in seen.stdout
    assert f"{settings.staging_dir} is not mounted" in seen.stdout
    assert seen.returncode == 1
    assert [list(directory.iterdir()) for directory in (tmp_path / "images", settings.staging_dir)] == [[], []]


def test_status_prints_nothing_but_json_whatever_fails(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, host_name="here")
    with closing(Catalog.open(settings)) as catalog:
        prepare_stores(settings, catalog)
    images = tmp_path / "images"
    shutil.rmtree(images)
    images.symlink_to(images)
    seen = run(tmp_path, "status", "--json", **DATABASES.environment(tmp_path), TRANSSHIP_HOST_NAME="here")
    shown = json.loads(seen.stdout)
    assert "Too many levels" in str(shown), shown
    assert seen.stderr == ""


def test_doctor_says_who_takes_a_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = run(tmp_path / "home", "doctor", TRANSSHIP_API__PORT=str(listener.getsockname()[1]))
    assert "is taken by another program" in seen.stdout
    assert seen.returncode == 1


def test_up_is_refused_before_anything_starts_when_a_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused = run(tmp_path, "up", "--detach", TRANSSHIP_API__PORT=str(listener.getsockname()[1]))
    assert refused.returncode == 1
    assert "is taken by another program" in refused.stderr
    assert list((tmp_path / "log").iterdir()) == []


@pytest.mark.real
def test_a_start_that_fails_says_why_and_remembers_nothing(tmp_path: Path) -> None:
    nobody, port = "prefect.api_url=http://127.0.0.1:9/api", f"api.port={free_port()}"
    failed = run(tmp_path, "up", "--detach", "--set", nobody, "--set", port)
    assert failed.returncode == 1
    assert "Prefect at http://127.0.0.1:9/api does not answer" in failed.stdout
    assert f"deploy did not start: exit status 1, 3 times; see {tmp_path}/log/deploy.log" in failed.stdout
    assert not (tmp_path / REMEMBERED).exists()


def test_a_worker_alone_is_refused_until_it_is_told_what_all_hosts_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("the worker was started"))
    monkeypatch.setenv("TRANSSHIP_DATABASE__SECRET_KEY", Fernet.generate_key().decode())
    told = {"PREFECT__API_URL": "http://127.0.0.1:9/api", "DATABASE__URL": "postgresql://u:hush@127.0.0.1:9/c"}
    for lacking in ("prefect.api_url", "database.url", "stores"):
        assert in_process(monkeypatch, tmp_path, "worker") == 1
        assert f"start: {lacking}: is not set" in capsys.readouterr().err
        for name in list(told)[:1]:
            monkeypatch.setenv(f"TRANSSHIP_{name}", told.pop(name))
    assert list(tmp_path.iterdir()) == []


def test_status_knows_a_worker_that_runs_without_a_supervisor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = start_time(os.getpid()) or 0
    (tmp_path / "run").mkdir()
    found = RunnerStatus(os.getpid(), ours, "serving", "warm", "", 4, 0, 0, ("host-here", "default"), ())
    write_runner_status(tmp_path / "run" / "runner.json", found)
    monkeypatch.setenv("TRANSSHIP_PREFECT__API_URL", "http://127.0.0.1:9/api")
    in_process(monkeypatch, tmp_path, "status")
    assert f"worker {os.getpid()}: serving" in capsys.readouterr().out.splitlines()[0]


def test_down_without_a_supervisor_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(monkeypatch, tmp_path, "down") == 0
    assert "nothing runs" in capsys.readouterr().out


def test_a_new_key_is_a_fernet_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(monkeypatch, tmp_path, "config", "new-key") == 0
    assert len(capsys.readouterr().out.strip()) == 44


GLANCE = """[DEFAULT]
bind_port = 9393
http_retries = 3
[image_import_opts]
image_import_plugins = [%s]
[database]
connection = mysql://glance:hush@db/glance
"""


def glance(folder: Path, plugins: str = "image_decompression") -> Path:
    path = folder / "glance-api.conf"
    path.write_text(GLANCE % plugins)
    return path


def test_files_of_a_glance_are_checked_and_shown_with_their_warnings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = glance(tmp_path)
    assert in_process(monkeypatch, tmp_path, "config", "check", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["api.port", "9393", f"{path}:DEFAULT.bind_port"] in lines
    assert not [line for line in lines if line[:1] == ["api.api_limit_max"]]
    assert f"{path}:database.connection" in shown.partition("WARNING")[2].partition("IGNORED")[0]
    assert f"{path}:DEFAULT.http_retries" in shown.partition("IGNORED")[2]
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("plugins", "reason"),
    [
        ("image_conversion,image_decompression", "names image_conversion before image_decompression"),
        ("image_decompresion", "no import plugin is called image_decompresion"),
    ],
)
@pytest.mark.parametrize("arguments", [("config", "check"), ("up", "--glance-config")])
def test_plugins_that_cannot_run_stop_check_and_start_by_name(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    plugins: str,
    reason: str,
) -> None:
    path = glance(tmp_path, plugins)
    assert in_process(monkeypatch, tmp_path, *arguments, str(path)) == 1
    error = capsys.readouterr().err
    assert f"{path}:image_import_opts.image_import_plugins: imports.plugins: {reason}" in error


@pytest.mark.parametrize("option", ["ca_file", "proxy_ca_file"])
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not PEM"])
@pytest.mark.parametrize("arguments", [("config", "check"), ("up",)])
def test_authorities_that_cannot_be_read_stop_check_and_start_by_name(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    content: str | None,
    option: str,
) -> None:
    authorities = tmp_path / "authorities.pem"
    if content is not None:
        authorities.write_text(content)
    monkeypatch.setenv(f"TRANSSHIP_DOWNLOAD__{option.upper()}", str(authorities))
    assert in_process(monkeypatch, tmp_path, *arguments) == 1
    error = capsys.readouterr().err
    assert f"download.{option}: it cannot be read, or holds no certificate in PEM form" in error


KEY = "4Y1Hh0RZ3o9iBYrnqPeZ0lVbkTQvnAnXrJpXk8Y8dGU="
UNUSABLE: Mapping[str, tuple[Mapping[str, str], str]] = {
    "host": ({"uri.allowed_hosts": '["127.1"]'}, "uri.allowed_hosts: '127.1'"),
    "policy file": ({"api.policy_file": "/nonexistent/policy.yaml"}, "api.policy_file: it cannot be read"),
    "no key": ({"database.url": "postgresql://us:hush@db/t"}, "database.secret_key: is required with PostgreSQL"),
    "bad key": ({"database.secret_key": "hush"}, "database.secret_key: is not a Fernet key"),
    "other database": ({"database.url": "mysql://us:hush@db/t"}, "database.url: mysql is not supported"),
    "no port": (
        {"database.url": "postgresql://us:hush@db:port/t", "database.secret_key": KEY},
        "database.url: is not a database URL; write sqlite:",
    ),
    "broker": (
        {"notifications.drivers": "messagingv2", "notifications.transport_url": "rabbit://us:hush@host:port/"},
        "notifications.transport_url: is not a transport URL of oslo.messaging",
    ),
    "driver of the broker": (
        {"notifications.drivers": "messagingv2", "notifications.transport_url": "rabbit://us:hush@host/?no_such=1"},
        "notifications.transport_url: its driver cannot be used: no such option no_such",
    ),
    "authority": ({"auth.ca_file": "/nonexistent/ca.pem"}, "auth.ca_file: /nonexistent/ca.pem cannot be read"),
    "authority of a region": (
        {"remotes": '{"two": {"url": "https://two.example", "ca_file": "/nonexistent/ca.pem"}}'},
        "remotes.two.ca_file: /nonexistent/ca.pem cannot be read",
    ),
}

TWO_STORES = '{"a": {"dir": "/srv/images"}, "b": {"dir": "/srv/b/../images"}}'
UNUSABLE = {
    **UNUSABLE,
    "stores in one directory": (
        {"stores": TWO_STORES, "default_store": "a"},
        "stores.b.dir: /srv/b/../images is also the directory of store a",
    ),
    "one directory twice": (
        {"stores": '{"a": {"dirs": ["/srv/images", "/srv/b/../images:4"]}}', "default_store": "a"},
        "stores.a.dirs: /srv/b/../images is also the directory of store a",
    ),
    "store in staging": (
        {"stores": TWO_STORES, "default_store": "a", "staging.dir": "/srv/images"},
        "stores.a.dir: /srv/images is also the directory of staging",
    ),
    "database in memory": ({"database.url": "sqlite://"}, "database.url: names no file"),
    "no directory": ({"staging.dir": ""}, "staging.dir: is empty; write the whole path"),
    "endpoint without scheme": (
        {"api.public_endpoint": "images.example.org"},
        "api.public_endpoint: public_endpoint is not a usable URL, found 'images.example.org'",
    ),
}
NEEDED_BY_SERVICES_ALONE = {"policy file", "broker", "driver of the broker"}


@pytest.mark.parametrize(("options", "reason"), UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("arguments", [("config", "check"), ("up",), ("doctor",)], ids=" ".join)
def test_what_the_services_would_refuse_stops_check_and_start_by_name_and_origin(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    options: Mapping[str, str],
    reason: str,
) -> None:
    monkeypatch.setattr("transship.commands.run.run_in_foreground", lambda *_: pytest.fail("it was started"))
    for option, text in options.items():
        monkeypatch.setenv(variable_of(tuple(option.split("."))), text)
    assert in_process(monkeypatch, tmp_path, *arguments) == 1
    told = capsys.readouterr()
    error = told.out + told.err
    variable = variable_of(tuple(reason.partition(":")[0].split(".")))
    origin = f"environment {variable}: " if variable in os.environ else ""
    assert f"{origin}{reason}" in error
    assert "hush" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(UNUSABLE) - NEEDED_BY_SERVICES_ALONE))
def test_what_a_worker_alone_would_refuse_stops_it_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    options, reason = UNUSABLE[name]
    for option, text in options.items():
        monkeypatch.setenv(variable_of(tuple(option.split("."))), text)
    assert in_process(monkeypatch, tmp_path, "worker") == 1
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("config", "check"), ("up",), ("worker",), ("doctor",)], ids=" ".join)
def test_a_store_whose_library_is_missing_stops_the_start_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    absent = replace(KIND, driver="no_such_library:Store")
    monkeypatch.setattr(kinds, "KINDS", {**kinds.KINDS, absent.name: absent})
    monkeypatch.setenv("TRANSSHIP_DEFAULT_STORE", "shelf")
    monkeypatch.setenv("TRANSSHIP_STORES", json.dumps({"shelf": {"type": "parts", "dir": str(tmp_path / "shelf")}}))
    assert in_process(monkeypatch, tmp_path, *arguments) == 1
    told = capsys.readouterr()
    reason = "stores of type parts cannot be used here: No module named 'no_such_library'"
    remedy = "install what is missing on this host, and restart"
    assert f"environment TRANSSHIP_STORES: stores.shelf.type: {reason}; {remedy}" in told.out + told.err
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_glance_takes_and_the_gate_does_not_is_refused_with_its_place_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = glance(tmp_path)
    path.write_text(path.read_text() + "[import_filtering_opts]\nallowed_hosts = [0x7f000001]\n")
    assert in_process(monkeypatch, tmp_path, "config", "check", str(path)) == 1
    error = capsys.readouterr().err
    assert f"{path}:import_filtering_opts.allowed_hosts: uri.allowed_hosts: '0x7f000001'" in error


def test_a_policy_file_whose_rules_are_no_text_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = tmp_path / "policy.yaml"
    policies.write_text("copy_image: 5\n")
    monkeypatch.setenv("TRANSSHIP_API__POLICY_FILE", str(policies))
    assert in_process(monkeypatch, tmp_path, "config", "check") == 1
    assert "api.policy_file: the rule of copy_image must be text" in capsys.readouterr().err


def test_a_field_of_every_image_cannot_be_injected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = glance(tmp_path, "inject_image_metadata")
    path.write_text(path.read_text() + "[inject_metadata_properties]\ninject = status:active\n")
    assert in_process(monkeypatch, tmp_path, "config", "check", str(path)) == 1
    error = capsys.readouterr().err
    assert f"{path}:inject_metadata_properties.inject: inject.properties: status is a field of every image" in error


def test_one_file_of_ours_can_be_checked_together_with_those_of_a_glance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "site.toml"
    ours.write_text("[api]\nport = 9494\n")
    assert in_process(monkeypatch, tmp_path, "config", "check", str(glance(tmp_path)), str(ours)) == 0
    shown = capsys.readouterr().out
    assert ["api.port", "9494", str(ours)] in [line.split() for line in shown.splitlines()]
    assert in_process(monkeypatch, tmp_path, "config", "check", str(ours), str(tmp_path / "b.toml")) == 2


def test_doctor_names_directories_that_a_first_start_could_not_create() -> None:
    # Above pytest's own directories everything is closed to others.
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "file").touch()
        (folder / "closed").mkdir(mode=0o555)
        stores = {"a": {"dir": folder / "file/a"}, "b": {"dir": folder / "closed/b"}, "c": {"dir": folder / "c"}}
        settings = settings_in(folder / "home", stores=stores, default_store="a")
        with without_privileges():
            found = {each.subject: each.text for each in uncreated(settings)}
    assert found == {
        "store a": f"{folder}/file is not a directory; set another one",
        "store b": f"{folder}/closed/b cannot be created in {folder}/closed; let this account write there",
    }


def test_doctor_refuses_a_home_that_is_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.touch()
    assert in_process(monkeypatch, home, "doctor") == 1
    assert f"{home} is not a directory; set TRANSSHIP_HOME to one" in capsys.readouterr().out


def test_a_file_is_checked_alone_and_what_is_unknown_is_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = glance(tmp_path)
    stores = "[glance_store]\nfilesystem_store_datadir = $state_path/images\nrbd_store_pool = images\n"
    path.write_text(f"{path.read_text()}[profiler]\nenabled = true\nhmac_keys = x\n{stores}")
    general = "[DEFAULT]\nlog_file = /x\nworkers = 4\nstate_path = /var/lib\nuser_storage_quota = 0\n"
    path.write_text(path.read_text().replace("[DEFAULT]\n", general))
    monkeypatch.setenv("TRANSSHIP_API__PROT", "80")
    monkeypatch.setenv("TRANSSHIP_API__PORT", "1")
    (tmp_path / "transship.toml").write_text("misspelt = 1\n")
    assert in_process(monkeypatch, tmp_path, "config", "check", str(path)) == 0
    shown = capsys.readouterr().out
    assert ["api.port", "9393", f"{path}:DEFAULT.bind_port"] in [line.split() for line in shown.splitlines()]
    unknown = [" ".join(line.split()) for line in shown.partition("UNKNOWN")[2].splitlines()[1:]]
    assert unknown == [
        f"{path}:DEFAULT log_file, workers",
        f"{path}:profiler enabled, hmac_keys",
        f"{path}:glance_store rbd_store_pool",
    ]


def test_unknown_options_of_a_glance_are_no_warning_at_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "glance-api.conf"
    path.write_text("[profiler]\nenabled = true\n")
    print_warnings(load_files((), overrides={"glance_config": [path]}))
    assert capsys.readouterr().err == ""


def test_every_command_takes_the_files_of_a_glance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(monkeypatch, tmp_path, "--glance-config", str(glance(tmp_path)), "config", "show") == 0
    shown = capsys.readouterr()
    assert "bind_port" in shown.out
    assert "warning: " in shown.err


@pytest.mark.parametrize(
    ("phase", "reloads", "said"),
    [(Phase.STARTING, 0, "is starting or stopping"), (Phase.READY, None, "an older version is running")],
)
def test_a_reload_disturbs_nothing_that_would_not_understand_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    phase: Phase,
    reloads: int | None,
    said: str,
) -> None:
    settings = Settings.model_validate({"home": tmp_path})
    first_start(settings)
    lock = HomeLock.take(settings)
    # This process would die of the signal.
    lock.write_holder()
    write_status(status_path(settings), SupervisorStatus(phase, os.getpid(), "", (), reloads))
    try:
        assert in_process(monkeypatch, tmp_path, "reload") == 2
        assert said in capsys.readouterr().err
    finally:
        lock.release()


def test_a_reload_of_nothing_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(monkeypatch, tmp_path, "reload") == 2
    assert "nothing runs in" in capsys.readouterr().err
