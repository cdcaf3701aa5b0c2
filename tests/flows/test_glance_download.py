"""glance-download flows: started by hand, tokens, properties beside other writers, ranges."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State

from flows.glance_download import glance_download
from flows.web_download import web_download
from tests.fakes.asked_imports import AskedImports
from tests.fakes.images import read_image
from tests.fakes.images_api import ApiServer
from tests.fakes.keystone import SERVICE_PASSWORD, SERVICE_USER, Keystone
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.range_server import RangedFile
from tests.fakes.remote_glance import RemoteGlance
from tests.fakes.remote_imports import BEFORE, RemoteImports
from tests.fakes.web_imports import newest_task
from tests.fakes.web_server import Talk, WebServer, answer, redirect, whole
from tests.flows.conftest import Site
from transship.catalog.images import get_image, update_image
from transship.catalog.schema import SECRETS
from transship.domain.image import ImageStatus

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("prefect_client")]

BODY = os.urandom(3_000_000)
LOGIN = {"username": SERVICE_USER, "password": SERVICE_PASSWORD, "project_name": "service"}


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


@pytest.fixture(scope="module")
def api_server() -> Iterator[ApiServer]:
    with ApiServer() as started:
        yield started


@pytest.fixture
def remotes(
    site: Site, api_server: ApiServer, prefect_client: None, keystone: Keystone, server: WebServer
) -> RemoteImports:
    return RemoteImports(AskedImports(site, api_server), keystone, server)


def by_hand(region: str, remote_id: str, **parameters: Any) -> tuple[State[Any], str]:
    parameters = {"image_id": uuid4(), **parameters}
    state: State[Any] = glance_download(region, remote_id, return_state=True, **parameters)
    return state, str(parameters["image_id"])


def configure(site: Site, **remote: object) -> None:
    site.set(imports__enabled_methods="glance-download", remotes=json.dumps({"elsewhere": remote}))
    # The operator named the address, so the rules for users' addresses need not.
    site.set(uri__allowed_hosts="", uri__allowed_ports="80,443")


def test_a_run_by_hand_logs_in_to_the_region_that_the_settings_name(
    site: Site, server: WebServer, keystone: Keystone
) -> None:
    glance = RemoteGlance(server)
    remote_id = glance.image(BODY, hw_disk_bus="virtio")
    configure(site, url=glance.url, auth_url=keystone.url, **LOGIN)
    state, image_id = by_hand("Elsewhere", remote_id, name="golden", project_id="p1")
    assert state.is_completed(), state.message
    image = read_image(site.catalog, image_id)
    assert (image.status, image.name, image.owner) == (ImageStatus.ACTIVE, "golden", "p1")
    assert dict(image.properties) == {"hw_disk_bus": "virtio"}
    assert site.stored() == {image_id: BODY}
    assert glance.asked_for_data(remote_id)[0].headers["x-auth-token"].startswith("gAAAAAB")


def test_a_run_by_hand_from_a_region_that_nobody_named_says_what_to_set(site: Site) -> None:
    configure(site, url="http://127.0.0.1:1")
    state, image_id = by_hand("RegionNine", str(uuid4()))
    assert "set remotes.RegionNine.url" in str(state.message)
    assert read_image(site.catalog, image_id).status is ImageStatus.QUEUED


def test_a_method_that_is_not_enabled_is_not_run_by_hand_either(site: Site) -> None:
    site.set(imports__enabled_methods="web-download")
    state, _ = by_hand("RegionTwo", str(uuid4()))
    assert (state.type, "This site offers: web-download" in str(state.message)) == ("FAILED", True)
    site.set(imports__enabled_methods="glance-download")
    refused: State[Any] = web_download("http://127.0.0.1/x", return_state=True)
    assert (refused.type, "This site offers: glance-download" in str(refused.message)) == ("FAILED", True)


def test_a_wrong_login_of_the_settings_frees_the_image_and_shows_no_secret(
    site: Site, server: WebServer, keystone: Keystone
) -> None:
    configure(site, url=server.url(""), auth_url=keystone.url, **{**LOGIN, "password": "wrong-secret"})
    state, image_id = by_hand("elsewhere", str(uuid4()))
    assert "refuses the service's login" in str(state.message)
    assert "wrong-secret" not in str(newest_task(site.catalog, image_id))


@pytest.mark.parametrize("trusted", [True, False])
def test_a_configured_region_gets_the_callers_token_only_if_the_settings_say_so(
    remotes: RemoteImports, trusted: bool
) -> None:
    site = remotes.imports.site
    site.set(remotes=json.dumps({"Private": {"url": remotes.glance.url, "send_caller_token": trusted}}))
    remote_id = remotes.glance.image(BODY)
    _, image_id = remotes.bring(remote_id, "private")
    if trusted:
        assert site.stored() == {image_id: BODY}
    else:
        remotes.assert_freed(image_id, "HTTP 401")
        asked = remotes.glance.server.requests(f"/v2/images/{remote_id}")
        assert "x-auth-token" not in asked[0].headers


def test_a_token_is_never_sent_to_another_origin(remotes: RemoteImports) -> None:
    with WebServer() as elsewhere:
        remote_id = remotes.glance.image(BODY, redirect(elsewhere.serve("/data", BODY)))
        state, image_id = remotes.bring(remote_id)
        assert state.is_completed(), state.message
        (asked,) = elsewhere.requests("/data")
    assert "x-auth-token" not in asked.headers
    assert remotes.imports.token not in str(asked)
    assert "x-auth-token" in remotes.glance.asked_for_data(remote_id)[0].headers
    assert remotes.imports.site.stored() == {image_id: BODY}


def test_a_token_is_kept_encrypted_and_only_until_the_import_has_ended(
    remotes: RemoteImports, prefect_server: PrefectServer
) -> None:
    kept: list[bytes] = []

    def look(talk: Talk) -> None:
        with remotes.imports.site.catalog.read() as connection:
            kept.extend(bytes(row.ciphertext) for row in connection.execute(SECRETS.select()))
        answer(200, {}, BODY)(talk)

    remote_id = remotes.glance.image(BODY, look)
    _, image_id = remotes.bring(remote_id)
    token = remotes.imports.token
    assert kept
    assert not any(token.encode() in secret for secret in kept)
    with remotes.imports.site.catalog.read() as connection:
        assert connection.execute(SECRETS.select()).all() == []
    task = remotes.imports.task(image_id)
    assert token not in str(task)
    run = prefect_server.ask("GET", f"/flow_runs/{task.flow_run_id}")
    assert run["parameters"]["glance_image_id"] == remote_id
    assert token not in json.dumps(run)


def test_what_a_user_changes_during_the_import_stays(remotes: RemoteImports) -> None:
    catalog = remotes.imports.site.catalog

    def change(talk: Talk) -> None:
        with catalog.write() as connection:
            before = get_image(connection, image_id)
            after = {**before.properties, "hw_x": "mine", "colour": "red"}
            update_image(connection, before, _with(before, after), datetime.now(UTC))
        answer(200, {}, BODY)(talk)

    remote_id = remotes.glance.image(BODY, change, hw_x="theirs", hw_y="theirs")
    image_id = remotes.imports.create(**BEFORE)
    assert remotes.ask(image_id, remote_id).status_code == 202
    assert remotes.imports.carry(image_id).is_completed()
    shown = remotes.imports.shown(image_id)
    assert (shown["hw_x"], shown["hw_y"], shown["colour"]) == ("mine", "theirs", "red")


def _with(image: Any, properties: dict[str, str]) -> Any:
    return replace(image, properties=properties)


def test_what_the_operator_injects_wins_over_what_comes_along(remotes: RemoteImports) -> None:
    remotes.imports.site.set(
        imports__plugins="inject_image_metadata", inject__properties='{"hw_disk_bus": "scsi", "hw_x": "ours"}'
    )
    _, image_id = remotes.bring(remotes.glance.image(BODY, hw_disk_bus="virtio", hw_x="theirs", hw_y="theirs"))
    properties = remotes.imports.image(image_id).properties
    assert properties == {**BEFORE, "hw_disk_bus": "scsi", "hw_x": "ours", "hw_y": "theirs"}


def test_a_glance_without_validators_is_read_in_ranges_over_several_connections(remotes: RemoteImports) -> None:
    remotes.imports.site.set(download__range_bytes=str(1 << 20), download__connections="3")
    file = RangedFile(BODY, etag="", accepts="")
    file.company = 2
    remote_id = remotes.glance.image(BODY, file)
    state, image_id = remotes.bring(remote_id)
    assert state.is_completed(), state.message
    ranges = {request.headers.get("range", "whole") for request in remotes.glance.asked_for_data(remote_id)}
    assert len(ranges) > 1
    assert remotes.imports.site.stored() == {image_id: BODY}


def test_a_glance_that_cannot_serve_ranges_is_read_in_one_stream(remotes: RemoteImports) -> None:
    remotes.imports.site.set(download__range_bytes=str(1 << 20), download__connections="3")
    _, image_id = remotes.bring(remotes.glance.image(BODY, whole(BODY, etag="", ranges=False)))
    assert remotes.imports.site.stored() == {image_id: BODY}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"disk_format": "floppy"}, "does not accept its formats"),
        ({f"hw_{n}": "x" for n in range(200)}, "are allowed"),
    ],
)
def test_a_remote_image_that_the_site_does_not_take_frees_the_image(
    remotes: RemoteImports, record: dict[str, str], reason: str
) -> None:
    _, image_id = remotes.bring(remotes.glance.image(BODY, **record))
    remotes.assert_freed(image_id, reason)


def test_a_remote_without_a_digest_is_imported_with_a_remark(remotes: RemoteImports) -> None:
    remote_id = remotes.glance.image(BODY, os_hash_algo=None, os_hash_value=None, checksum=None)
    state, image_id = remotes.bring(remote_id)
    assert "tells no digest" in str(state.message)
    assert remotes.imports.image(image_id).status is ImageStatus.ACTIVE
