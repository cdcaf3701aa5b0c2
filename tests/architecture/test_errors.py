"""Every error of the house: it survives a process border, says something, and is described."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from transship.domain import errors
from transship.domain.errors import TransshipError

PACKAGES = ("transship", "config", "blocks", "tasks", "flows", "deployments")

SAMPLES: dict[object, object] = {
    str: "some text",
    int: 7,
    float: 2.5,
    float | None: 2.5,
    Path: Path("/var/log/transship"),
    Sequence[str]: ("one", "two"),
}


def _import_everything() -> None:
    for package in PACKAGES:
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            # Migrations run under Alembic alone, and a __main__ is a program.
            if ".migrations" not in found.name and not found.name.endswith("__main__"):
                importlib.import_module(found.name)


def _below(kind: type[TransshipError]) -> Iterator[type[TransshipError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _below(child)


def _classes() -> list[type[TransshipError]]:
    _import_everything()
    ours = {kind for kind in _below(TransshipError) if kind.__module__.partition(".")[0] in PACKAGES}
    return sorted(ours, key=lambda kind: (kind.__module__, kind.__qualname__))


def _example(kind: type[TransshipError]) -> TransshipError:
    """Make an error of a class from its constructor's types."""
    if kind.__init__ is Exception.__init__:
        return kind()
    types = typing.get_type_hints(kind.__init__)
    names = [name for name in inspect.signature(kind).parameters if name not in ("args", "kwargs")]
    return kind(*(SAMPLES[types[name]] for name in names))


@pytest.mark.parametrize("kind", _classes(), ids=lambda kind: kind.__name__)
def test_an_error_survives_a_process_border(kind: type[TransshipError]) -> None:
    error = _example(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", _classes(), ids=lambda kind: kind.__name__)
def test_an_error_is_described_and_defined_where_it_can_be_found(kind: type[TransshipError]) -> None:
    assert kind.__dict__.get("__doc__"), f"{kind.__name__} has no docstring of its own"
    assert "<locals>" not in kind.__qualname__


@pytest.mark.parametrize(
    "kind", [kind for kind in _classes() if not kind.__subclasses__()], ids=lambda kind: kind.__name__
)
def test_an_error_that_is_raised_has_words(kind: type[TransshipError]) -> None:
    assert kind.__str__ is not Exception.__str__
    assert len(str(_example(kind))) > 5


def test_every_error_of_the_domain_is_one_of_ours() -> None:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert found
    assert all(issubclass(each, TransshipError) for each in found)


def test_only_failures_of_transfers_say_whether_time_helps() -> None:
    outside = [kind for kind in _classes() if hasattr(kind, "retryable") != issubclass(kind, errors.TransferFailed)]
    assert outside == []
