"""The contract of import plugins.

A plugin is an object registered under the entry-point group ``transship.import_plugins``. It gets
one sealed staged file and the image's record, and returns the changes to make. It never writes to
the catalogue, to a store or to the file it was given.
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
    """Where a plugin may write: only new files of this import in staging."""

    def new_file(self, label: str) -> Path:
        """Return the path of a file to create; it is recorded first, so a crash leaves no orphan.

        Args:
            label: lower-case letters; part of the file's name.
        """

    def reserve(self, path: Path, size_bytes: int) -> None:
        """Make sure that the file at ``path`` may grow to ``size_bytes``.

        Raises:
            StagingFull: there is no room; the reservation is unchanged.
        """


@dataclass(frozen=True, slots=True)
class PluginWork:
    """A plugin's input.

    Attributes:
        image: its current record, with the formats set by earlier plugins.
        path: sealed staged file; read only.
        roles: the caller's roles, lower case; an admin's for runs started by hand.
        settings: all settings.
        workspace: where new files may be written.
        progress: call it with (bytes done, total bytes or 0), at most a few times a second.
        stop: check it at least once per 16 MiB.
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
    """The changes that a plugin requests; None and empty mean unchanged.

    Attributes:
        path: complete new file, created through the workspace; replaces the staged one.
        disk_format, container_format: of the new data.
        virtual_size: bytes that a guest sees.
        properties: extra properties to set or overwrite; names reserved for the service are dropped.
        summary: one line for display: what was done, or why nothing was.
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
        """The name in ``imports.plugins``, equal to the entry point's."""

    @property
    def label(self) -> str:
        """A verb for display and for the name of its Prefect task, e.g. ``decompress``."""

    def check(self, settings: Settings) -> None:
        """Refuse settings that this plugin cannot work with; called once at start.

        Raises:
            ConfigurationRefused: the service must not start with these settings.
        """

    def run(self, work: PluginWork) -> PluginOutcome:
        """Do the plugin's work; safe to run twice on the same file.

        Raises:
            TransferFailed: the import cannot continue; the caller removes files created through the workspace.
        """
