"""The text that a store leaves where it keeps its objects, so that another place is noticed."""

from __future__ import annotations

from dataclasses import dataclass

from transship.domain.errors import StoreUnavailable
from transship.stores.base import ASK_DOCTOR


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose directory, bucket or pool this is.

    Attributes:
        store_id: id of the store.
        catalog_id: id of the catalogue that the store belongs to. Empty: a store without a catalogue, which marks
            nothing and accepts any place.
        place: what is marked, e.g. ``bucket``.
        absent: what it means that there is no mark, for the error.
    """

    store_id: str
    catalog_id: str
    place: str
    absent: str

    @property
    def text(self) -> str:
        """The mark; empty for a store without a catalogue."""
        return f"store {self.store_id} of catalogue {self.catalog_id}" if self.catalog_id else ""

    def require(self, found: str | None) -> None:
        """Refuse a place that has another mark.

        Args:
            found: the mark that is there; None or empty: none.

        Raises:
            StoreUnavailable: it has no mark, or another's.
        """
        if self.text and not found:
            raise self.missing()
        if self.text and found != self.text:
            reason = f"its {self.place} is marked as that of another: {found}; give each a {self.place} of its own"
            raise StoreUnavailable(self.store_id, reason)

    def missing(self) -> StoreUnavailable:
        """Return the error for a place that should have a mark."""
        return StoreUnavailable(self.store_id, self.absent, ASK_DOCTOR)
