"""Quotas: counts of one image's parts, and what the images of one project may take together."""

from __future__ import annotations

from transship.domain.errors import QuotaExceeded


def refuse_over_count(what: str, limit: int, asked: int, before: int = 0) -> None:
    """Refuse more of an image's parts than the site allows; fewer than before are always allowed.

    Args:
        what: the parts, e.g. ``image tags``.
        limit: most of them; negative: no limit.
        asked: how many there would be.
        before: how many there are.

    Raises:
        QuotaExceeded: names the parts and their limit.
    """
    if 0 <= limit < asked and asked > before:
        raise QuotaExceeded(what, limit, asked)
