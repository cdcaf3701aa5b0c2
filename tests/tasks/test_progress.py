"""The progress board, its status line, and its bar."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.progress import ProgressBoard, artifact_key, describe, overall
from transship.catalog.engine import Catalog
from transship.domain.task import StoreProgress, TaskProgress, seconds_left

NO_CATALOG: Catalog = None  # type: ignore[assignment]  # these tests publish nothing
SIZES = st.integers(0, 1000)


def board(*stores: str) -> ProgressBoard:
    return ProgressBoard(NO_CATALOG, "task", 1, "image", stores)


@given(st.lists(SIZES))
@settings(deadline=None)
def test_a_phase_never_goes_back(steps: list[int]) -> None:
    shown = board()
    shown.enter("stage", 1000)
    seen = []
    for done in steps:
        shown.advance(done)
        seen.append((shown.now.done_bytes, overall(shown.now)))
    assert seen == sorted(seen)
    assert shown.now.done_bytes == max(steps, default=0)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), SIZES)))
@settings(deadline=None)
def test_the_bar_of_the_stores_never_goes_back(steps: list[tuple[str, int]]) -> None:
    shown = board("a", "b", "c")
    shown.enter("place", 1000)
    seen = [overall(shown.now)]
    for store, done in steps:
        shown.store(store, "uploading", done, 1000)
        seen.append(overall(shown.now))
    for store in ("a", "b", "c"):
        shown.store(store, "done", 1000, 1000)
        seen.append(overall(shown.now))
    assert seen == sorted(seen)
    assert [seen[0], seen[-1]] == pytest.approx([0.8, 1.0])


def test_the_bar_goes_through_the_phases_in_order() -> None:
    phases = ("begin", "validate-uri", "stage", "inspect", "decompress", "convert", "place")
    starts = [overall(TaskProgress(phase)) for phase in phases]
    assert starts == sorted(starts)
    assert starts[0] == 0.0


def test_an_unknown_total_shows_the_beginning_of_the_phase() -> None:
    assert overall(TaskProgress("inspect", done_bytes=5)) == 0.6


def test_more_than_all_is_all() -> None:
    assert overall(TaskProgress("stage", done_bytes=500, total_bytes=100)) == 0.6


def test_entering_a_phase_begins_it_anew() -> None:
    shown = board("a")
    shown.enter("stage", 10)
    shown.advance(10)
    shown.enter("inspect", 20)
    assert (shown.now.phase, shown.now.done_bytes, shown.now.total_bytes) == ("inspect", 0, 20)
    assert shown.now.stores == (StoreProgress("a", "waiting"),)


def test_a_phase_that_is_tried_again_takes_no_bytes_back() -> None:
    shown = board("a")
    shown.enter("stage")
    shown.advance(70, 100)
    shown.enter("stage")
    assert (shown.now.done_bytes, shown.now.total_bytes) == (70, 100)
    shown.advance(10)
    shown.enter("stage", 200)
    assert (shown.now.done_bytes, shown.now.total_bytes) == (70, 200)


def resumed(before: ProgressBoard) -> ProgressBoard:
    """Return the board of the next attempt of a task whose worker died."""
    stores = tuple(store.store for store in before.now.stores)
    return ProgressBoard(NO_CATALOG, "task", 2, "image", stores, before.now)


def test_a_resumed_import_shows_how_far_it_was_until_it_is_as_far_again() -> None:
    first = board("a")
    first.enter("stage", 1000)
    first.advance(700)
    second = resumed(first)
    lines = []
    for step in (
        lambda: None,
        lambda: second.enter("validate-uri"),
        lambda: second.enter("stage", 1000),
        lambda: second.advance(100),
    ):
        step()
        now = second.now
        assert (now.phase, now.done_bytes, now.total_bytes, now.percent) == ("stage", 700, 1000, 42.0)
        assert (now.rate, now.left_s) == (0, None)
        lines.append(second.line)
    assert lines[:3] == ["resuming; begin", "resuming; validate-uri", "resuming; stage: 0 %"]
    assert lines[3].startswith("resuming; stage: 10 %, 100 bytes of 1000 bytes (")
    second.advance(800)
    assert (second.now.done_bytes, second.now.percent) == (800, 48.0)
    assert second.line.startswith("stage: 80 %, 800 bytes of 1000 bytes (")


def test_stores_of_a_resumed_import_keep_their_bytes_and_what_is_done() -> None:
    first = board("done", "half", "failed")
    first.enter("place", 10)
    first.store("done", "done", 10, 10)
    first.store("half", "uploading", 5, 10)
    first.store("failed", "failed", error="away")
    second = resumed(first)
    states = [(store.phase, store.done_bytes, store.error) for store in second.now.stores]
    assert states == [("done", 10, ""), ("waiting", 5, ""), ("waiting", 0, "")]
    second.store("half", "uploading", 0, 10)
    # What an earlier attempt wrote says nothing of this one's speed.
    assert (second.now.stores[1].done_bytes, second.now.stores[1].rate) == (5, 0)


IN_ORDER = ("validate-uri", "stage", "inspect", "decompress", "convert", "place")


@given(st.lists(st.lists(st.tuples(st.sampled_from(IN_ORDER), SIZES), max_size=8), min_size=1, max_size=5))
@settings(deadline=None)
def test_what_a_task_shows_never_goes_back_however_often_its_worker_dies(attempts: list[list[tuple[str, int]]]) -> None:
    shown, seen = board("a", "b"), []
    for attempt in attempts:
        shown = resumed(shown) if seen else shown
        seen.append(shown.now)
        for phase, done in sorted(attempt, key=lambda step: IN_ORDER.index(step[0])):
            shown.enter(phase, 1000)
            seen.append(shown.now)
            if phase == "place":
                shown.store("ab"[done % 2], "uploading", done, 1000)
            else:
                shown.advance(done)
            seen.append(shown.now)
    percents = [now.percent for now in seen]
    assert percents == sorted(percents)
    for one, after in pairwise(seen):
        assert all(a.done_bytes <= b.done_bytes for a, b in zip(one.stores, after.stores, strict=True))
        if one.phase == after.phase:
            assert one.done_bytes <= after.done_bytes
        # Plugins share one piece of the bar, so there alone a later phase begins it anew.
        if overall(after) < overall(one):
            assert (one.phase, after.phase) == ("decompress", "convert")


def test_a_total_that_is_learned_later_is_kept() -> None:
    shown = board()
    shown.enter("stage")
    shown.advance(5)
    shown.advance(10, 100)
    shown.advance(20)
    assert (shown.now.done_bytes, shown.now.total_bytes) == (20, 100)


def test_one_store_does_not_touch_another() -> None:
    shown = board("a", "b")
    shown.store("a", "failed", error="full")
    shown.store("b", "uploading", 5, 10)
    a, b = shown.now.stores
    assert (a.phase, a.done_bytes, a.error) == ("failed", 0, "full")
    assert (b.phase, b.done_bytes, b.total_bytes, b.error) == ("uploading", 5, 10, "")


def test_a_new_try_of_a_store_forgets_the_error_and_takes_no_bytes_back() -> None:
    shown = board("a")
    shown.store("a", "uploading", 9, 10)
    shown.store("a", "failed", error="away")
    shown.store("a", "uploading", 0, 10)
    (a,) = shown.now.stores
    assert (a.phase, a.done_bytes, a.total_bytes, a.error) == ("uploading", 9, 10, "")


PHASES = st.sampled_from(["waiting", "uploading", "done", "failed"])


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), PHASES, SIZES)))
@settings(deadline=None)
def test_whatever_becomes_of_stores_their_bytes_and_the_bar_never_go_back(steps: list[tuple[str, str, int]]) -> None:
    shown = board("a", "b")
    shown.enter("place", 1000)
    seen = [(0, 0, 0.0)]
    for store, phase, done in steps:
        shown.store(store, phase, done, 1000)
        now = shown.now
        seen.append((now.stores[0].done_bytes, now.stores[1].done_bytes, overall(now)))
    for column in zip(*seen, strict=True):
        assert list(column) == sorted(column)


@given(st.lists(st.tuples(st.sampled_from(["stage", "inspect", "place"]), SIZES)))
@settings(deadline=None)
def test_the_bar_that_is_published_never_goes_back_also_when_phases_begin_again(steps: list[tuple[str, int]]) -> None:
    shown = board("a")
    seen = []
    for phase, done in steps:
        shown.enter(phase, 1000)
        shown.advance(done)
        seen.append(shown.now.percent)
    assert seen == sorted(seen)


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**12))
def test_the_time_left_is_enough_at_this_rate_and_no_second_more(done: int, total: int, rate: int) -> None:
    left_s = seconds_left(done, total, rate)
    if rate == 0 or total == 0 or done > total:
        assert left_s is None
    else:
        assert left_s is not None
        assert (left_s - 1) * rate < total - done <= left_s * rate or (left_s == 0 and total == done)


def test_what_a_failed_import_leaves_in_no_store_is_said_of_each() -> None:
    shown = board("failed", "written", "shown", "waiting", "half")
    shown.store("failed", "failed", error="store failed is full")
    shown.store("written", "done", 10, 10)
    shown.store("shown", "done", 10, 10)
    shown.store("half", "uploading", 5, 10)
    shown.fail_rest({"shown"})
    assert [(store.store, store.phase, store.error) for store in shown.now.stores] == [
        ("failed", "failed", "store failed is full"),
        ("written", "taken back", ""),
        ("shown", "done", ""),
        ("waiting", "not written", ""),
        ("half", "not written", ""),
    ]


def test_a_store_that_is_being_written_says_its_rate_and_its_end() -> None:
    shown = board("a")
    shown.store("a", "uploading", 0, 10**9)
    shown.store("a", "uploading", 5 * 10**8, 10**9)
    (a,) = shown.now.stores
    assert a.rate > 0
    assert a.left_s is not None
    shown.store("a", "done", 10**9, 10**9)
    (a,) = shown.now.stores
    assert (a.rate > 0, a.left_s) == (True, None)


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (TaskProgress("begin"), "begin"),
        (TaskProgress("stage", 512, 1024, 256), "stage: 50 %, 512 bytes of 1.0 KiB (256 bytes/s)"),
        (TaskProgress("stage", 2048, 0, 1024), "stage: 2.0 KiB (1.0 KiB/s)"),
        (
            TaskProgress("place", stores=(StoreProgress("a", "done"), StoreProgress("b", "uploading"))),
            "place: 1 of 2 stores written",
        ),
        (
            TaskProgress("place", stores=(StoreProgress("b", "uploading", 512, 1024, rate=256, left_s=2),)),
            "place: 0 of 1 stores written; b 512 bytes of 1.0 KiB (256 bytes/s, 2 s left)",
        ),
        (
            TaskProgress("place", stores=(StoreProgress("a", "waiting", waits="waits for a slot"),)),
            "place: 0 of 1 stores written; a waits for a slot",
        ),
        (
            TaskProgress("place", stores=(StoreProgress("a", "uploading"),), hashed_bytes=512, to_hash_bytes=2048),
            "place: 0 of 1 stores written; digest 25 %",
        ),
        (TaskProgress("convert", 40, 100, 10, left_s=6), "convert: 40 %, 40 bytes of 100 bytes (10 bytes/s, 6 s left)"),
        (TaskProgress("digest", 40, 100, 10, left_s=6), "digest: 40 %, 40 bytes of 100 bytes (10 bytes/s, 6 s left)"),
        (TaskProgress("stage", 40, 100, 10, waits="waits for room"), "stage: waits for room"),
        (TaskProgress("stage", 512, 1024, 256, left_s=2), "stage: 50 %, 512 bytes of 1.0 KiB (256 bytes/s, 2 s left)"),
    ],
)
def test_a_line_for_people(progress: TaskProgress, line: str) -> None:
    assert describe(progress) == line


def test_the_digest_is_the_phase_while_it_alone_runs() -> None:
    shown = board("a", "b")
    shown.enter("place", 1000)
    shown.hashing(0, 1000)
    shown.store("a", "done", 1000, 1000)
    shown.hashing(100, 1000)
    assert shown.now.phase == "place"
    assert shown.line == "place: 50 %, 1 of 2 stores written; digest 10 %"
    shown.store("b", "failed", error="full")
    lines = []
    for done in (100, 300, 999):
        shown.hashing(done, 1000)
        assert (shown.now.phase, shown.now.done_bytes, shown.now.total_bytes) == ("digest", done, 1000)
        lines.append(shown.line.partition(",")[0])
    assert lines == ["digest: 10 %", "digest: 30 %", "digest: 99 %"]
    shown.hashing(1000, 1000)
    assert shown.line == "place: 50 %, 1 of 2 stores written"
    shown.store("b", "uploading", 10, 1000)
    assert shown.now.phase == "place"


def test_the_digest_is_the_phase_while_a_store_links_the_file() -> None:
    shown = board("a")
    shown.enter("place", 1000)
    shown.hashing(0, 1000)
    shown.store("a", "uploading", 0, 1000)
    shown.hashing(380, 1000)
    assert shown.line.startswith("digest: 38 %, ")
    shown.store("a", "uploading", 500, 1000)
    assert (shown.now.phase, shown.now.done_bytes, shown.now.total_bytes) == ("place", 500, 1000)
    assert shown.line.startswith("place: 50 %, 0 of 1 stores written; ")


def test_the_bar_moves_in_every_phase() -> None:
    shown = board("a")
    seen = []
    for phase in ("stage", "verify-source", "inspect", "decompress", "inspect", "convert", "inspect", "place"):
        shown.enter(phase, 1000)
        before = shown.now.percent
        for done in (100, 500, 1000):
            if phase == "place":
                shown.store("a", "uploading", done, 1000)
            else:
                shown.advance(done)
            seen.append(shown.now.percent)
            assert f"{phase}: {done // 10} %, " in shown.line
        assert seen[-1] > seen[-2] > before, phase
    assert seen == sorted(seen)
    assert seen[-1] == 100.0


def test_a_phase_of_known_size_begins_with_its_percentage() -> None:
    shown = board("a")
    shown.enter("convert", 1000)
    assert shown.line == "convert: 0 %"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Debian 12 (bookworm).qcow2", "stores-debian-12-bookworm-qcow2-3f2a1c9e"),
        ("", "stores-3f2a1c9e"),
        ("日本", "stores-3f2a1c9e"),
        ("x" * 50, f"stores-{'x' * 40}-3f2a1c9e"),
    ],
)
def test_an_artifact_is_found_by_the_name_of_its_image(name: str, key: str) -> None:
    assert artifact_key("stores", name, "3f2a1c9e-0000-4000-8000-000000000001") == key


STEPS = st.tuples(st.sampled_from(["a", "b", "digest"]), st.sampled_from(["uploading", "done", "failed"]), SIZES)


@given(st.lists(STEPS))
@settings(deadline=None)
def test_the_bar_never_goes_back_while_copies_and_digests_run(steps: list[tuple[str, str, int]]) -> None:
    shown, seen = board("a", "b"), []
    shown.enter("place", 1000)
    shown.hashing(0, 1000)
    for who, phase, done in steps:
        if who == "digest":
            shown.hashing(done, 1000)
        else:
            shown.store(who, phase, done, 1000)
        seen.append(overall(shown.now))
    assert seen == sorted(seen)
    for store in ("a", "b"):
        shown.store(store, "done", 1000, 1000)
    shown.hashing(1000, 1000)
    assert overall(shown.now) == pytest.approx(1.0)


def test_a_wait_is_shown_with_its_beginning_and_its_remedy_until_the_import_goes_on() -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    shown = board("a")
    shown.enter("stage", 100)
    for go_on in (
        lambda: shown.advance(5),
        lambda: shown.enter("inspect"),
        lambda: shown.enter("inspect", 7),
        lambda: shown.store("a", "uploading", 1, 100),
        shown.go_on,
    ):
        shown.wait_for("space in staging", since, "make room")
        assert shown.line == f"{shown.now.phase}: waits for space in staging since 2026-01-02 03:04:05 UTC; make room"
        go_on()
        assert (shown.now.waits, "waits" in shown.line) == ("", False)


def test_a_copy_that_waits_for_a_slot_does_not_hide_what_others_do() -> None:
    shown = board("a", "b")
    shown.enter("place", 100)
    shown.hashing(50, 100)
    shown.store("a", "waiting", waits="waits for a slot")
    assert shown.line == "place: 0 %, 0 of 2 stores written; a waits for a slot; digest 50 %"
    shown.store("a", "uploading", 1, 100)
    assert "waits" not in shown.line
