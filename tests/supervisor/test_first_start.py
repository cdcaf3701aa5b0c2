from __future__ import annotations

import base64
import os
import re
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from config.secrets import (
    PREFECT_AUTH_FILE,
    PREFECT_KEY_FILE,
    create_secret,
    prefect_auth_string,
    prefect_encryption_key,
)
from config.settings import Settings
from tests.fakes.ports import free_port
from tests.fakes.system import until
from transship.domain.errors import ConfigurationRefused
from transship.host.ports import require_free_port
from transship.host.processes import start_time
from transship.supervisor.home import (
    Holder,
    HomeLock,
    first_start,
    is_locked,
    lock_path,
    prepare,
    read_holder,
    signal_holder,
)


def settings_in(home: Path, **sections: object) -> Settings:
    return Settings.model_validate({"home": home, **sections})


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_first_start_closes_the_home_directory_and_its_secrets(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "home")
    first_start(settings)
    assert mode_of(settings.home) == 0o700
    assert {name: mode_of(settings.home / name) for name in ("log", "run", "prefect")} == {
        "log": 0o700,
        "run": 0o700,
        "prefect": 0o700,
    }
    assert mode_of(settings.home / PREFECT_AUTH_FILE) == 0o600
    assert mode_of(settings.home / PREFECT_KEY_FILE) == 0o600


def test_first_start_closes_a_home_directory_that_was_open(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    first_start(settings_in(home))
    assert mode_of(home) == 0o700


def test_secrets_have_the_form_that_prefect_asks_for(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first_start(settings)
    assert re.fullmatch(r"admin:[\w-]{24,}", prefect_auth_string(settings))
    assert len(base64.urlsafe_b64decode(prefect_encryption_key(settings))) == 32
    assert (tmp_path / PREFECT_AUTH_FILE).read_text().count("\n") == 1


def test_a_second_start_keeps_the_secrets(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first_start(settings)
    before = prefect_auth_string(settings), prefect_encryption_key(settings)
    first_start(settings)
    assert (prefect_auth_string(settings), prefect_encryption_key(settings)) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["log", "run", "prefect", PREFECT_AUTH_FILE, PREFECT_KEY_FILE]
    )


def test_a_secret_that_another_process_made_meanwhile_wins(tmp_path: Path) -> None:
    path = tmp_path / "secret"

    def slow() -> str:
        path.write_text("theirs\n")
        return "ours"

    assert not create_secret(path, slow)
    assert path.read_text() == "theirs\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_home_directory_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationRefused, match=r"home: .*TRANSSHIP_HOME"):
        first_start(settings_in(tmp_path / "file" / "home"))


def test_the_log_in_of_the_settings_wins(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, prefect={"auth_string": "someone:else"})
    assert prefect_auth_string(settings) == "someone:else"


def test_a_prefect_run_by_others_needs_no_log_in(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, prefect={"api_url": "http://prefect.example/api"})
    assert not prefect_auth_string(settings)


@pytest.mark.parametrize("content", [None, "", "\n"], ids=["missing", "empty", "blank"])
def test_a_log_in_file_without_a_log_in_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / PREFECT_AUTH_FILE).write_text(content)
    with pytest.raises(ConfigurationRefused, match=PREFECT_AUTH_FILE):
        prefect_auth_string(settings_in(tmp_path))


def test_a_lock_names_its_holder_and_is_free_after_release(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first_start(settings)
    assert not is_locked(settings)
    lock = HomeLock.take(settings)
    lock.write_holder()
    assert is_locked(settings)
    assert read_holder(settings) == Holder(os.getpid(), start_time(os.getpid()) or 0)
    with pytest.raises(ConfigurationRefused, match=f"in use by process {os.getpid()}"):
        HomeLock.take(settings)
    lock.release()
    assert not is_locked(settings)


def test_a_start_waits_for_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first_start(settings)
    # As the guard of a killed one: the lock is held, and names nobody who lives.
    guard = subprocess.Popen(["flock", lock_path(settings), "sleep", "600"], start_new_session=True)
    try:
        until(lambda: is_locked(settings))
        with pytest.raises(ConfigurationRefused, match="in use by what a killed supervisor left"):
            HomeLock.take(settings, wait_s=0.2)
        threading.Timer(0.2, os.killpg, (guard.pid, signal.SIGKILL)).start()
        HomeLock.take(settings, wait_s=300.0).release()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": 1}', '{"pid": 1, "started": -1}']
)
def test_a_lock_file_without_a_living_holder_names_nobody(tmp_path: Path, text: str) -> None:
    settings = settings_in(tmp_path)
    first_start(settings)
    lock_path(settings).write_text(text)
    assert read_holder(settings) is None


def test_a_pid_that_is_used_again_gets_no_signal() -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        started = start_time(other.pid)
        assert started is not None
        assert not signal_holder(Holder(other.pid, started - 1), signal.SIGKILL)
        assert other.poll() is None
        assert signal_holder(Holder(other.pid, started), signal.SIGKILL)
        assert other.wait(60) == -signal.SIGKILL
    assert not signal_holder(Holder(other.pid, started), signal.SIGKILL)


def test_a_port_that_is_taken_is_refused_with_its_setting(taken_port: int) -> None:
    with pytest.raises(ConfigurationRefused, match=rf"port {taken_port} .* taken .*--set api\.port=PORT"):
        require_free_port("127.0.0.1", taken_port, "api.port")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationRefused, match=r"api\.host: 192\.0\.2\.1 is no address of this machine"):
        require_free_port("192.0.2.1", 9292, "api.port")


def test_one_port_for_two_servers_is_refused(tmp_path: Path) -> None:
    port = free_port()
    settings = settings_in(tmp_path, api={"port": port}, prefect={"port": port})
    with pytest.raises(ConfigurationRefused, match=rf"prefect\.port: is {port}, as api\.port is"):
        prepare(settings)
    assert not is_locked(settings)


@pytest.mark.parametrize("section", ["api", "prefect"])
def test_prepare_gives_the_lock_back_when_a_port_is_taken(tmp_path: Path, taken_port: int, section: str) -> None:
    ports = {"api": {"port": free_port()}, section: {"port": taken_port}}
    settings = settings_in(tmp_path, **ports)
    with pytest.raises(ConfigurationRefused, match=rf"{section}\.port"):
        prepare(settings)
    assert not is_locked(settings)


def test_prepare_does_not_ask_for_the_port_of_a_prefect_run_by_others(tmp_path: Path, taken_port: int) -> None:
    prefect = {"api_url": "http://prefect.example/api", "port": taken_port}
    prepare(settings_in(tmp_path, api={"port": free_port()}, prefect=prefect)).release()
