"""Which hosts are alive: judged by the catalogue's clock, from what the hosts themselves wrote."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import select

from tests.fakes.images import LOCAL, NOW, asked, queued_image
from transship.catalog.engine import Catalog
from transship.catalog.hosts import SILENCE_S, hosts, is_gone, live_hosts, note_host, refuse_unless_served
from transship.catalog.images import get_image
from transship.catalog.imports import Caller, begin_by_hand, begin_import
from transship.catalog.leases import expire_lease, process_name
from transship.catalog.removal import hosts_with_scrap
from transship.catalog.schema import STAGED
from transship.catalog.uploads import Upload, abandon_upload, begin_upload, finish_stage
from transship.domain.errors import HostGone, StagedAlready, TransshipError
from transship.domain.image import ImageStatus
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod

HOUR_S = 3600.0


def begun_upload(catalog: Catalog, image_id: str, host: str) -> Upload:
    return begin_upload(
        catalog,
        image_id,
        ImageStatus.UPLOADING,
        lambda _image: None,
        owner=f"{process_name(host, 1)} upload",
        host=host,
        ttl_s=HOUR_S,
        now=NOW,
    )


def staged(catalog: Catalog, host: str) -> str:
    """Add an image whose data lie on a host; return its id."""
    image_id = queued_image(catalog).id
    finish_stage(catalog, begun_upload(catalog, image_id, host), 5, None, NOW)
    return image_id


def heard(catalog: Catalog, host: str, seconds_ago: float = 0.0) -> None:
    with catalog.write() as connection:
        note_host(connection, host, 4, heard_s_ago=seconds_ago)


def gone(catalog: Catalog, host: str) -> bool:
    with catalog.read() as connection:
        return is_gone(connection, host)


def served(catalog: Catalog, image_id: str) -> bool:
    try:
        with catalog.read() as connection:
            refuse_unless_served(connection, image_id)
    except HostGone:
        return False
    return True


def test_a_host_is_alive_until_it_was_silent_for_long(catalog: Catalog) -> None:
    image_id = staged(catalog, "one")
    for seconds_ago, alive in ((0.0, True), (SILENCE_S + 1, False), (HOUR_S, False), (0.0, True)):
        heard(catalog, "one", seconds_ago)
        assert (gone(catalog, "one"), served(catalog, image_id)) == (not alive, alive)
    assert gone(catalog, "never heard")


def test_a_host_with_a_live_lease_is_alive_however_long_it_was_silent(catalog: Catalog) -> None:
    heard(catalog, "one", HOUR_S)
    heard(catalog, "on", HOUR_S)
    task = asked(catalog, queued_image(catalog))
    begun = begin_import(catalog, task.id, str(uuid4()), f"{process_name('one', 7)} x", ttl_s=HOUR_S, now=NOW)
    assert [gone(catalog, host) for host in ("one", "on")] == [False, True]
    expire_lease(catalog, begun.lease)
    assert gone(catalog, "one")


def test_a_host_without_a_worker_is_expected_to_start_one_after_an_upload_and_then_gone(catalog: Catalog) -> None:
    image_id = staged(catalog, "new")
    assert served(catalog, image_id)
    with catalog.write() as connection:
        note_host(connection, "new", 0, heard_s_ago=HOUR_S)
    assert not served(catalog, image_id)
    another = staged(catalog, "new")
    assert served(catalog, another)


def test_an_upload_is_no_sign_of_life_of_a_worker_that_was_lost(catalog: Catalog) -> None:
    heard(catalog, "lost", HOUR_S)
    assert not served(catalog, staged(catalog, "lost"))


def test_hosts_say_when_they_were_heard_and_what_they_hold(catalog: Catalog) -> None:
    heard(catalog, "idle")
    heard(catalog, "lost", HOUR_S)
    staged(catalog, "lost")
    staged(catalog, "lost")
    with catalog.read() as connection:
        found = {host.name: host for host in hosts(connection)}
        assert live_hosts(connection) == {"idle"}
    assert {name: (host.slots, host.staged) for name, host in found.items()} == {"idle": (4, 0), "lost": (4, 2)}
    idle, lost = found["idle"].heard_at, found["lost"].heard_at
    assert idle is not None
    assert lost is not None
    assert lost < idle


def test_data_on_a_host_that_is_gone_are_replaced_and_handed_to_its_sweep(catalog: Catalog) -> None:
    heard(catalog, "old")
    heard(catalog, "new")
    image_id = staged(catalog, "old")
    with pytest.raises(StagedAlready):
        begun_upload(catalog, image_id, "new")
    heard(catalog, "old", HOUR_S)
    finish_stage(catalog, begun_upload(catalog, image_id, "new"), 7, None, NOW)
    with catalog.read() as connection:
        rows = {row.host: row.state for row in connection.execute(select(STAGED).where(STAGED.c.image_id == image_id))}
        assert rows == {"old": "scrap", "new": "sealed"}
        assert "old" in hosts_with_scrap(connection)
    assert served(catalog, image_id)


def test_an_upload_that_replaces_and_fails_leaves_the_image_queued(catalog: Catalog) -> None:
    image_id = staged(catalog, "old")
    heard(catalog, "old", HOUR_S)
    abandon_upload(catalog, begun_upload(catalog, image_id, "new").lease, NOW)
    with catalog.read() as connection:
        assert get_image(connection, image_id).status is ImageStatus.QUEUED


@pytest.mark.parametrize("alive", [True, False])
def test_an_import_by_hand_of_data_on_another_host_goes_there_unless_it_is_gone(catalog: Catalog, alive: bool) -> None:
    image_id = staged(catalog, "there")
    heard(catalog, "there", 0.0 if alive else HOUR_S)
    request = ImportRequest(ImportMethod.GLANCE_DIRECT, stores=("local",))
    run_id, owner = str(uuid4()), "here pid 1 x"
    with pytest.raises(TransshipError) as refused:
        begin_by_hand(catalog, image_id, request, LOCAL, Caller(), run_id, owner, host="here", ttl_s=HOUR_S, now=NOW)
    assert isinstance(refused.value, HostGone) is not alive
    with catalog.read() as connection:
        status = get_image(connection, image_id).status
    assert status is (ImageStatus.IMPORTING if alive else ImageStatus.UPLOADING)
