"""Every error class can be pickled, has a text, and is documented."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pickle
import pkgutil
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.architecture.errors_page import COMMAND, PAGE, concrete, page
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

ENDS_BY_ITSELF = "it is retried or resumed automatically, or asks nobody to act"
FIXED = "Glance's own words, which clients know"
IN_THE_REASON = "the reason, made where the cause is known, says what would be right"

WITHOUT_REMEDY: Mapping[type[TransshipError], str] = {
    errors.AlreadyInStore: FIXED,
    errors.BodyTooLarge: "the limit that it names is the remedy",
    errors.FormatMissing: FIXED,
    errors.ImageExists: FIXED,
    errors.ImageGone: "the image is gone for good",
    errors.ImageNotFound: FIXED,
    errors.ImportCancelled: "somebody wanted it",
    errors.ImportInterrupted: ENDS_BY_ITSELF,
    errors.LockLost: ENDS_BY_ITSELF,
    errors.MemberExists: FIXED,
    errors.MemberNotFound: FIXED,
    errors.MethodNotOffered: FIXED,
    errors.NoReadableCopy: "the reasons of its stores say it",
    errors.NotInStore: FIXED,
    errors.NotificationUndelivered: ENDS_BY_ITSELF,
    errors.PrefectAway: ENDS_BY_ITSELF,
    errors.PrefectRefused: ENDS_BY_ITSELF,
    errors.PropertyConflict: FIXED,
    errors.QuotaExceeded: "the limit that it names is the remedy",
    errors.RangeUnsatisfiable: "the size that it names is the remedy",
    errors.RequestIdTooLong: FIXED,
    errors.ServiceRefused: IN_THE_REASON,
    errors.StoresFailed: "the reasons of its stores say it",
    errors.StoresUnavailable: "the reasons of its stores say it",
    errors.Superseded: ENDS_BY_ITSELF,
    errors.TagNotFound: FIXED,
    errors.TaskNotFound: FIXED,
    errors.WarmEngineUnavailable: ENDS_BY_ITSELF,
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
    """Make an error of a class from the types of its fields."""
    types = typing.get_type_hints(kind)
    return kind(*(SAMPLES[types[each.name]] for each in dataclasses.fields(kind)))


def _chain(error: TransshipError) -> None:
    raise error.with_traceback(None) from ValueError("cause")


@pytest.mark.parametrize("kind", _classes(), ids=lambda kind: kind.__name__)
def test_an_error_survives_a_process_border(kind: type[TransshipError]) -> None:
    error = _example(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert vars(error) == {each.name: getattr(error, each.name) for each in dataclasses.fields(error)}


@pytest.mark.parametrize("kind", _classes(), ids=lambda kind: kind.__name__)
def test_an_error_is_an_exception_like_others(kind: type[TransshipError]) -> None:
    error = _example(kind)
    same = copy.copy(error)
    assert vars(same) == vars(error)
    assert {error: "by identity"} != {same: "by identity"}
    error.add_note("noted")
    with pytest.raises(kind) as caught:
        _chain(error)
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.__notes__ == ["noted"]


@pytest.mark.parametrize("kind", _classes(), ids=lambda kind: kind.__name__)
def test_an_error_is_described_and_defined_where_it_can_be_found(kind: type[TransshipError]) -> None:
    made_by_dataclass = f"{kind.__name__}("
    assert not kind.__dict__.get("__doc__", made_by_dataclass).startswith(made_by_dataclass), f"{kind} has no docstring"
    assert "<locals>" not in kind.__qualname__


@pytest.mark.parametrize(
    "kind", [kind for kind in _classes() if not kind.__subclasses__()], ids=lambda kind: kind.__name__
)
def test_an_error_that_is_raised_has_words(kind: type[TransshipError]) -> None:
    error = _example(kind)
    assert len(error.brief) > 5
    assert str(error) == (f"{error.brief}; {error.remedy}" if error.remedy else error.brief)


@pytest.mark.parametrize("kind", concrete(), ids=lambda kind: kind.__name__)
def test_a_brief_names_its_subject(kind: type[TransshipError]) -> None:
    assert any(f"{{{each.name}" in kind.BRIEF or each.name == "reasons" for each in dataclasses.fields(kind))
    assert _example(kind).brief != kind.BRIEF


@pytest.mark.parametrize("kind", concrete(), ids=lambda kind: kind.__name__)
def test_an_error_has_a_remedy_where_somebody_can_act(kind: type[TransshipError]) -> None:
    assert bool(kind.REMEDY or kind.remedy is not TransshipError.remedy) != (kind in WITHOUT_REMEDY)


@pytest.mark.parametrize("status", [401, 403, 404, 418])
def test_the_remedy_of_a_refusal_depends_on_its_status(status: int) -> None:
    assert errors.RemoteRefused("RegionTwo", "id", status).remedy


def test_words_name_fields_that_exist() -> None:
    with pytest.raises(TypeError, match="name 'missing'"):
        type("Wrong", (TransshipError,), {"__doc__": "Wrong.", "BRIEF": "{missing}"})


def test_keywords_are_kept_as_well() -> None:
    error = pickle.loads(pickle.dumps(errors.StoreFull(needed_bytes=2048, store="fast")))
    assert (error.store, error.needed_bytes) == ("fast", 2048)


def test_the_page_of_errors_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"run {COMMAND}"


def test_every_error_of_the_domain_is_one_of_ours() -> None:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert found
    assert all(issubclass(each, TransshipError) for each in found)


def test_public_errors_stand_in_one_room() -> None:
    elsewhere = [kind for kind in _classes() if not kind.__module__.startswith(f"{errors.__name__}.")]
    assert [kind for kind in elsewhere if not kind.__name__.startswith("_")] == []


def test_only_failures_of_transfers_say_whether_time_helps() -> None:
    outside = [kind for kind in _classes() if hasattr(kind, "retryable") != issubclass(kind, errors.TransferFailed)]
    assert outside == []
