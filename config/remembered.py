"""Options that ``transship up`` was given on its command line, kept in the home directory for later commands."""

from __future__ import annotations

import json
import re
from typing import Final

from config.gathering import COMMAND_LINE, Gathered
from config.loading import LoadedSettings
from config.options import option_values
from config.private_files import write_private
from config.reading import REMEMBERED, read_file
from config.show import toml_value
from transship.domain.errors import ConfigurationRefused

_HEAD: Final = """\
# Options that 'transship up' was given with --set or --glance-config. Remove a line to forget its option.
"""
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def remember(loaded: LoadedSettings) -> tuple[str, ...]:
    """Keep the options of the command line, beside those that were kept before.

    Args:
        loaded: valid settings; their home directory exists.

    Returns:
        All options that are kept now.

    Raises:
        ConfigurationRefused: the file cannot be written; what was kept before stays.
    """
    path = loaded.settings.home / REMEMBERED
    kept = Gathered()
    if path.is_file():
        kept.add(read_file(path), str(path))
    given = {option for option, origin in loaded.origins.items() if origin == COMMAND_LINE} - {"home"}
    if given:
        for option, value in option_values(loaded.settings).items():
            if ".".join(option) in given:
                kept.add(value, COMMAND_LINE, option)
        lines = [f"{_key(option)} = {toml_value(value)}\n" for option, (value, _) in kept.leaves.items()]
        try:
            write_private(path, _HEAD + "".join(lines))
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise ConfigurationRefused(str(path), "remembered options", reason) from error
    return tuple(".".join(option) for option in kept.leaves)


def _key(option: tuple[str, ...]) -> str:
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in option)
