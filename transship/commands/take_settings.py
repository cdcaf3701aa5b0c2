"""``python -m transship.commands.take_settings``: reload the settings of a worker that runs alone.

Its dispatcher runs this on SIGHUP: checking the settings loads libraries that the dispatcher does not need.
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
    """Return the current settings of a snapshot's sources if what runs can be reloaded with them.

    Raises:
        ConfigurationRefused: they cannot be used, or one cannot change while components run.
    """
    loaded = before.sources.load()
    refuse = refuse_what_cannot_start if before.supervised else refuse_what_fails_imports
    refuse(loaded)
    refuse_fixed_changes(before.loaded.settings, loaded.settings)
    return loaded


def main() -> int:
    """Write a new snapshot; return 1, and print why, if the settings cannot be applied."""
    try:
        before = read_snapshot(Path(os.environ[SNAPSHOT_VARIABLE]))
        take_snapshot(validated_anew(before), before.sources, supervised=before.supervised)
    except ConfigurationRefused as refused:
        print(refused)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
