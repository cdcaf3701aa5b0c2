"""Secrets that are created once, at the first start, in files of mode 0600 in the home directory."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from config.private_files import create_private
from config.settings import Settings
from transship.domain.errors import ConfigurationRefused

PREFECT_AUTH_FILE: Final = "prefect-auth"
"""One line ``admin:<password>``: the login of the supervised Prefect server and its UI."""

PREFECT_KEY_FILE: Final = "prefect-encryption-key"
"""Fernet key with which the supervised Prefect server encrypts blocks. If it changes, they become unreadable."""

PREFECT_USER: Final = "admin"


def prefect_auth_file(settings: Settings) -> Path:
    """Return the path of the file with the login of the supervised Prefect server."""
    return settings.home / PREFECT_AUTH_FILE


def prefect_auth_string(settings: Settings) -> str:
    """Return ``user:password`` for the Prefect API in use; empty if that API requires no login.

    Raises:
        ConfigurationRefused: the supervised server's file is missing or unreadable.
    """
    configured = settings.prefect.auth_string.get_secret_value()
    if configured or settings.prefect.api_url:
        return configured
    return _read(prefect_auth_file(settings), "prefect.auth_string")


def prefect_encryption_key(settings: Settings) -> str:
    """Return the Fernet key of the supervised Prefect server.

    Raises:
        ConfigurationRefused: its file is missing or unreadable.
    """
    return _read(settings.home / PREFECT_KEY_FILE, "home")


def create_prefect_secrets(settings: Settings) -> None:
    """Create the supervised Prefect server's login and key if they do not exist; never change existing ones.

    Raises:
        ConfigurationRefused: the home directory cannot be written.
    """
    create_secret(prefect_auth_file(settings), new_prefect_auth)
    create_secret(settings.home / PREFECT_KEY_FILE, new_fernet_key)


def new_prefect_auth() -> str:
    """Return a new login: ``admin:`` and 32 URL-safe characters."""
    return f"{PREFECT_USER}:{secrets.token_urlsafe(24)}"


def new_fernet_key() -> str:
    """Return a new Fernet key: 32 random bytes in URL-safe base64."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def create_secret(path: Path, make: Callable[[], str]) -> bool:
    """Write a new secret of one line to a 0600 file, atomically and without replacing an existing one.

    Args:
        path: file to create; its directory exists.
        make: called at most once, only if the file does not exist.

    Returns:
        True if the file was created, False if it existed.

    Raises:
        ConfigurationRefused: the directory cannot be written; nothing is left behind.
    """
    try:
        return not path.exists() and create_private(path, f"{make()}\n")
    except OSError as error:
        raise ConfigurationRefused(str(path), "home", f"the secret cannot be created: {error.strerror}") from error


def _read(path: Path, option: str) -> str:
    try:
        value = path.read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise ConfigurationRefused(str(path), option, "does not exist", "'transship up' creates it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationRefused(str(path), option, f"cannot be read: {error}") from error
    if not value:
        raise ConfigurationRefused(
            str(path), option, "is empty", "remove it and start again, or restore it from a backup"
        )
    return value
