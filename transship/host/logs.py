"""Logs: one line of ``key=value`` per event on standard error, from structlog and the standard library alike."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from transship.domain.errors import TransshipError

FIRST_KEYS: Final = ("time", "level", "component", "event")
"""Keys that begin every line, in this order."""

FLOW_ROOMS: Final = ("transship", "tasks", "flows", "blocks")
"""Loggers whose events belong to a flow run; Prefect's PREFECT_LOGGING_EXTRA_LOGGERS names them too."""

TASK_RUNS: Final = "prefect.task_runs"
"""The logger with which Prefect's engine reports how a task run ended."""

SAYS_NOTHING: Final = ("Finished in state Completed()", "Finished in state Failed(")
"""Beginnings of lines of Prefect's engine that repeat what the page of a run shows anyway."""

_FRACTION: Final = re.compile(r"^([0-9]+\.[0-9])[0-9]* second")
"""Seconds until a retry, which Prefect logs with up to 16 digits."""

_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters with which a client's input could fake a second line; the renderer itself escapes newlines."""

_RENDER: Final = structlog.processors.LogfmtRenderer(key_order=FIRST_KEYS, drop_missing=True, bool_as_flag=False)

_LEVEL: Final = re.compile(r"(?:[\d:.]+ \| )?(DEBUG|INFO|WARNING|ERROR|CRITICAL)(?: *\| |: +)", re.IGNORECASE)
"""The beginning of a line of Prefect's console, of uvicorn's, or of a message like ``warning: …``."""


def configure_logs(level: str, component: str) -> None:
    """Send all logs of this process to standard error, one line per event.

    Every line includes the fields bound by `structlog.contextvars` (``request_id``, ``image_id``, ``task_id``).
    Calling this again replaces the former configuration.

    Args:
        level: lowest level that is logged: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
        component: the kind of process: ``api``, ``keeper``, ``worker`` …
    """
    shared: tuple[Processor, ...] = (
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _ComponentName(component),
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _one_line,
                _RENDER,
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # At each start Alembic logs that it checked the schema.
    logging.getLogger("alembic").setLevel(max(logging.WARNING, logging.getLogger().level))


def as_event(component: str, line: str) -> str:
    """Return a line that a process has written as an event, like those of `configure_logs`, which stay as they are.

    Libraries and interpreters write lines of their own: with a level in front, or without one.
    """
    if line.startswith("time="):
        return line
    found = _LEVEL.match(line)
    event = {
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": found[1].lower() if found else "info",
        "component": component,
        "event": line[found.end() :] if found else line,
    }
    return str(_RENDER(None, "", event))


def configure_flow_logs(level: str) -> None:
    """Send the events of this process to the standard library's loggers, whose handlers Prefect has set up.

    An import's events then appear in the logs of its run in the Prefect UI. Prefect shows run and task
    itself, so a line holds only the event and its own fields.

    Args:
        level: lowest level that is logged. Prefect sets handlers for our loggers but leaves their level to the
            root logger, which drops everything below warnings.
    """
    for room in FLOW_ROOMS:
        logging.getLogger(room).setLevel(level)
    logging.getLogger(TASK_RUNS).addFilter(_show_reason_only)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            _event_and_fields,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def write_events(component: str) -> None:
    """Let the handlers that a library has given this process write events, each with its trace on its line."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_EventLines(component, handler.formatter or logging.Formatter()))


class _EventLines(logging.Formatter):
    """Turns the texts of another formatter into events."""

    def __init__(self, component: str, formatter: logging.Formatter) -> None:
        super().__init__()
        self._component, self._formatter = component, formatter

    def format(self, record: logging.LogRecord) -> str:
        return as_event(self._component, self._formatter.format(record))


class _ErrorText:
    """Replaces an error in the arguments of a log record; its representation is the error's text."""

    def __init__(self, error: TransshipError) -> None:
        self._error = error

    def __repr__(self) -> str:
        return str(self._error)


def _show_reason_only(record: logging.LogRecord) -> bool:
    """Show one of our errors by its text only: a traceback would not help and would hide the reason.

    The end of a task is not shown unless it says more than that: a failed task has logged its reason before.
    """
    if record.getMessage().startswith(SAYS_NOTHING):
        return False
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, TransshipError):
        record.msg, record.args, record.exc_info = f"Task run failed: {error}", None, None
    elif isinstance(record.args, tuple):
        record.args = tuple(_readable(each) for each in record.args)
    return True


def _readable(value: object) -> object:
    if isinstance(value, TransshipError):
        return _ErrorText(value)
    return _FRACTION.sub(r"\1 second", value) if isinstance(value, str) else value


def _event_and_fields(logger: WrappedLogger, method: str, event: EventDict) -> str:
    text, trace = str(event.pop("event", "")), event.pop("exception", None)
    fields = " ".join(f"{key}={_escaped(value)}" for key, value in event.items())
    return f"{text} {fields}".rstrip() + (f"\n{trace}" if trace else "")


class _ComponentName:
    def __init__(self, component: str) -> None:
        self._component = component

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["component"] = self._component
        return event


def _one_line(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    # The renderer raises on a key with a blank, but logging must never fail the logged operation.
    return {"".join(char if char > " " else "_" for char in key): _escaped(value) for key, value in event.items()}


def _escaped(value: object) -> object:
    if not isinstance(value, str):
        return value
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], value)
