"""``python -m transship.commands.take_settings``: take the settings anew for a worker that runs alone.

Its dispatcher runs this when it gets SIGHUP: checking the settings loads libraries that would only burden it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from config.loading import SNAPSHOT_VARIABLE, LoadedSettings
from config.snapshot import Snapshot, read_snapshot, take_snapshot
from transship.commands.configuration import refuse_what_cannot_start, refuse_what_fails_imports
from transship.domain.errors import ConfigurationRefused
from transship.supervisor.reloading import refuse_fixed_changes


def validated_anew(before: Snapshot) -> LoadedSettings:
    """Return what the sources of a snapshot hold now, if what runs can be reloaded with it.

    Raises:
        ConfigurationRefused: it cannot be used, or cannot change while anything runs.
    """
    loaded = before.sources.load()
    refuse = refuse_what_cannot_start if before.supervised else refuse_what_fails_imports
    refuse(loaded)
    refuse_fixed_changes(before.loaded.settings, loaded.settings)
    return loaded


def main() -> int:
    """Write a new snapshot; return 1, and print why, when the settings cannot be put in force."""
    try:
        before = read_snapshot(Path(os.environ[SNAPSHOT_VARIABLE]))
        take_snapshot(validated_anew(before), before.sources, supervised=before.supervised)
    except ConfigurationRefused as refused:
        print(refused)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
