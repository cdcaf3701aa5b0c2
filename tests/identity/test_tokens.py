"""The owner of a token, and how long Keystone's answer is cached."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.settings import AuthSettings
from tests.fakes.keystone import SERVICE_PASSWORD, SERVICE_USER, Keystone
from transship.domain.errors import IdentityRefused, IdentityUnavailable, Unauthenticated
from transship.identity.login import Login, v3_url
from transship.identity.tokens import TokenReader


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reader(keystone: Keystone, clock: Clock | None = None, **options: Any) -> TokenReader:
    settings = AuthSettings.model_validate({**keystone.section, **options})
    return TokenReader(settings, clock) if clock else TokenReader(settings)


def test_a_token_tells_user_project_roles_and_where_services_are(keystone: Keystone) -> None:
    keystone.endpoint("image", "RegionTwo", "http://images.test:9292/")
    token = keystone.token("demo", "alice", roles=["Member", "reader"])
    identity = reader(keystone).read(token)
    assert (identity.project_id, identity.user_id, identity.roles) == ("demo", "alice", ("member", "reader"))
    assert identity.catalogue.find("image", "regiontwo", "public") == "http://images.test:9292"
    assert identity.token == token
    assert token not in repr(identity)


def test_keystones_word_is_believed_for_as_long_as_configured_and_no_longer(keystone: Keystone, clock: Clock) -> None:
    tokens = reader(keystone, clock, token_cache_s=300)
    token = keystone.token()
    tokens.read(token)
    keystone.revoke(token)
    clock.pass_s(299)
    tokens.read(token)
    assert keystone.asked == [token]
    clock.pass_s(2)
    with pytest.raises(Unauthenticated):
        tokens.read(token)


def test_a_token_is_never_believed_beyond_its_own_end(keystone: Keystone, clock: Clock) -> None:
    tokens = reader(keystone, clock, token_cache_s=300)
    token = keystone.token(lives_s=60)
    tokens.read(token)
    clock.pass_s(61)
    assert tokens.remembered(token) is None


def test_only_so_many_tokens_are_remembered_those_used_last(keystone: Keystone) -> None:
    tokens = reader(keystone, token_cache_size=2)
    first, second, third = (keystone.token() for _ in range(3))
    for token in (first, second, first, third):
        tokens.read(token)
    assert [tokens.remembered(token) is not None for token in (first, second, third)] == [True, False, True]


@pytest.mark.parametrize(
    "token", ["", "nobody-issued-this", "with space", "line\nbreak", "caf\xe9", "x" * 20000], ids=repr
)
def test_what_keystone_did_not_issue_is_refused(token: str, keystone: Keystone) -> None:
    with pytest.raises(Unauthenticated) as refused:
        reader(keystone, www_authenticate_uri="http://told.test/").read(token)
    assert refused.value.uri == "http://told.test/"
    assert not token or token not in str(refused.value)


def test_an_expired_token_is_refused(keystone: Keystone) -> None:
    with pytest.raises(Unauthenticated, match="expired"):
        reader(keystone).read(keystone.token(lives_s=-1))


@pytest.mark.parametrize(("role", "passes"), [("service", True), ("Service", True), ("member", False)])
def test_an_expired_token_passes_only_beside_the_token_of_a_service(
    role: str, passes: bool, keystone: Keystone
) -> None:
    expired = keystone.token("demo", lives_s=-1)
    service = keystone.token("service", "nova", roles=[role])
    tokens = reader(keystone)
    if passes:
        assert tokens.read(expired, service).project_id == "demo"
        assert tokens.remembered(expired) is None
    else:
        with pytest.raises(Unauthenticated):
            tokens.read(expired, service)


def test_a_service_token_that_is_none_spoils_the_request(keystone: Keystone) -> None:
    with pytest.raises(Unauthenticated, match="X-Service-Token"):
        reader(keystone).read(keystone.token(), "made-up")


def test_roles_in_the_whole_system_say_nothing_of_images(keystone: Keystone) -> None:
    identity = reader(keystone).read(keystone.token(None, "root", roles=["admin"]))
    assert (identity.project_id, identity.roles) == ("", ())


def test_the_service_logs_in_once_and_again_when_its_token_is_gone(keystone: Keystone) -> None:
    tokens = reader(keystone, token_cache_s=0)
    tokens.read(keystone.token())
    tokens.read(keystone.token())
    assert keystone.logins == 1
    keystone.forget_service()
    tokens.read(keystone.token())
    assert keystone.logins == 2


def test_an_application_credential_logs_in_too(keystone: Keystone) -> None:
    settings = AuthSettings.model_validate(
        {
            "auth_url": keystone.url.removesuffix("/v3") + "/",
            "application_credential_id": SERVICE_USER,
            "application_credential_secret": SERVICE_PASSWORD,
        }
    )
    assert TokenReader(settings).read(keystone.token()).user_id == "alice"


def test_a_keystone_that_does_not_answer_is_told_from_a_bad_token(keystone: Keystone) -> None:
    tokens = reader(keystone)
    token = keystone.token()
    keystone.broken = 503
    with pytest.raises(IdentityUnavailable):
        tokens.read(token)
    keystone.broken = 0
    assert tokens.read(token).user_id == "alice"
    keystone.stop()
    with pytest.raises(IdentityUnavailable):
        reader(keystone).read(token)


def test_wrong_credentials_of_ours_are_no_fault_of_the_caller(keystone: Keystone) -> None:
    tokens = reader(keystone, password="wrong")
    with pytest.raises(IdentityUnavailable) as away:
        tokens.read(keystone.token())
    assert "wrong" not in str(away.value)
    with pytest.raises(IdentityRefused, match="HTTP 401"):
        Login(AuthSettings.model_validate({**keystone.section, "password": "wrong"})).token()


@pytest.mark.parametrize("url", ["http://k.test:5000", "http://k.test:5000/", "http://k.test:5000/v3/"])
def test_an_address_of_keystone_may_leave_the_version_out(url: str) -> None:
    assert v3_url(url) == "http://k.test:5000/v3"


def test_a_user_and_a_project_may_be_named_by_their_ids_which_need_no_domains(keystone: Keystone) -> None:
    by_id = {"auth_url": keystone.url, "user_id": SERVICE_USER, "password": SERVICE_PASSWORD, "project_id": "p-1"}
    Login(AuthSettings.model_validate(by_id)).token()
    user = keystone.last_login["identity"]["password"]["user"]
    assert user == {"id": SERVICE_USER, "password": SERVICE_PASSWORD}
    assert keystone.last_login["scope"] == {"project": {"id": "p-1"}}


def test_the_service_that_sends_a_request_is_known_with_its_roles(keystone: Keystone) -> None:
    tokens = reader(keystone)
    token, service = keystone.token("demo", "alice"), keystone.token("service", "nova", roles=["service"])
    for identity in (tokens.read(token, service), tokens.remembered(token, service)):
        assert identity is not None
        assert (identity.user_id, identity.service_user_id, identity.service_roles) == ("alice", "nova", ("service",))
    alone = tokens.remembered(token)
    assert alone is not None
    assert (alone.service_user_id, alone.service_roles) == ("", ())
    assert tokens.remembered(token, keystone.token("service", "cinder", roles=["service"])) is None
