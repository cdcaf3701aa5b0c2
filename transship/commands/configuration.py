"""``transship config``: the settings in force, a sample file, a new key."""

from __future__ import annotations

from config.secrets import new_fernet_key
from config.show import option_rows, sample_toml
from transship.commands.context import Invocation, print_table


def show(invocation: Invocation) -> int:
    """Print every option, its value with secrets masked, and where it came from."""
    rows = [(row.option, row.value, row.origin) for row in option_rows(invocation.load())]
    print_table(("OPTION", "VALUE", "FROM"), rows)
    return 0


def sample() -> int:
    """Print a configuration file with every option and its default."""
    print(sample_toml(), end="")
    return 0


def new_key() -> int:
    """Print a fresh Fernet key for ``database.secret_key``."""
    print(new_fernet_key())
    return 0
