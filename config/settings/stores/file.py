"""Stores in one directory, or in several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from config.glance.option import STORE_SECTION, IgnoredOption, MappedOption
from config.glance.readers import read_directories, read_file_mode, read_optional_path, split_weight
from config.settings.section import AbsolutePath, whole_path
from config.settings.stores.kind import BlockFacts, GlanceFacts, StoreKind, StoreSettings
from transship.domain.errors import ValueRefused


def _weighted(text: str, info: ValidationInfo) -> str:
    path, weight = split_weight(text)
    return f"{whole_path(Path(path), info)}:{weight}"


WeightedDirectory = Annotated[str, AfterValidator(_weighted)]
"""``/path:weight``."""


class FileStoreSettings(StoreSettings):
    """A store in a directory, or in several directories."""

    type: Literal["file"] = Field("file", description="Kind of the store.")
    dir: AbsolutePath | None = Field(
        None,
        title="Directory",
        description="Directory that holds one file per image, named by the image id. Set this or dirs.",
        examples=["/srv/transship/images"],
    )
    dirs: tuple[WeightedDirectory, ...] = Field(
        (),
        title="Directories",
        description="Several directories instead of dir, each as /path or /path:weight. A new image goes to the one"
        " with the highest weight that has enough room; of equal weights, to the one with the most room.",
    )
    file_mode: str = Field("0640", pattern=r"^0?[0-7]{3}$", description="Octal mode of stored files.")

    @model_validator(mode="after")
    def _names_directories_once(self) -> Self:
        if bool(self.dir) == bool(self.dirs):
            fault = "dir and dirs exclude each other" if self.dir else "neither dir nor dirs is set"
            raise ValueRefused(fault, "set dir to one directory, or dirs to several")
        return self

    @property
    def weighted_directories(self) -> tuple[tuple[Path, int], ...]:
        """Its directories with their weights, as configured."""
        several = [split_weight(text) for text in self.dirs]
        return tuple((Path(path), weight) for path, weight in several) if self.dir is None else ((self.dir, 0),)

    def directories(self) -> Mapping[str, Sequence[Path]]:
        """Return its directories."""
        return {"dir" if self.dir else "dirs": [path for path, _ in self.weighted_directories]}


KIND: Final = StoreKind(
    name="file",
    settings=FileStoreSettings,
    driver="transship.stores.directories:file_store",
    block=BlockFacts(
        description=(
            "Keeps images in directories, one file per image, named by the image id, as Glance's filesystem store does."
        ),
        documentation="https://docs.openstack.org/glance/latest/admin/multistores.html",
        names={"dir": "directory", "dirs": "directories"},
    ),
    glance=GlanceFacts(
        options=(
            MappedOption(
                STORE_SECTION,
                "filesystem_store_datadir",
                "stores.<store>.dir",
                read_optional_path,
                "required without filesystem_store_datadirs",
                required=True,
                instead="filesystem_store_datadirs",
            ),
            MappedOption(
                STORE_SECTION,
                "filesystem_store_datadirs",
                "stores.<store>.dirs",
                read_directories,
                "may be repeated; /path:priority",
                repeated=True,
            ),
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
            IgnoredOption(STORE_SECTION, "filesystem_store_timeout", "a file system that hangs is not interrupted"),
            IgnoredOption(STORE_SECTION, "filesystem_store_thread_pool_size", "there is no pool of threads for files"),
            IgnoredOption(
                STORE_SECTION, "filesystem_store_threadpool_threshold", "there is no pool of threads for files"
            ),
        ),
        names=("filesystem",),
        set_up_by=("filesystem_store_datadir", "filesystem_store_datadirs"),
    ),
)
