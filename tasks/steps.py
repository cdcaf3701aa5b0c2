"""The Prefect tasks of an import: functions of values, whose outcome becomes Prefect's state here and nowhere else.

Prefect keeps none of their values: no cache, no results on disk. It records which task's value went into which, never
the value, and names of runs show what has a display form alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed

from config.settings import Settings
from tasks.retrying import may_pass_next_time
from tasks.session import current
from transship.domain.outcome import Done, Outcome, Skipped

P = ParamSpec("P")
R = TypeVar("R")

Retries = Callable[[Settings], dict[str, Any]]
"""Returns Prefect's options for attempts after the first."""

SKIPPED: Final = "Skipped"
"""Name of the state of a task that found its work done."""


class Step(Generic[P, R]):
    """A Prefect task that answers with an outcome; who calls it gets the value.

    Attributes:
        fn: the function alone, without Prefect.
    """

    def __init__(self, fn: Callable[P, Outcome[R]], shown: Task[P, State[R]], retries: Retries) -> None:
        self.fn = fn
        self._shown = shown
        self._retries = retries

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here and return its value.

        Raises:
            LookupError: called outside of an import; a programming error.
        """
        return self._task()(*args, **kwargs).result()

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> PrefectFuture[R]:
        """Run the task in a thread of the flow."""
        # The result of a future is what the state holds, not the state.
        return cast(PrefectFuture[R], self._task().submit(*args, **kwargs))

    def _task(self) -> Task[P, State[R]]:
        return self._shown.with_options(**self._retries(current().settings))


def never(_settings: Settings) -> dict[str, Any]:
    """Make no further attempt."""
    return {"retries": 0}


def step(name: str, run_name: str, retries: Retries = never) -> Callable[[Callable[P, Outcome[R]]], Step[P, R]]:
    """Make a function of values a Prefect task.

    Args:
        name: of the task.
        run_name: of its runs; may name parameters, as in ``place {store}``.
        retries: attempts after the first, for errors that say that time may heal them.
    """

    def made(fn: Callable[P, Outcome[R]]) -> Step[P, R]:
        @task(
            name=name,
            task_run_name=run_name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retry_condition_fn=may_pass_next_time,
        )
        @wraps(fn)
        def shown(*args: P.args, **kwargs: P.kwargs) -> State[R]:
            return _state_of(fn(*args, **kwargs))

        return Step(fn, shown, retries)

    return made


def _state_of(outcome: Outcome[R]) -> State[R]:
    match outcome:
        case Skipped(value, why):
            return Completed(name=SKIPPED, message=why, data=value)
        case Done(value):
            return Completed(data=value)
