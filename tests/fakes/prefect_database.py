"""An empty database of Prefect, made once for all processes of a test run: migrating takes longer than most tests."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DIRECTORY_VARIABLE = "TESTS_PREFECT_DATABASE"


def share_prefect_database() -> None:
    """Choose where the database is for this process and all that it starts; the first one removes it."""
    if DIRECTORY_VARIABLE not in os.environ:
        directory = tempfile.mkdtemp(prefix="prefect-database-")
        os.environ[DIRECTORY_VARIABLE] = directory
        atexit.register(_remove, directory, os.getpid())


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


def copy_prefect_database(target: Path) -> None:
    """Copy the database to a file that does not exist; `.ci/fresh-clone` shows that a server makes its own."""
    share_prefect_database()
    directory = Path(os.environ[DIRECTORY_VARIABLE])
    database = directory / "prefect.db"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            _make(directory / "part.db")
            (directory / "part.db").rename(database)
    shutil.copyfile(database, target)


def _make(database: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("TRANSSHIP_", "PREFECT_"))},
            "PREFECT_HOME": str(database.parent),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
            "DO_NOT_TRACK": "1",
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
