"""Turns functions on values into the Prefect tasks of an import, and their outcomes into Prefect's states.

Prefect stores none of the values: no cache, no results on disk. It records which task's value went to which task, but
not the value, and names of runs show only values with a display form.
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
from transship.domain.import_data import Done, Outcome, Skipped

P = ParamSpec("P")
R = TypeVar("R")

Retries = Callable[[Settings], dict[str, Any]]
"""Returns Prefect's retry options."""

SKIPPED: Final = "Skipped"
"""Name of the state of a task whose work was done already."""


class Step(Generic[P, R]):
    """A Prefect task whose function returns an outcome; its caller gets the value.

    Attributes:
        fn: the function, without Prefect.
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
        # The result of a future is the value in the state, not the state.
        return cast(PrefectFuture[R], self._task().submit(*args, **kwargs))

    def _task(self) -> Task[P, State[R]]:
        return self._shown.with_options(**self._retries(current().settings))


def never(_settings: Settings) -> dict[str, Any]:
    """Make no retries."""
    return {"retries": 0}


def step(name: str, run_name: str, retries: Retries = never) -> Callable[[Callable[P, Outcome[R]]], Step[P, R]]:
    """Make a function on values a Prefect task.

    Args:
        name: of the task.
        run_name: of its runs; may contain parameters, as in ``place {store}``.
        retries: retries after transient errors.
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
