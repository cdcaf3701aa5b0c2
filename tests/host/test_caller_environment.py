"""Which variables our processes inherit from their environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from transship.host.caller_environment import FIXED, ROWS, inherited, is_kept, leave_caller_behind

KEPT = (
    "PATH",
    "HOME",
    "TZ",
    "TRANSSHIP_API__PORT",
    "PREFECT_LOGGING_LEVEL",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE",
    "PREFECT_SERVER_DATABASE_TIMEOUT",
    "OPENSSL_CONF",
    "SOMETHING_OF_A_PLUGIN",
)
NOT_KEPT = (
    "HTTP_PROXY",
    "http_proxy",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "ws_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSLKEYLOGFILE",
    "REQUESTS_CA_BUNDLE",
    "HOSTALIASES",
    "FORWARDED_ALLOW_IPS",
    "OS_PASSWORD",
    "OS_DEFAULT__TRANSPORT_URL",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_CA_BUNDLE",
    "PGHOST",
    "PGPASSWORD",
    "PREFECT_API_URL",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
    "PREFECT_PROFILE",
    "PREFECT_PROFILES_PATH",
    "PREFECT_HOME",
    "PREFECT_SERVER_API_BASE_PATH",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT__FLOW_RUN_ID",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "QEMU_AUDIO_DRV",
    "GIT_DIR",
    "LANG",
    "LC_MESSAGES",
    "TMPDIR",
    "FORCE_COLOR",
)


def test_what_reaches_inside_is_left_behind_and_the_rest_kept() -> None:
    got = inherited(dict.fromkeys((*KEPT, *NOT_KEPT), "given"))
    assert {name for name, value in got.items() if value == "given"} == set(KEPT)
    assert {name: got[name] for name in FIXED} == FIXED


def test_every_row_says_why() -> None:
    assert all(row.reason and row.names for row in ROWS)
    assert ROWS[-1].names == ("*",)


def test_a_fixed_value_wins_over_the_callers() -> None:
    assert inherited({"LC_ALL": "de_DE", "PYTHONUTF8": "0"}) == FIXED


@pytest.mark.parametrize("path", ["", ":", "relative/one:", str(Path(__file__).parents[2])])
def test_a_search_path_that_adds_nothing_is_left_out(path: str) -> None:
    assert "PYTHONPATH" not in inherited({"PYTHONPATH": path})


def test_a_search_path_adds_modules_and_hides_none(tmp_path: Path) -> None:
    for name in ("config", "sqlalchemy", "added_by_the_operator"):
        (tmp_path / f"{name}.py").write_text("theirs = True\n")
    script = (
        "import added_by_the_operator, config, json, sqlalchemy;"
        "print(json.dumps([hasattr(each, 'theirs') for each in (added_by_the_operator, config, sqlalchemy)]))"
    )
    environment = inherited({**os.environ, "PYTHONPATH": f"lost:{tmp_path}"})
    done = subprocess.run(
        (sys.executable, "-P", "-c", script), env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [True, False, False]


def test_the_command_keeps_the_operators_log_in_and_nothing_else_of_it() -> None:
    environ = dict.fromkeys((*KEPT, *NOT_KEPT), "given")
    leave_caller_behind(environ)
    assert set(environ) == {*KEPT, *(name for name in NOT_KEPT if name.startswith(("OS_", "AWS_")))}
    assert not is_kept("OS_PASSWORD")
