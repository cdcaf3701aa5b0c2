"""Reaching the service of an S3 store, and creating its bucket."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.contract.cases.s3 import opened, settings_in
from tests.fakes.certificates import Authority
from tests.fakes.ports import free_port
from tests.fakes.s3_server import S3Server
from transship.domain.errors import StoreUnavailable
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken

IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"


@pytest.mark.spec("ST-021")
def test_a_bucket_is_only_created_once_and_where_the_settings_allow_it() -> None:
    with S3Server() as server:
        missing = pytest.raises(StoreUnavailable, match="bucket does not exist")
        with opened(settings_in(server.endpoint, "fresh"), prepared=False) as store, missing:
            store.prepare((), before=False)
        with opened(settings_in(server.endpoint, "fresh", create_bucket=True), prepared=False) as store:
            for known, before in (([store.url_of(IMAGE)], False), ([], True)):
                with pytest.raises(StoreUnavailable, match="bucket does not exist"):
                    store.prepare(known, before=before)
            assert "fresh" not in server.buckets
            for before in (False, True):
                store.prepare((), before=before)
                store.check()


@pytest.mark.parametrize(("region", "sent"), [("", ""), ("us-east-1", ""), ("eu-central-1", "eu-central-1")])
def test_a_bucket_is_created_in_the_region_of_the_settings(region: str, sent: str) -> None:
    with S3Server() as server:
        with opened(settings_in(server.endpoint, "fresh", create_bucket=True, region=region), prepared=False) as store:
            store.prepare((), before=False)
        assert server.regions == {"fresh": sent}


def test_a_private_authority_is_trusted_if_the_settings_name_it(tmp_path: Path) -> None:
    authority = Authority()
    pem = tmp_path / "ca.pem"
    pem.write_text(authority.pem)
    with S3Server(authority.server_context("127.0.0.1")) as server:
        bucket = server.new_bucket()
        with opened(settings_in(server.endpoint, bucket, ca_file=pem)) as store:
            url = store.put(IMAGE, StagedFile(pem, len(authority.pem), 1), lambda _done: None, StopToken()).url
            assert url.startswith("s3+https://127.0.0.1:")
            assert b"".join(store.read(url)).decode() == authority.pem
        untrusting = settings_in(server.endpoint, bucket)
        untrusted = pytest.raises(StoreUnavailable, match="certificate is not trusted; check ca_file")
        with opened(untrusting, prepared=False) as store, untrusted:
            store.check()


@pytest.mark.spec("ST-018")
def test_a_service_that_is_not_there_is_unavailable() -> None:
    with opened(settings_in(f"http://127.0.0.1:{free_port()}", "images"), prepared=False) as store:
        for use in (store.check, partial(store.size, store.url_of(IMAGE)), lambda: list(store.contents())):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                use()
