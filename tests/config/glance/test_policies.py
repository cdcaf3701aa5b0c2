"""The policy file of a Glance: where it is looked up, and what stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loading import LoadedSettings
from tests.fakes.glance_files import load, write
from transship.commands.configuration import refuse_what_cannot_start
from transship.domain.errors import ConfigurationRefused


def of(directory: Path, text: str = "", **environ: str) -> LoadedSettings:
    """Return the settings from a directory with a Glance's files."""
    write(directory, f"[DEFAULT]\n[oslo_policy]\n{text}")
    return load(directory, environ=environ)


def with_rules(path: Path, text: str = "copy_image: role:copier\n") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("absolute", [False, True])
def test_a_named_file_is_looked_up_beside_the_configuration_and_kept_in_the_settings(
    absolute: bool, tmp_path: Path
) -> None:
    file = with_rules(tmp_path / "rules.yaml")
    loaded = of(tmp_path, f"policy_file = {file if absolute else file.name}\n")
    assert loaded.settings.api.policy_file == file
    assert loaded.origins["api.policy_file"] == f"{tmp_path}/glance-api.conf:oslo_policy.policy_file"
    assert loaded.texts[file] == file.read_text()


def test_the_directory_of_the_last_file_is_searched_first(tmp_path: Path) -> None:
    drop_in = tmp_path / "glance-api.conf.d"
    drop_in.mkdir()
    (drop_in / "policies.conf").write_text("[oslo_policy]\npolicy_file = rules.yaml\n")
    outer = with_rules(tmp_path / "rules.yaml")
    assert of(tmp_path).settings.api.policy_file == outer
    inner = with_rules(drop_in / "rules.yaml")
    assert of(tmp_path).settings.api.policy_file == inner


@pytest.mark.parametrize("name", ["policy.yaml", "policy.json"])
def test_without_the_option_glances_own_file_is_used_if_it_exists(name: str, tmp_path: Path) -> None:
    assert of(tmp_path).settings.api.policy_file is None
    file = with_rules(tmp_path / name)
    loaded = of(tmp_path)
    assert loaded.settings.api.policy_file == file
    assert loaded.origins["api.policy_file"] == f"{tmp_path}/glance-api.conf: {name} beside it"


def test_a_file_that_is_missing_or_restricts_what_does_not_exist_stops_the_start_by_name(tmp_path: Path) -> None:
    loaded = of(tmp_path, "policy_file = rules.yaml\n")
    with pytest.raises(ConfigurationRefused, match="policy_file: it cannot be read") as refused:
        refuse_what_cannot_start(loaded)
    assert refused.value.source == f"{tmp_path}/glance-api.conf:oslo_policy.policy_file"
    with_rules(tmp_path / "rules.yaml", "download_from_store: role:admin")
    with pytest.raises(ConfigurationRefused, match="download_from_store restricts"):
        refuse_what_cannot_start(of(tmp_path, "policy_file = rules.yaml\n"))


@pytest.mark.parametrize("text", ["", "policy_dirs = other.d\n", "policy_dirs = other.d\npolicy_dirs = policy.d\n"])
def test_a_directory_with_rules_stops_the_start_unless_a_file_is_named_elsewhere(text: str, tmp_path: Path) -> None:
    file = with_rules(tmp_path / "policy.yaml")
    folder = tmp_path / ("other.d" if text else "policy.d")
    with_rules(folder / ".hidden")
    assert of(tmp_path, text).settings.api.policy_file == file
    with_rules(folder / "more.yaml")
    with pytest.raises(ConfigurationRefused, match=f"{folder} is a directory, but rules are read from one file"):
        refuse_what_cannot_start(of(tmp_path, text))
    assert of(tmp_path, text, TRANSSHIP_API__POLICY_FILE=str(file)).settings.api.policy_file == file


def test_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="policy_file"):
        of(tmp_path, "policy_file = $nowhere/policy.yaml\n")


@pytest.mark.parametrize(("text", "new"), [("", True), ("enforce_new_defaults = no\n", False)])
def test_which_defaults_apply_is_read(text: str, new: bool, tmp_path: Path) -> None:
    assert of(tmp_path, text).settings.api.enforce_new_defaults is new


def test_property_protections_are_looked_up_beside_the_configuration(tmp_path: Path) -> None:
    file = with_rules(tmp_path / "protections.conf", "[a]\ncreate = !\nread = @\nupdate = !\ndelete = !\n")
    options = f"property_protection_file = {file.name}\nproperty_protection_rule_format = policies\n"
    write(tmp_path, f"[DEFAULT]\n{options}")
    api = load(tmp_path).settings.api
    assert (api.property_protection_file, api.property_protection_rule_format) == (file, "policies")


def test_property_protections_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    with_rules(tmp_path / "protections.conf", "[a]\nread = @\n")
    write(tmp_path, "[DEFAULT]\nproperty_protection_file = protections.conf\n")
    with pytest.raises(ConfigurationRefused, match="does not say who may create, update, delete"):
        refuse_what_cannot_start(load(tmp_path))
