"""The inject_image_metadata and no_op plugins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from config.loading import load_settings
from tests.fakes.plugin_workspace import settings_with, work_on
from transship.domain.errors import ConfigurationRefused
from transship.plugins import inject_metadata, no_op
from transship.plugins.base import PluginOutcome

PROPERTIES = {"hw_disk_bus": "scsi", "site": "north"}


def inject(
    folder: Path,
    roles: tuple[str, ...],
    properties: Mapping[str, str] = PROPERTIES,
    ignored: tuple[str, ...] = ("admin",),
) -> PluginOutcome:
    settings = settings_with(folder, inject={"properties": properties, "ignore_user_roles": ignored})
    work, _ = work_on(folder / "absent", settings, roles=roles)
    return inject_metadata.PLUGIN.run(work)


@pytest.mark.parametrize("roles", [(), ("member",), ("reader", "member"), ("administrator",)])
def test_properties_are_injected_for_ordinary_callers(roles: tuple[str, ...], tmp_path: Path) -> None:
    assert inject(tmp_path, roles) == PluginOutcome(properties=PROPERTIES, summary="injected hw_disk_bus, site")


@pytest.mark.parametrize(
    ("roles", "ignored"),
    [(("admin",), ("admin",)), (("member", "admin"), ("admin",)), (("admin",), ("Admin",)), (("ADMIN",), ("admin",))],
)
def test_callers_with_an_ignored_role_are_left_alone(
    roles: tuple[str, ...], ignored: tuple[str, ...], tmp_path: Path
) -> None:
    outcome = inject(tmp_path, roles, ignored=ignored)
    assert (outcome.properties, outcome.summary) == ({}, "nothing injected: callers with role admin are left alone")


def test_names_of_the_service_are_dropped(tmp_path: Path) -> None:
    outcome = inject(tmp_path, (), {"os_glance_import_task": "x", "site": "north"})
    assert outcome.properties == {"site": "north"}
    assert "os_glance_import_task" in outcome.summary


def test_nothing_is_injected_when_nothing_is_configured(tmp_path: Path) -> None:
    assert inject(tmp_path, (), {}) == PluginOutcome(summary="nothing to inject: inject.properties is empty")


@pytest.mark.parametrize("name", ["status", "disk_format", "", "x" * 256])
def test_names_that_cannot_be_properties_stop_the_start(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        inject_metadata.PLUGIN.check(settings_with(tmp_path, inject={"properties": {name: "x"}}))
    assert refused.value.option == "inject.properties"


@pytest.mark.parametrize(
    "printed",
    ["hw_disk_bus:scsi,site:north,os_glance_x:y,...", '"hw_disk_bus":"scsi","site":"north","os_glance_x":"y"'],
)
@pytest.mark.parametrize("ignored", ["admin,...", "[admin,service]"])
def test_what_a_file_of_a_glance_prints_is_injected(printed: str, ignored: str, tmp_path: Path) -> None:
    path = tmp_path / "glance-image-import.conf"
    path.write_text(f"[inject_metadata_properties]\nignore_user_roles = {ignored}\ninject = {printed}\n")
    environ = {"TRANSSHIP_HOME": str(tmp_path), "TRANSSHIP_GLANCE_CONFIG": str(path)}
    settings = load_settings(environ=environ, system_file=tmp_path / "absent.toml").settings
    for roles, properties in ((("member",), PROPERTIES), (("member", "admin"), {})):
        work, _ = work_on(tmp_path / "absent", settings, roles=roles)
        assert inject_metadata.PLUGIN.run(work).properties == properties


def test_no_op_changes_nothing(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    no_op.PLUGIN.check(settings)
    assert no_op.PLUGIN.run(work_on(tmp_path / "absent", settings)[0]) == PluginOutcome(summary="nothing to do")
