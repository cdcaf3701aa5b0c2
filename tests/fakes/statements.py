"""Counting the SQL statements of a catalogue."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine, event


class Statements:
    """The statements that an engine executes within a block, what begins a transaction left out.

    Attributes:
        made: their texts, in order.
        transactions: how many transactions SQLite began; on PostgreSQL the driver begins them unseen.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.made: list[str] = []
        self.transactions = 0

    def __enter__(self) -> Self:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("BEGIN"):
            self.transactions += 1
        else:
            self.made.append(" ".join(statement.split()))
