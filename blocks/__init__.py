"""Prefect blocks: typed settings, each giving a driver. Importing this package makes all of them known to Prefect."""

from blocks.file_store import FileStoreBlock
from blocks.image_store import ImageStore

__all__ = ["FileStoreBlock", "ImageStore"]
