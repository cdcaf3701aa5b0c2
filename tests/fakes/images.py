"""Values for tests: images, orders and open catalogues."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from config.settings import Settings
from tests.fakes.databases import DATABASES
from transship.catalog.engine import Catalog
from transship.catalog.images import get_image, insert_image
from transship.catalog.imports import Begun, Caller, Order, ask_import, begin_import
from transship.domain.errors import TransferFailed
from transship.domain.image import Image, ImageStatus
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.domain.placement import StoreFacts
from transship.domain.task import ImportTask
from transship.stores_in_force import prepare_store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOCAL = (StoreFacts("local", "file", default=True),)
"""The stores of a site that has one."""


def settings_in(home: Path, **changes: object) -> Settings:
    """Return settings whose home is a test's directory, and whose database is the one of that home."""
    return Settings.model_validate({"home": home, "database": DATABASES.section(home), **changes})


def prepare_stores(settings: Settings, catalog: Catalog) -> None:
    """Prepare all stores, as ``transship deploy`` does, skipping those that cannot be prepared."""
    for store_id, store in settings.all_stores.items():
        with suppress(TransferFailed):
            prepare_store(catalog, store_id, store)


def new_image(**changes: object) -> Image:
    """Return a queued image that is ready for an import."""
    values: dict[str, object] = {
        "id": str(uuid4()),
        "status": ImageStatus.QUEUED,
        "created_at": NOW,
        "updated_at": NOW,
        "name": "debian",
        "disk_format": "raw",
        "container_format": "bare",
    }
    return Image(**{**values, **changes})  # type: ignore[arg-type]  # tests choose


def queued_image(catalog: Catalog, **changes: object) -> Image:
    """Add an image to a catalogue and return it."""
    image = new_image(**changes)
    with catalog.write() as connection:
        insert_image(connection, image)
    return image


def web_order(uri: str = "http://source.example/debian.img", *stores: str, strict: bool = True) -> Order:
    """Return the order of a web-download."""
    targets = stores or ("local",)
    request = ImportRequest(ImportMethod.WEB_DOWNLOAD, uri=uri, stores=targets, all_stores_must_succeed=strict)
    return Order(request, targets)


def asked(catalog: Catalog, image: Image, *stores: str) -> ImportTask:
    """Ask for an import of an image."""
    return ask_import(catalog, image.id, web_order("http://source.example/debian.img", *stores), Caller(), NOW)


def begun(catalog: Catalog, image: Image, *stores: str, ttl_s: float = 3600.0) -> Begun:
    """Ask for an import and begin it."""
    task = asked(catalog, image, *stores)
    return begin_import(catalog, task.id, str(uuid4()), "test", ttl_s=ttl_s, now=NOW)


def read_image(catalog: Catalog, image_id: str) -> Image:
    """Return the current image."""
    with catalog.read() as connection:
        return get_image(connection, image_id)
