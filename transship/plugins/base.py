"""The contract of import plugins.

A plugin is an object registered under the entry-point group ``transship.import_plugins``. It gets
one sealed staged file and the image's facts, and answers with what is to change. It never writes
the catalogue, a store or the file it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from config.settings import Settings
from transship.domain.image import Image
from transship.domain.stop import StopToken


class Workspace(Protocol):
    """Where a plugin may write: new files of this import in staging, and nothing else."""

    def new_file(self, label: str) -> Path:
        """Return the path of a file to create; recorded before it exists, so that a crash leaves no orphan.

        Args:
            label: lower-case letters; part of the file's name.
        """

    def reserve(self, path: Path, size_bytes: int) -> None:
        """Make sure that the file at ``path`` may grow to ``size_bytes`` in all.

        Raises:
            StagingFull: there is no room; nothing was reserved beyond what was before.
        """


@dataclass(frozen=True, slots=True)
class PluginWork:
    """What a plugin works on.

    Attributes:
        image: the record as it is now, formats as changed by earlier plugins.
        path: sealed staged file; read only.
        roles: the caller's roles, lower case; those of an admin for runs started by hand.
        settings: all settings.
        workspace: where new files may be written.
        progress: called with (bytes done, bytes in all or 0); at most a few times a second.
        stop: to be checked at least once per 16 MiB.
    """

    image: Image
    path: Path
    roles: tuple[str, ...]
    settings: Settings
    workspace: Workspace
    progress: Callable[[int, int], None]
    stop: StopToken


@dataclass(frozen=True, slots=True)
class PluginOutcome:
    """What a plugin asks to change; None and empty mean unchanged.

    Attributes:
        path: new file, complete and made through the workspace; replaces the staged one.
        disk_format, container_format: as the new data are.
        virtual_size: bytes that a guest sees.
        properties: extra properties to set, overwriting; names of the service are dropped.
        summary: one line for people: what was done, or why nothing was.
    """

    path: Path | None = None
    disk_format: str | None = None
    container_format: str | None = None
    virtual_size: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""


class ImportPlugin(Protocol):
    """One step between staging and the stores."""

    @property
    def name(self) -> str:
        """Name in ``imports.plugins``, equal to the entry point's."""

    @property
    def label(self) -> str:
        """Verb for people, the name of its Prefect task: ``decompress``."""

    def check(self, settings: Settings) -> None:
        """Refuse settings that this plugin cannot work with; called once at start.

        Raises:
            ConfigurationRefused: the service must not start so.
        """

    def run(self, work: PluginWork) -> PluginOutcome:
        """Do the plugin's work; safe to run twice on the same file.

        Raises:
            TransferFailed: the import cannot go on; files made through the workspace are removed by the caller.
        """
