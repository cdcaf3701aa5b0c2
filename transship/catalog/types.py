"""Column types and a clock that behave the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Dialect, Float, String, Text, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcTime(TypeDecorator[datetime]):
    """A time, stored as seconds since 1970-01-01 UTC and read as an aware ``datetime``.

    Numbers compare and add the same way on both databases, so leases can be compared with the
    database's clock in one statement.
    """

    impl = Float(53)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> float | None:
        """Return the seconds of an aware time."""
        return None if value is None else value.timestamp()

    def process_result_value(self, value: float | None, dialect: Dialect) -> datetime | None:
        """Return the aware time for a number of seconds."""
        return None if value is None else datetime.fromtimestamp(value, UTC)


class PlainText(TypeDecorator[str]):
    """Text for display that may quote untrusted input; characters that cannot be stored are replaced.

    PostgreSQL refuses NUL, and neither database accepts half of a surrogate pair; reporting a
    failure must not fail because of that.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text without characters that cannot be stored."""
        return None if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class DbNow(FunctionElement[float]):
    """The database's own clock, in seconds since 1970-01-01 UTC; the same for all hosts that share it."""

    type = Float(53)
    inherit_cache = True
    name = "db_now"


@compiles(DbNow, "sqlite")
def _sqlite_now(element: DbNow, compiler: SQLCompiler, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(DbNow, "postgresql")
def _postgresql_now(element: DbNow, compiler: SQLCompiler, **options: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


class InByteOrder(FunctionElement[str]):
    """A text that compares byte by byte, regardless of the database's collation."""

    type = String()
    inherit_cache = True
    name = "in_byte_order"


@compiles(InByteOrder, "sqlite")
def _sqlite_in_byte_order(element: InByteOrder, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(InByteOrder, "postgresql")
def _postgresql_in_byte_order(element: InByteOrder, compiler: SQLCompiler, **options: Any) -> str:
    return f'({compiler.process(element.clauses, **options)} COLLATE "C")'


class JsonRows(FunctionElement[Any]):
    """All rows of a query as one value: a list of lists, or nothing, in no order."""

    type = JSON()
    inherit_cache = True
    name = "json_rows"


@compiles(JsonRows, "sqlite")
def _sqlite_json_rows(element: JsonRows, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_group_array(json_array({compiler.process(element.clauses, **options)}))"


@compiles(JsonRows, "postgresql")
def _postgresql_json_rows(element: JsonRows, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_agg(json_build_array({compiler.process(element.clauses, **options)}))"


def seconds_since(moment: ColumnElement[datetime]) -> ColumnElement[float]:
    """Return the expression for the seconds since a time, by the database's clock."""
    return DbNow() - type_coerce(moment, Float(53))


def in_seconds(wait_s: float) -> ColumnElement[datetime]:
    """Return the expression for a time some seconds from now (or ago), by the database's clock."""
    return type_coerce(DbNow() + wait_s, UtcTime)
