"""The block of the file store."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar, Self

from pydantic import Field, HttpUrl, field_validator

from blocks.image_store import ImageStore
from config.settings import FileStoreSettings


class FileStoreBlock(ImageStore):
    """A store that keeps images in a directory, one file per image, named by the image id."""

    _block_type_name: ClassVar[str] = "Image store: file"
    _block_type_slug: ClassVar[str] = "image-store-file"
    _description: ClassVar[str] = (
        "Keeps images in a directory, one file per image, named by the image id, as Glance's filesystem store does."
    )
    _documentation_url: ClassVar[HttpUrl] = HttpUrl("https://docs.openstack.org/glance/latest/admin/multistores.html")
    _code_example: ClassVar[str] = """
        ```python
        from blocks import FileStoreBlock

        store = FileStoreBlock.load("BLOCK_NAME")
        print(store.settings())
        ```
    """

    directory: str = Field(
        title="Directory",
        description="Absolute path of the directory that holds one file per image.",
        examples=["/srv/images"],
    )
    file_mode: str = Field(
        "0640", title="File mode", description="Octal mode of stored files.", pattern=r"^0?[0-7]{3}$"
    )

    @field_validator("directory")
    @classmethod
    def _is_absolute(cls, directory: str) -> str:
        if not PurePosixPath(directory).is_absolute():
            raise ValueError(f"{directory!r} is not an absolute path")
        return directory

    @classmethod
    def of(cls, settings: FileStoreSettings) -> Self:
        """Return the block that holds these settings; it is not saved."""
        return cls(
            description=settings.description,
            weight=settings.weight,
            directory=str(settings.dir),
            file_mode=settings.file_mode,
        )

    def settings(self) -> FileStoreSettings:
        """Return the same settings as the configuration would hold them."""
        return FileStoreSettings.model_validate(
            {
                "dir": self.directory,
                "description": self.description,
                "weight": self.weight,
                "file_mode": self.file_mode,
            }
        )
