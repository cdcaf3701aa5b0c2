from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.domain.turns import Waiting, next_turns


def waiting(order: str) -> list[Waiting]:
    """Each letter is a project's import; earlier ones stand first."""
    return [Waiting(key, project) for key, project in enumerate(order)]


@pytest.mark.parametrize(
    ("order", "carried", "room", "limit", "turns"),
    [
        pytest.param("aaaab", {}, 2, 0, "ab", id="a late project comes second"),
        pytest.param("aaabbc", {}, 6, 0, "abcaba", id="projects take turns"),
        pytest.param("aab", {"a": 3}, 1, 0, "b", id="who has less under way goes first"),
        pytest.param("aaa", {"a": 1}, 9, 2, "a", id="no more than a project may have"),
        pytest.param("aab", {"a": 2}, 9, 2, "b", id="one project's limit keeps nobody else"),
        pytest.param("ab", {}, 0, 0, "", id="no room"),
        pytest.param("", {"a": 1}, 9, 0, "", id="nobody waits"),
        pytest.param("aa", {}, 9, 0, "aa", id="no limit"),
    ],
)
def test_turns(order: str, carried: Mapping[str, int], room: int, limit: int, turns: str) -> None:
    chosen = next_turns(waiting(order), carried, room=room, limit_per_project=limit)
    assert "".join(order[key] for key in chosen) == turns


@given(st.text("abc", max_size=30), st.dictionaries(st.sampled_from("abc"), st.integers(0, 5)), st.integers(0, 20))
def test_each_project_is_served_in_the_order_it_asked_and_nobody_is_left_while_there_is_room(
    order: str, carried: Mapping[str, int], room: int
) -> None:
    chosen = next_turns(waiting(order), carried, room=room, limit_per_project=0)
    assert len(chosen) == min(room, len(order))
    for project in "abc":
        own = [key for key in chosen if order[key] == project]
        assert own == [key for key in range(len(order)) if order[key] == project][: len(own)]


@given(st.text("abc", max_size=30), st.integers(1, 5))
def test_no_project_gets_more_than_its_limit(order: str, limit: int) -> None:
    chosen = next_turns(waiting(order), {}, room=99, limit_per_project=limit)
    assert Counter(order[key] for key in chosen) == {name: min(limit, n) for name, n in Counter(order).items()}
