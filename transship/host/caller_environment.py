"""Which variables of the caller's environment our processes inherit: one table, with a reason for each row.

Our own traffic, the modules that we import and the output that we parse depend only on settings, never on the shell
or the service manager that started us.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """Whether our processes inherit the variables whose names match.

    Attributes:
        names: shell patterns in upper case; matching ignores the case of a variable's name.
        kept: whether our processes inherit them.
        reason: why, for display.
    """

    names: tuple[str, ...]
    kept: bool
    reason: str


CREDENTIALS: Final = Row(
    ("OS_*", "AWS_*"),
    False,
    "an operator's own log-in and options of libraries; the services have theirs in the settings, and the `transship`"
    " command alone logs in to Keystone with `OS_*`",
)

ROWS: Final[tuple[Row, ...]] = (
    Row(("TRANSSHIP_*",), True, "settings"),
    Row(
        ("*_PROXY",),
        False,
        "our own traffic goes straight to its target; a proxy of downloads is `download.proxy_url`",
    ),
    Row(
        ("SSL*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        False,
        "whom TLS trusts is a setting (`ca_file`), and nobody may have keys of connections written to a file",
    ),
    Row(
        ("HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS"),
        False,
        "names are judged and dialled as this machine resolves them",
    ),
    Row(("FORWARDED_ALLOW_IPS", "WEB_CONCURRENCY"), False, "options of uvicorn: whose headers say who asks"),
    CREDENTIALS,
    Row(("PG*",), False, "options of PostgreSQL's library; `database.url` names server, user and database"),
    Row(
        (
            *(f"PREFECT_API_{part}" for part in ("URL", "KEY", "AUTH_STRING", "TLS_*", "SSL_*")),
            *(f"PREFECT_SERVER_API_{part}" for part in ("HOST", "PORT", "AUTH_STRING", "BASE_PATH")),
            "PREFECT_CLIENT_CUSTOM_HEADERS",
            "PREFECT_CLOUD_*",
        ),
        False,
        "lead to another Prefect, or to ours by another way; `prefect.*` says where it is",
    ),
    Row(
        (
            "PREFECT_API_DATABASE_*",
            *(
                f"PREFECT_SERVER_DATABASE_{part}"
                for part in ("CONNECTION_URL", "DRIVER", "HOST", "PORT", "USER", "NAME", "PASSWORD")
            ),
            "PREFECT_SERVER_ENCRYPTION_KEY",
        ),
        False,
        "would give Prefect's server another database or key; `prefect.database_url` names it",
    ),
    Row(
        ("PREFECT_HOME", "PREFECT_PROFILE*", "PREFECT_ACTIVE_PROFILE", "PREFECT_LOGGING_SETTINGS_PATH", "PREFECT__*"),
        False,
        "profiles and runs of the user",
    ),
    Row(("PREFECT_*",), True, "tuning of Prefect's server and worker, which wins over ours"),
    Row(
        ("PYTHONPATH",),
        True,
        "adds modules such as import plugins, behind everything that is installed: it hides nothing of ours",
    ),
    Row(("PYTHON*",), False, "would change which modules are imported, which warnings end a process, what is printed"),
    Row(("LD_*", "GCONV_PATH"), False, "would load other libraries into the services and `qemu-img`"),
    Row(("QEMU_*", "GIT_*"), False, "options of programs that we run"),
    Row(("LANG", "LANGUAGE", "LC_*"), False, "what programs say is parsed and logged: it is English, in UTF-8"),
    Row(
        ("TMPDIR", "TMP", "TEMP"),
        False,
        "the temporary directory of a login goes with it; images are kept in `staging.dir` alone",
    ),
    Row(("FORCE_COLOR", "CLICOLOR_FORCE"), False, "logs are plain text"),
    Row(("*",), True, "`PATH`, `HOME`, `TZ`, and what plugins read"),
)
"""The first row that matches decides."""

FIXED: Final = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
"""Variables that our processes always get."""


def is_kept(name: str) -> bool:
    """Return whether our processes inherit a variable of the caller."""
    return _row_of(name).kept


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the caller's environment that our processes inherit."""
    kept = {name: value for name, value in environ.items() if is_kept(name)}
    searched = _behind_ours(kept.pop("PYTHONPATH", ""))
    return {**kept, **({"PYTHONPATH": searched} if searched else {}), **FIXED}


def leave_caller_behind(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove the excluded variables from this process's environment, except the operator's login.

    For the `transship` command, whose clients read the environment themselves.
    """
    for name in list(environ):
        row = _row_of(name)
        if not row.kept and row is not CREDENTIALS:
            del environ[name]


def _row_of(name: str) -> Row:
    return next(row for row in ROWS if any(fnmatchcase(name.upper(), pattern) for pattern in row.names))


def _behind_ours(path: str) -> str:
    """Return a module search path that starts with installed packages and has no relative entries."""
    installed = {str(Path(__file__).parents[2]), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    added = [entry for entry in path.split(os.pathsep) if os.path.isabs(entry) and entry not in installed]
    return os.pathsep.join([*sorted(installed), *added]) if added else ""
