"""A pool and a staging directory that a real Glance uses too, and a catalogue that was restored from a backup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from flows.housekeeping import housekeeping
from tests.fakes.asked_imports import AskedImports
from tests.fakes.backups import contents_of, restore
from tests.fakes.images import NOW
from tests.fakes.openstack_peers import OpenStack
from tests.fakes.system import until
from tests.fakes.web_server import WebServer
from transship.catalog.inventories import inventories
from transship.catalog.schema import INVENTORIES, LOCATIONS
from transship.host.directories import MARK

pytestmark = [
    pytest.mark.real,
    # openstacksdk warns about its own future whenever it connects.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

FORMATS = {"disk_format": "raw", "container_format": "bare"}


def test_housekeeping_over_a_restored_catalogue_leaves_all_files_of_a_glance_and_of_the_day_that_was_lost(
    cloud: OpenStack, imports: AskedImports, server: WebServer
) -> None:
    glance = cloud.connect(region="RegionTwo").image
    stored = glance.create_image("stored", data=b"of Glance", allow_duplicates=True, wait=True, **FORMATS)
    staged = glance.create_image("staged", allow_duplicates=True, **FORMATS)
    glance.stage_image(staged, data=b"to be imported")
    glances = files_of(cloud)
    assert {path.name for path in glances} >= {stored.id, staged.id}
    # Another test's catalogue may have had the pool; its operator gives it away.
    (cloud.pool / MARK).unlink(missing_ok=True)
    imports.site.set(
        stores=f'{{"local": {{"type": "file", "dir": "{cloud.pool}"}}}}', staging__dir=str(cloud.glance.staging)
    )

    kept, deleted = (imported(imports, server, name) for name in ("kept", "deleted"))
    yesterday = contents_of(imports.site.catalog)
    imports.api("DELETE", f"/v2/images/{deleted}")
    swept(imports)
    today = imported(imports, server, "today")
    holding = files_of(cloud)
    assert {path.name for path in holding} >= {kept, today}
    restore(imports.site.catalog, yesterday)

    message = swept(imports)
    assert files_of(cloud) == holding
    assert message.startswith("removed 0, ")
    with imports.site.catalog.read() as connection:
        strays = {name for one in inventories(connection) for name in one.names}
    assert strays == {path.name for path in glances} | {today}
    assert glance.download_image(stored.id).content == b"of Glance"
    glance.import_image(staged)
    until(lambda: glance.get_image(staged.id).status == "active", 300, "Glance imported what it had staged")
    assert glance.download_image(staged.id).content == b"to be imported"


def imported(imports: AskedImports, server: WebServer, name: str) -> str:
    image_id = imports.create(name=name)
    assert imports.ask(image_id, server.serve(f"/{name}", name.encode())).status_code == 202
    assert imports.carry(image_id).is_completed()
    return image_id


def swept(imports: AskedImports) -> str:
    """Run housekeeping as if all that waits for its time had waited long enough; return its message."""
    with imports.site.catalog.write() as connection:
        connection.execute(update(LOCATIONS).values(updated_at=NOW))
        connection.execute(update(INVENTORIES).values(taken_at=NOW))
    state: Any = housekeeping(return_state=True)
    assert state.is_completed(), state.message
    return str(state.message)


def files_of(cloud: OpenStack) -> dict[Path, bytes]:
    """Return what lies in the shared directories, but for the few files by which staging knows its catalogue."""
    paths = [*cloud.pool.iterdir(), *cloud.glance.staging.iterdir()]
    return {path: path.read_bytes() for path in paths if not path.name.startswith(".transship-")}
