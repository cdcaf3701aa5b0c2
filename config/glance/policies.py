"""Finds the files with policies and with property protections that Glance would read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from config.glance.files import Entry
from config.glance.findings import Findings, GlanceValue
from config.glance.options import POLICY_DIRS, POLICY_FILE, PROTECTION_FILE

_SETTING: Final = ("api", "policy_file")
_PROTECTIONS: Final = ("api", "property_protection_file")
_DEFAULT_FILES: Final = ("policy.yaml", "policy.json")
_DEFAULT_DIRECTORIES: Final = ("policy.d",)


def read_policies(found: Findings, files: Sequence[Path]) -> None:
    """Add the paths of the policy file and the property protections; look for them beside the configuration files.

    If Glance would read a directory with rules too, that becomes the setting: it stops the start, unless a later source
    names a file.

    Args:
        files: Glance's files; the directories of later ones are searched first.
    """
    folders = [file.parent for file in reversed(files)]
    named, named_folders = found.entries.pop(POLICY_FILE, None), found.entries.pop(POLICY_DIRS, None)
    paths = _paths(found, named, _DEFAULT_FILES, folders)
    path = next((path for path in paths if path.is_file()), paths[0] if named and paths else None)
    with_rules = [path for path in _paths(found, named_folders, _DEFAULT_DIRECTORIES, folders) if _has_rules(path)]
    for each, entry in ((path, named), *((folder, named_folders) for folder in with_rules)):
        if each is not None:
            origin = entry.origin if entry else f"{files[-1]}: {each.name} beside it"
            found.values.append(GlanceValue(_SETTING, str(each), origin))
    protections = found.entries.pop(PROTECTION_FILE, None)
    if protections is not None and (paths := _paths(found, protections, (), folders)):
        path = next((path for path in paths if path.is_file()), paths[0])
        found.values.append(GlanceValue(_PROTECTIONS, str(path), protections.origin))


def _paths(found: Findings, entry: Entry | None, default: Sequence[str], folders: Sequence[Path]) -> list[Path]:
    """Return where an option's files may be, the first choice first."""
    names = default
    if entry is not None:
        try:
            names = found.text_of(entry).split(",")
        except ValueError as error:
            found.refuse(entry, error)
            return []
    return [folder / name.strip() for name in names if name.strip() for folder in folders]


def _has_rules(folder: Path) -> bool:
    return folder.is_dir() and any(not each.name.startswith(".") for each in folder.iterdir())
