"""Checks whether the catalogue answers and a keeper is active."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from transship.catalog.engine import Catalog
from transship.catalog.schema import KEEPERS, META
from transship.catalog.types import in_seconds
from transship.domain.errors import CatalogUnavailable


@dataclass(frozen=True, slots=True)
class CatalogHealth:
    """The result of a check.

    Attributes:
        readable: whether it answered.
        catalog_id: UUID of the catalogue; empty when it did not answer.
        keeper_alive: whether a keeper holds its lease.
        reason: why it did not answer; empty when it did.
    """

    readable: bool
    catalog_id: str
    keeper_alive: bool
    reason: str = ""


def look_at(catalog: Catalog) -> CatalogHealth:
    """Read the catalogue once; never raises for a database that does not answer."""
    try:
        with catalog.read() as connection:
            found = connection.execute(select(META.c.value).where(META.c.name == "catalog_id")).scalar_one()
            alive = connection.execute(select(KEEPERS.c.id).where(KEEPERS.c.expires_at > in_seconds(0)).limit(1))
            return CatalogHealth(True, str(found), alive.first() is not None)
    except CatalogUnavailable as error:
        return CatalogHealth(False, "", False, str(error))
    except SQLAlchemyError as error:
        # The driver's text names hosts and statements, which only concern the operator.
        return CatalogHealth(False, "", False, f"the catalogue cannot be read ({type(error).__name__})")
