"""``status`` and ``doctor`` list the hosts that are gone, and every import that waits."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import update

from config.settings import Settings
from tests.fakes.images import NOW, asked, queued_image, settings_in
from tests.keeper.test_hosts import staged
from transship.catalog.engine import Catalog
from transship.catalog.hosts import forget_hosts, hosts, note_host
from transship.catalog.imports import begin_import
from transship.catalog.schema import IMAGES, LEASES, TASKS
from transship.catalog.types import in_seconds
from transship.commands.doctor import Finding, Level, check_catalog
from transship.commands.status import SHOWN_WAITS, _shown, _waits
from transship.domain.image import ImageStatus

HOUR_S = 3600.0


@pytest.fixture
def settings(catalog: Catalog, tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def heard(catalog: Catalog, host: str, seconds_ago: float) -> None:
    with catalog.write() as connection:
        note_host(connection, host, 4, heard_s_ago=seconds_ago)


def waiting(catalog: Catalog, message: str, *, begun: bool = False, age_s: float = 0.0) -> str:
    """Add an import whose task says something; return the id of its image."""
    image = queued_image(catalog)
    task = asked(catalog, image)
    if begun:
        begin_import(catalog, task.id, str(uuid4()), "worker", ttl_s=HOUR_S, now=NOW)
    with catalog.write() as connection:
        connection.execute(update(TASKS).where(TASKS.c.id == task.id).values(message=message))
        connection.execute(update(LEASES).where(LEASES.c.image_id == image.id).values(since=in_seconds(-age_s)))
    return image.id


def found(settings: Settings, subject: str) -> list[Finding]:
    return [finding for finding in check_catalog(settings) if finding.subject == subject]


def test_a_host_that_is_gone_is_named_with_what_it_holds(
    catalog: Catalog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    heard(catalog, "alive", 0.0)
    assert (_shown(_waits(settings)), capsys.readouterr().out) == (True, "")
    heard(catalog, "idle", HOUR_S)
    assert _shown(_waits(settings))
    assert "host gone       idle: last seen at " in capsys.readouterr().out
    heard(catalog, "full", 0.0)
    staged(catalog, "full")
    heard(catalog, "full", HOUR_S)
    assert not _shown(_waits(settings))
    assert "holds uploaded data of 1 images; start its worker, or upload the data again" in capsys.readouterr().out
    gone = {finding.text.partition(":")[0]: finding.level for finding in found(settings, "host gone")}
    assert gone == {"idle": Level.WARN, "full": Level.WARN}
    assert [finding.level for finding in found(settings, "host")] == [Level.OK]


def test_imports_that_wait_are_listed_and_others_are_not(
    catalog: Catalog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    pending = waiting(catalog, "waits for a worker slot since then; patience")
    running = waiting(catalog, "stage: waits for space in staging since then; patience", begun=True)
    silent = waiting(catalog, "", age_s=HOUR_S)
    others = [waiting(catalog, "stage: 40 %", begun=True), waiting(catalog, "", age_s=-HOUR_S)]
    assert _shown(_waits(settings))
    shown = capsys.readouterr().out
    said = "".join(finding.text for finding in found(settings, "import waits"))
    for listed in (shown, said):
        assert f"{pending}: waits for a worker slot since then; patience" in listed
        assert f"{running}: stage: waits for space in staging since then; patience" in listed
        assert f"{silent}: pending since " in listed
        assert "for an unknown reason; see the keeper's log" in listed
        assert not any(image_id in listed for image_id in others)


def test_an_upload_that_waits_is_called_one(
    catalog: Catalog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    image_id = queued_image(catalog).id
    with catalog.write() as connection:
        connection.execute(update(IMAGES).values(status=ImageStatus.SAVING, import_message="waits for a slot of fast"))
    assert _shown(_waits(settings))
    assert f"{image_id}: the upload waits for a slot of fast" in capsys.readouterr().out
    assert [each.text for each in found(settings, "upload waits")] == [
        f"{image_id}: the upload waits for a slot of fast"
    ]
    assert found(settings, "import waits") == []


def test_many_waits_are_counted(catalog: Catalog, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(SHOWN_WAITS + 3):
        waiting(catalog, "waits for its turn")
    _shown(_waits(settings))
    assert capsys.readouterr().out.splitlines()[-1].endswith("and 3 more")
    listed = found(settings, "import waits")
    assert (len(listed), listed[-1].text) == (SHOWN_WAITS + 1, "and 3 more")


def test_a_host_out_of_use_is_forgotten_after_a_day_unless_it_holds_something(catalog: Catalog) -> None:
    staged(catalog, "full")
    for host in ("idle", "full"):
        heard(catalog, host, 2 * 86400.0)
    heard(catalog, "recent", HOUR_S)
    with catalog.write() as connection:
        forget_hosts(connection)
    with catalog.read() as connection:
        assert [host.name for host in hosts(connection)] == ["full", "recent"]
