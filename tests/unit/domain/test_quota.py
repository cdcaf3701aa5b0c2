from __future__ import annotations

import pytest

from transship.domain.errors import QuotaExceeded
from transship.domain.quota import refuse_over_count


@pytest.mark.parametrize(("limit", "asked", "before"), [(2, 2, 0), (-1, 1000, 0), (2, 4, 5), (2, 4, 4), (0, 0, 0)])
def test_what_the_limit_allows_and_what_becomes_no_more_passes(limit: int, asked: int, before: int) -> None:
    refuse_over_count("image members", limit, asked, before)


@pytest.mark.parametrize(("limit", "asked", "before"), [(2, 3, 2), (0, 1, 0), (2, 5, 4)])
def test_more_than_the_limit_is_refused_with_both_numbers(limit: int, asked: int, before: int) -> None:
    with pytest.raises(QuotaExceeded, match=rf"^image members: {asked} asked for, at most {limit} allowed$"):
        refuse_over_count("image members", limit, asked, before)
