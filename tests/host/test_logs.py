"""Log lines."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from transship.domain.errors import StoreFull
from transship.host.logs import FLOW_ROOMS, TASK_RUNS, as_event, configure_flow_logs, configure_logs, write_events


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for room in FLOW_ROOMS:
        logging.getLogger(room).setLevel(logging.NOTSET)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_is_one_line_of_fields_in_a_fixed_order(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "api")
    with structlog.contextvars.bound_contextvars(request_id="req-1"):
        structlog.get_logger().info("image created", image_id="i-1", protected=True, size=None)
    line = capsys.readouterr().err
    time, rest = line.split(" ", 1)
    assert time.startswith("time=20")
    assert time.endswith("Z")
    assert rest == 'level=info component=api event="image created" image_id=i-1 protected=true size= request_id=req-1\n'


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("runner is ready", 'level=info component=worker event="runner is ready"'),
        ("warning: no room", 'level=warning component=worker event="no room"'),
        (
            "22:27:14.916 | INFO    | Flow run 'x' - Beginning",
            "level=info component=worker event=\"Flow run 'x' - Beginning\"",
        ),
        (
            '21:59:56.402 | ERROR   | uvicorn.access - "GET / HTTP/1.1" 500',
            r'level=error component=worker event="uvicorn.access - \"GET / HTTP/1.1\" 500"',
        ),
        ("INFO:     Started server process [1]", 'level=info component=worker event="Started server process [1]"'),
        ("information: none", 'level=info component=worker event="information: none"'),
    ],
)
def test_lines_of_libraries_become_events_with_their_level(line: str, event: str) -> None:
    time, rest = as_event("worker", line).split(" ", 1)
    assert time.startswith("time=20")
    assert rest == event


def test_a_librarys_handler_writes_events_with_the_trace_on_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)-7s | %(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    write_events("worker")
    try:
        int("broken")
    except ValueError:
        logging.getLogger("library").exception("failed")
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert ' level=error component=worker event="failed\\nTraceback' in written
    assert "ValueError: invalid literal" in written


def test_a_line_that_is_an_event_stays_as_it_is() -> None:
    line = "time=2026-11-30T22:27:24.661219Z level=info component=api event=request"
    assert as_event("worker", line) == line


def test_what_a_flow_tells_reaches_the_handlers_of_prefect_from_the_chosen_level_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    configure_flow_logs("INFO")
    log = structlog.get_logger("transship.flow")
    log.debug("too little")
    log.info("copy removed", store="a")
    assert [record.getMessage() for record in caplog.records] == ["copy removed store=a"]


def test_an_error_of_ours_stands_in_a_runs_log_by_its_text_and_any_other_with_its_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure_flow_logs("INFO")
    configure_flow_logs("INFO")
    full, records = StoreFull("archive", 5), Records()
    # Once Prefect has set its logger up, its handlers want a run to be under way.
    engine = logging.getLogger(TASK_RUNS)
    monkeypatch.setattr(engine, "handlers", [records])
    delay = "1.2760249330546651 second(s) from now"
    engine.warning("Task run failed with %s: %r - Retry %s/%s will start %s", "exception", full, 1, 2, delay)
    for error in (full, ValueError("a defect")):
        try:
            raise error
        except (StoreFull, ValueError):
            engine.exception("Task run failed with exception: %r - Retries are exhausted", error)
    for end in ("Completed()", "Failed('Task run encountered an exception')", "Skipped('computed when it came in')"):
        engine.warning(f"Finished in state {end}")
    retried, failed, defect, skipped = records.all
    assert skipped.getMessage() == "Finished in state Skipped('computed when it came in')"
    retry = "Retry 1/2 will start 1.2 second(s) from now"
    assert retried.getMessage() == f"Task run failed with exception: {full} - {retry}"
    assert (failed.getMessage(), failed.exc_info) == (f"Task run failed: {full}", None)
    assert "ValueError('a defect')" in defect.getMessage()
    assert defect.exc_info is not None


class Records(logging.Handler):
    """Records its input."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)


def test_the_standard_librarys_events_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "keeper")
    logging.getLogger("some.package").warning("%d of %d", 1, 2)
    assert ' level=warning component=keeper event="1 of 2"\n' in capsys.readouterr().err


def test_what_a_client_sent_cannot_draw_a_second_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "api")
    structlog.get_logger().info("request", **{"path": "/a\nb\r\x1b[2Jc\u2028d", "odd key": "x"})
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert not {"\r", "\x1b", "\u2028"} & set(written)
    assert "odd_key=x" in written


def test_a_trace_stays_on_its_events_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "api")
    try:
        int("broken")
    except ValueError:
        structlog.get_logger().exception("request failed")
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "ValueError: invalid literal" in written


def test_events_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("WARNING", "api")
    structlog.get_logger().info("nothing to see")
    logging.getLogger("library").info("nothing either")
    assert capsys.readouterr().err == ""
