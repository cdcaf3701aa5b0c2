"""Allowances: the one address that one import may reach besides what the settings allow."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.catalog.images import lock_image
from transship.catalog.schema import ALLOWANCES


@dataclass(frozen=True, slots=True)
class AllowedAddress:
    """Host and port that an import of one image may reach."""

    host: str
    port: int


def grant_allowance(settings: Settings, image_id: str, host: str, port: int) -> None:
    """Let the imports of one image reach one address, until an import of it succeeds or it is deleted.

    Needs the catalogue's database, so only an operator on the machine can grant it; no setting changes.

    Raises:
        ImageNotFound: there is no such image; nothing was granted.
        ConfigurationRefused: the catalogue cannot be opened.
    """
    catalog = Catalog.open(settings)
    try:
        with catalog.write() as connection:
            lock_image(connection, image_id)
            connection.execute(delete(ALLOWANCES).where(ALLOWANCES.c.image_id == image_id))
            connection.execute(insert(ALLOWANCES).values(image_id=image_id, host=host, port=port))
    finally:
        catalog.close()


def allowance_of(connection: Connection, image_id: str) -> AllowedAddress | None:
    """Return the address granted to the imports of an image, None if there is none."""
    row = connection.execute(select(ALLOWANCES).where(ALLOWANCES.c.image_id == image_id)).first()
    return None if row is None else AllowedAddress(row.host, row.port)
