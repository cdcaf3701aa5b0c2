"""All processes of a host get the same snapshot; a new snapshot alone does not restart them."""

from __future__ import annotations

from pathlib import Path

from config.loading import SNAPSHOT_VARIABLE
from config.settings import Settings
from transship.supervisor.component import Component
from transship.supervisor.home import first_start
from transship.supervisor.table import process_table


def table_of(home: Path, snapshot: str, **sections: object) -> dict[str, Component]:
    settings = Settings.model_validate({"home": home, **sections})
    first_start(settings)
    return {component.name: component for component in process_table(settings, {SNAPSHOT_VARIABLE: snapshot})}


def test_every_process_is_handed_the_snapshot(tmp_path: Path) -> None:
    table = table_of(tmp_path, "/run/settings-7.json")
    assert {component.environment[SNAPSHOT_VARIABLE] for component in table.values()} == {"/run/settings-7.json"}


def test_another_snapshot_is_no_other_start_and_what_it_changes_there_is(tmp_path: Path) -> None:
    before, after = table_of(tmp_path, "/run/settings-1.json"), table_of(tmp_path, "/run/settings-2.json")
    louder = table_of(tmp_path, "/run/settings-2.json", log={"level": "DEBUG"})
    assert all(before[name].starts_as(after[name]) for name in before)
    assert not before["worker"].starts_as(louder["worker"])
    assert before["prefect-server"].starts_as(louder["prefect-server"])
