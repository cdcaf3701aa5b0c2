"""What `transship doctor` says about unified limits, asked with oslo.limit at a Keystone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from config.settings import Settings
from tests.fakes.keystone import Keystone
from transship.commands.doctor import Finding, Level, check_quotas
from transship.domain.quota import Resource

pytestmark = [
    # openstacksdk, which reads the limits, warns about its own future.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        running.limits = {each.value: 1 for each in Resource}
        yield running


@pytest.fixture
def found(keystone: Keystone) -> Callable[..., list[Finding]]:
    def check(**quota: object) -> list[Finding]:
        sections = {"api": {"auth": "keystone"}, "auth": keystone.section, "quota": quota}
        return list(check_quotas(Settings.model_validate({"home": "/nonexistent", **sections})))

    return check


def test_nothing_is_said_where_keystone_has_no_limits(found: Callable[..., list[Finding]]) -> None:
    assert found() == []


@pytest.mark.parametrize("endpoint", ["", "endpoint-1"])
def test_limits_that_can_be_read_are_fine(endpoint: str, found: Callable[..., list[Finding]]) -> None:
    assert found(unified_limits=True, endpoint_id=endpoint) == [
        Finding(Level.OK, "unified limits", "registered in Keystone")
    ]


def test_limits_that_nobody_registered_are_named(keystone: Keystone, found: Callable[..., list[Finding]]) -> None:
    del keystone.limits["image_stage_total"]
    (finding,) = found(unified_limits=True)
    assert (finding.level, finding.text) == (
        Level.FAIL,
        "not registered in Keystone, so 0: image_stage_total; register them",
    )


def test_a_keystone_that_does_not_answer_is_named_with_what_the_account_needs(
    keystone: Keystone, found: Callable[..., list[Finding]]
) -> None:
    keystone.broken = 503
    (finding,) = found(unified_limits=True)
    assert finding.level is Level.FAIL
    assert f"{keystone.url} cannot be asked for limits (" in finding.text
    assert finding.text.endswith("give its account a role on the system")
