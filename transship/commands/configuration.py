"""``transship config``: the settings in force, a check of files, a sample file, a new key."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from config.gathering import DEFAULT
from config.loading import LoadedSettings, load_files
from config.notes import Note, NoteKind
from config.options import GLANCE_OPTION
from config.reading import SYSTEM_FILE, files_of
from config.secrets import new_fernet_key
from config.settings import Settings
from config.show import option_rows, sample_toml
from config.snapshot import Snapshot
from transship.commands.context import YELLOW, Invocation, coloured, print_json, print_table
from transship.domain.errors import CommandRefused, ConfigurationRefused, StoreUnavailable
from transship.domain.notification import SinkName
from transship.notify.sink import wanted_sinks
from transship.plugins.registry import load_plugins
from transship.sources.gate import gate_from
from transship.sources.transport import refuse_bad_authorities
from transship.stores.pool import new_driver

TOML: Final = ".toml"
_TITLES: Final = {
    NoteKind.WARNING: "WARNING",
    NoteKind.IGNORED: "IGNORED: KNOWN, BUT WITHOUT EFFECT HERE",
    NoteKind.UNKNOWN: "UNKNOWN: NOT READ BY TRANSSHIP",
}
LISTED: Final = 8
"""Most changed options that are named."""


def show(invocation: Invocation, *, as_json: bool = False) -> int:
    """Print all options in force, their values with secrets masked, and where they come from."""
    loaded = invocation.in_force()
    if as_json:
        print_json([asdict(row) for row in option_rows(loaded)])
        return 0
    rows = [(row.option, row.value, row.origin) for row in option_rows(loaded)]
    print_table(("OPTION", "VALUE", "FROM"), rows)
    print_warnings(loaded)
    snapshot = invocation.snapshot()
    if snapshot is not None and (text := what_differs(snapshot)):
        print(coloured(text, YELLOW, error=True), file=sys.stderr, flush=True)
    return 0


def what_differs(snapshot: Snapshot, refuse: Callable[[LoadedSettings], None] = lambda _: None) -> str:
    """Describe how the sources differ from the settings in force; empty if they do not.

    Args:
        refuse: raises for settings that a reload would refuse.
    """
    try:
        now = snapshot.sources.load()
        refuse(now)
    except ConfigurationRefused as refused:
        return f"the settings of {snapshot.taken_at} stay in force; the current files cannot be used: {refused}"
    names = snapshot.difference(now)
    if not names:
        return ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    changed = ", ".join(names[:LISTED]) + more
    return f"changed since {snapshot.taken_at} and not in force: {changed}; 'transship reload' applies the changes"


def check(invocation: Invocation, files: Sequence[Path], *, as_json: bool = False) -> int:
    """Print what the files set, where each value is set, and what has no effect.

    Args:
        invocation: its sources are checked if there are no files; otherwise only its overrides apply.
        files: Glance files or directories; one may be a Transship TOML file. Nothing else is read then.

    Raises:
        CommandRefused: there is more than one TOML file.
        ConfigurationRefused: the service would not start with them.
    """
    loaded = _load_alone(files, invocation.overrides) if files else invocation.load()
    refuse_what_cannot_start(loaded)
    set_here = [row for row in option_rows(loaded) if any(row.origin.startswith(str(path)) for path in loaded.files)]
    if as_json:
        notes_of = {kind.name.lower(): [_note(note) for note in loaded.notes if note.kind is kind] for kind in _TITLES}
        print_json({"options": [asdict(row) for row in set_here], **notes_of})
        return 0
    rows = [(row.option, row.value, row.origin) for row in set_here]
    print_table(("OPTION", "VALUE", "FROM"), rows or [("(nothing is set)", "", "")])
    for kind, title in _TITLES.items():
        notes = [(note.origin, note.text) for note in loaded.notes if note.kind is kind]
        if notes:
            print()
            print_table((title, ""), notes)
    return 0


def _note(note: Note) -> dict[str, str]:
    return {"origin": note.origin, "text": note.text}


def print_warnings(loaded: LoadedSettings) -> None:
    """Print warnings about the sources to standard error."""
    for note in loaded.notes:
        if note.kind is NoteKind.UNKNOWN:
            continue  # most options of a Glance do not concern imports
        print(coloured(f"{note.kind}: {note}", YELLOW, error=True), file=sys.stderr, flush=True)


def refuse_what_cannot_start(loaded: LoadedSettings) -> None:
    """Check everything that would stop a service or an import at its start; nothing is started or created.

    Raises:
        ConfigurationRefused: it could not start; the error names where the option is set.
    """
    refuse_what_fails_imports(loaded)
    with _origins_named(loaded):
        _refuse_bad_bus(loaded)
        api = loaded.settings.api
        if api.rule_files:
            # Importing oslo.policy takes a third of a second, so it is only done if there is such a file.
            from transship.api.policy import Policy  # noqa: PLC0415
            from transship.api.protection import PropertyProtection  # noqa: PLC0415

            PropertyProtection.of(api, Policy(api.policy_file), None)


def refuse_what_fails_imports(loaded: LoadedSettings) -> None:
    """Check what imports need: directories, plugins, host lists, the catalogue, certificate authorities.

    Raises:
        ConfigurationRefused: an import could not run; the error names where the option is set.
    """
    with _origins_named(loaded):
        _refuse_shared_directories(loaded.settings)
        _refuse_stores_without_library(loaded.settings)
        load_plugins(loaded.settings)
        gate_from(loaded.settings)
        _refuse_bad_database(loaded.settings)
        refuse_bad_authorities(loaded.settings.download)
        _refuse_bad_logins(loaded.settings)


def _refuse_shared_directories(settings: Settings) -> None:
    """Refuse two users of one directory: one would remove the other's data."""
    users = {settings.staging_dir.resolve(): "staging"}
    for store_id, store in settings.all_stores.items():
        named = [(option, each) for option, several in store.directories().items() for each in several]
        for option, directory in named:
            real = directory.resolve()
            if real in users:
                reason, remedy = f"{directory} is also the directory of {users[real]}", "give each its own directory"
                raise ConfigurationRefused("settings", f"stores.{store_id}.{option}", reason, remedy)
            users[real] = f"store {store_id}"


def _refuse_stores_without_library(settings: Settings) -> None:
    for store_id, store in settings.all_stores.items():
        try:
            new_driver(store_id, store, "")
        except StoreUnavailable as missing:
            option = f"stores.{store_id}.type"
            raise ConfigurationRefused("settings", option, missing.reason, missing.remedy) from missing


def _refuse_bad_logins(settings: Settings) -> None:
    logins = [("auth", settings.auth), *((f"remotes.{name}", each) for name, each in settings.remotes.items())]
    if any(login.ca_file for _, login in logins):
        # Importing keystoneauth1 takes a fifth of a second, so it is only done if there is a Keystone.
        from transship.identity.login import refuse_bad_authority  # noqa: PLC0415

        for option, login in logins:
            refuse_bad_authority(option, login)


def _refuse_bad_bus(loaded: LoadedSettings) -> None:
    if SinkName.BUS in wanted_sinks(loaded.settings.notifications):
        # Importing oslo.messaging takes two seconds and 50 MB, so it is only done if there is a message bus.
        from transship.notify.bus import MessageBus  # noqa: PLC0415

        MessageBus(loaded.settings, loaded.texts).close()


def _refuse_bad_database(settings: Settings) -> None:
    if settings.database.url.get_secret_value() or settings.database.secret_key.get_secret_value():
        # Importing SQLAlchemy takes half a second and 35 MB, so the supervisor avoids it for the default catalogue.
        from transship.catalog.engine import refuse_bad_database  # noqa: PLC0415

        refuse_bad_database(settings)


@contextmanager
def _origins_named(loaded: LoadedSettings) -> Iterator[None]:
    try:
        yield
    except ConfigurationRefused as refused:
        origin = loaded.origins.get(refused.option, DEFAULT)
        # For a default value, the refused file itself is a better source than the word "default".
        raise (refused if origin == DEFAULT else replace(refused, source=origin)) from refused


def _load_alone(files: Sequence[Path], overrides: Mapping[str, str]) -> LoadedSettings:
    """Return the settings from these files and the command line, regardless of the environment and other files."""
    ours = [path for path in files if path.suffix == TOML]
    glances = [str(path.absolute()) for path in files if path.suffix != TOML]
    if len(ours) > 1:
        raise CommandRefused(f"{ours[1]}: only one {TOML} file is read at a start", "name one")
    named = {GLANCE_OPTION: os.pathsep.join(glances)} if glances else {}
    return load_files(files_of(ours[0], {}, {}, SYSTEM_FILE) if ours else (), overrides={**overrides, **named})


def sample() -> int:
    """Print a configuration file with every option and its default."""
    print(sample_toml(), end="")
    return 0


def new_key() -> int:
    """Print a new Fernet key for ``database.secret_key``."""
    print(new_fernet_key())
    return 0
