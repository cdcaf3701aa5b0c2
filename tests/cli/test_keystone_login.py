"""The token that commands send, from an openrc file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.keystone import SERVICE_PASSWORD, SERVICE_USER, Keystone
from transship.commands.keystone_login import token_source
from transship.domain.errors import CommandRefused


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


def test_an_openrc_file_gives_a_token_that_is_fetched_once(keystone: Keystone) -> None:
    token = token_source(
        {
            "OS_AUTH_URL": keystone.url,
            "OS_USERNAME": SERVICE_USER,
            "OS_PASSWORD": SERVICE_PASSWORD,
            "OS_PROJECT_NAME": "service",
            "OS_USER_DOMAIN_ID": "default",
        }
    )
    assert token() == token()
    assert keystone.logins == 1


def test_an_openrc_file_may_name_user_and_project_by_their_ids(keystone: Keystone) -> None:
    ids = {"OS_USER_ID": SERVICE_USER, "OS_PASSWORD": SERVICE_PASSWORD, "OS_PROJECT_ID": "p-1"}
    assert token_source({"OS_AUTH_URL": keystone.url, **ids})()
    assert keystone.last_login["scope"] == {"project": {"id": "p-1"}}


def test_a_token_of_the_environment_is_taken_as_it_is() -> None:
    assert token_source({"OS_TOKEN": "given"})() == "given"


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "source an openrc file"),
        ({"OS_AUTH_URL": "http://k", "OS_USERNAME": "me", "OS_PROJECT_NAME": "p"}, "OS_PASSWORD"),
        ({"OS_AUTH_URL": "nowhere"}, "OS_AUTH_URL cannot be used"),
    ],
)
def test_what_is_missing_is_said(environ: dict[str, str], told: str) -> None:
    with pytest.raises(CommandRefused, match=told):
        token_source(environ)
