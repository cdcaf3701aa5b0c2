"""Stores in a directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from config.glance.option import STORE_SECTION, IgnoredOption, MappedOption
from config.glance.readers import read_file_mode, read_text
from config.settings.section import AbsolutePath
from config.settings.stores.kind import BlockFacts, GlanceFacts, StoreKind, StoreSettings


class FileStoreSettings(StoreSettings):
    """A store in a directory."""

    type: Literal["file"] = Field("file", description="Kind of the store.")
    dir: AbsolutePath = Field(
        title="Directory",
        description="Directory that holds one file per image, named by the image id.",
        examples=["/srv/transship/images"],
    )
    file_mode: str = Field("0640", pattern=r"^0?[0-7]{3}$", description="Octal mode of stored files.")

    def directories(self) -> Mapping[str, Path]:
        """Return its one directory."""
        return {"dir": self.dir}


KIND: Final = StoreKind(
    name="file",
    settings=FileStoreSettings,
    driver="transship.stores.file:FileStore.of",
    block=BlockFacts(
        description=(
            "Keeps images in a directory, one file per image, named by the image id, as Glance's filesystem store does."
        ),
        documentation="https://docs.openstack.org/glance/latest/admin/multistores.html",
        names={"dir": "directory"},
    ),
    glance=GlanceFacts(
        options=(
            MappedOption(STORE_SECTION, "filesystem_store_datadir", "stores.<store>.dir", read_text, required=True),
            MappedOption(
                STORE_SECTION,
                "filesystem_store_file_perm",
                "stores.<store>.file_mode",
                read_file_mode,
                "0 does not change the setting",
            ),
        ),
        ignored=(
            IgnoredOption(STORE_SECTION, "filesystem_store_chunk_size", "files are copied as fast as the system can"),
            IgnoredOption(STORE_SECTION, "filesystem_thin_provisioning", "holes are always kept"),
            IgnoredOption(STORE_SECTION, "filesystem_store_metadata_file", "locations have no further metadata"),
            IgnoredOption(
                STORE_SECTION,
                "filesystem_store_datadirs",
                "several directories per store are not supported; set filesystem_store_datadir to one",
            ),
        ),
        names=("filesystem",),
        set_up_by=("filesystem_store_datadir", "filesystem_store_datadirs"),
    ),
)
