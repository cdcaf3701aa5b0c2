"""The stores, one class a kind."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.settings.section import AbsolutePath, Section


class FileStoreSettings(Section):
    """A store in a directory."""

    type: Literal["file"] = Field("file", description="Kind of the store.")
    dir: AbsolutePath = Field(description="Directory that holds one file per image, named by the image id.")
    description: str = Field("", description="One line for people.")
    weight: int = Field(0, description="Higher is preferred for reads and stands first in lists.")
    file_mode: str = Field("0640", pattern=r"^0?[0-7]{3}$", description="Octal mode of stored files.")


def store_limit_name(store: str) -> str:
    """Return the name of Prefect's global concurrency limit of a store."""
    return f"store-{store}"
