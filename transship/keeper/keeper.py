"""What all of the keeper's duties share."""

from __future__ import annotations

from dataclasses import dataclass

from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.keeper.prefect_api import PrefectApi


@dataclass(frozen=True, slots=True)
class Keeper:
    """A keeper; each duty is a function of it.

    Attributes:
        owner: this process's name in the keepers' lease.
    """

    settings: Settings
    catalog: Catalog
    prefect: PrefectApi
    owner: str
