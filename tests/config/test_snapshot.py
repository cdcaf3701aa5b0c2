"""A snapshot gives every process the same settings, whatever happens to the sources."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from config.loading import SNAPSHOT_VARIABLE, LoadedSettings, home_named, load_settings
from config.options import option_values
from config.snapshot import (
    Sources,
    newest_snapshot,
    read_snapshot,
    remove_others,
    settings_in_force,
    take_snapshot,
)
from transship.domain.errors import ConfigurationRefused

OF_EVERY_KIND = """
default_store = "fast"
[database]
url = "postgresql://transship:hush@db/catalog"
[prefect]
auth_string = "admin:hush"
poll_interval_s = 2
[auth]
password = "hush"
[imports]
plugins = ["inject_image_metadata"]
store_slots = { fast = 2 }
[inject]
properties = { owner = "me" }
[notifications]
drivers = ["messagingv2", "log"]
transport_url = "rabbit://user:hush@broker/"
[uri]
allowed_ports = [80, 8080]
[stores.fast]
dir = "/srv/fast"
weight = 7
[stores.objects]
type = "s3"
bucket = "images"
credentials = "radosgw"
[s3_credentials.radosgw]
access_key = "hush"
secret_key = "hush"
[remotes.there]
url = "https://glance.example"
"""
BROKEN = ("[imports\n", "[imports]\nno_such_option = 1\n", '[api]\nport = "many"\n', "\x00\xff")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "transship.toml"
    path.write_text(OF_EVERY_KIND)
    return path


def sources_in(home: Path, **variables: str) -> Sources:
    return Sources(environ={"TRANSSHIP_HOME": str(home), **variables})


def taken(home: Path, **variables: str) -> tuple[LoadedSettings, Path]:
    sources = sources_in(home, **variables)
    loaded = sources.load()
    return loaded, take_snapshot(loaded, sources, supervised=True)


def values(loaded: LoadedSettings) -> Mapping[str, object]:
    return {".".join(path): value for path, value in option_values(loaded.settings).items()}


def test_every_value_and_origin_comes_back(file: Path) -> None:
    loaded, path = taken(file.parent, TRANSSHIP_HOST_NAME="here", TRANSSHIP_NOTIFICATIONS__TOPICS="a,b")
    found = read_snapshot(path)
    assert values(found.loaded) == values(loaded)
    assert found.loaded.origins == loaded.origins
    assert (found.loaded.files, found.loaded.notes) == (loaded.files, loaded.notes)
    assert found.supervised
    assert found.sources.load().settings == loaded.settings


def test_what_depends_on_the_process_is_taken_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, path = taken(file.parent)
    named = loaded.settings.host_name
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "renamed", "6", "1", "x86_64")))
    assert read_snapshot(path).loaded.settings.host_name == named


def test_only_this_account_may_read_it_whatever_the_umask(file: Path) -> None:
    before = os.umask(0)
    try:
        _, path = taken(file.parent)
    finally:
        os.umask(before)
    assert "hush" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_newest_is_the_one_taken_last_and_former_ones_stay(file: Path) -> None:
    paths = [taken(file.parent, TRANSSHIP_API__PORT=str(port))[1] for port in range(9001, 9013)]
    assert newest_snapshot(paths[0].parent) == paths[-1]
    assert [read_snapshot(path).loaded.settings.api.port for path in paths] == list(range(9001, 9013))
    remove_others(paths[-1])
    assert list(paths[0].parent.iterdir()) == [paths[-1]]


def test_the_same_again_is_not_written_again(file: Path) -> None:
    assert taken(file.parent)[1] == taken(file.parent)[1]
    first = taken(file.parent)[1]
    first.write_text("{")
    assert taken(file.parent)[1] != first


def test_a_host_on_which_nothing_was_taken_has_none(tmp_path: Path) -> None:
    assert newest_snapshot(tmp_path / "run") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": {}}', '{"settings": {"no_such_option": 1}}'])
def test_one_that_cannot_be_read_is_refused_with_the_remedy(file: Path, text: str) -> None:
    _, path = taken(file.parent)
    path.write_text(text)
    with pytest.raises(ConfigurationRefused, match=r"'transship reload' or a new start") as refused:
        read_snapshot(path)
    assert refused.value.source == str(path)


def test_one_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="No such file"):
        settings_in_force({SNAPSHOT_VARIABLE: str(tmp_path / "settings-1.json")})


def test_a_directory_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    loaded = sources_in(tmp_path).load()
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(ConfigurationRefused, match="home"):
        take_snapshot(loaded, sources_in(tmp_path), supervised=True)
    assert (tmp_path / "run").read_text() == "in the way"


@pytest.mark.parametrize("text", BROKEN)
def test_a_process_that_was_handed_one_does_not_look_at_the_sources(file: Path, text: str) -> None:
    loaded, path = taken(file.parent)
    file.write_text(text)
    environ = {"TRANSSHIP_HOME": str(file.parent), "TRANSSHIP_API__PORT": "nine", SNAPSHOT_VARIABLE: str(path)}
    assert values(settings_in_force(environ)) == values(loaded)


def test_one_that_was_handed_none_loads_them(file: Path) -> None:
    environ = {"TRANSSHIP_HOME": str(file.parent)}
    assert settings_in_force(environ).settings.default_store == "fast"
    file.write_text(BROKEN[0])
    with pytest.raises(ConfigurationRefused):
        settings_in_force(environ)


def test_the_variable_that_hands_it_over_is_no_setting(tmp_path: Path) -> None:
    environ = {"TRANSSHIP_HOME": str(tmp_path), SNAPSHOT_VARIABLE: "/nowhere"}
    assert load_settings(environ=environ).settings.home == tmp_path


def test_sources_are_what_they_were_at_the_start_for_who_asks_from_elsewhere(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = sources_in(file.parent, TRANSSHIP_STAGING__DIR="staged", TRANSSHIP_API__PORT="9393")
    path = take_snapshot(sources.load(), sources, supervised=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TRANSSHIP_API__PORT", "9494")
    found = read_snapshot(path)
    now = found.sources.load()
    assert (now.settings.staging_dir, now.settings.api.port) == (tmp_path / "staged", 9393)
    assert found.difference(now) == ()
    assert Path.cwd() == elsewhere


def test_the_difference_names_options_and_files_and_no_value(file: Path, tmp_path: Path) -> None:
    glance = tmp_path / "glance-api.conf"
    glance.write_text("[oslo_messaging_rabbit]\nrabbit_retry_interval = 1\n")
    policy = tmp_path / "policy.yaml"
    policy.write_text("copy_image: role:admin\n")
    _, path = taken(file.parent, TRANSSHIP_GLANCE_CONFIG=str(glance), TRANSSHIP_API__POLICY_FILE=str(policy))
    found = read_snapshot(path)
    # The API follows this one by itself.
    policy.write_text("copy_image: role:member\n")
    assert found.difference(found.sources.load()) == ()
    edited = OF_EVERY_KIND.replace("7", "8").replace("user:hush", "user:secret")
    file.write_text(edited + '[stores.slow]\ndir = "/srv/slow"\n')
    glance.write_text("[oslo_messaging_rabbit]\nrabbit_retry_interval = 2\n")
    named = found.difference(found.sources.load())
    assert {"stores.fast.weight", "notifications.transport_url", "stores.slow.dir", str(glance)} <= set(named)
    assert not {"stores.fast.dir", "imports.plugins"} & set(named)


@pytest.mark.parametrize("text", ["[imports\n", 'home = "{}"\n[api]\nport = "many"\n'])
def test_the_home_directory_is_found_while_the_sources_cannot_be_used(tmp_path: Path, text: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text.format(tmp_path))
    absent = tmp_path / "absent.toml"
    by_variable = home_named(file=file, environ={"TRANSSHIP_HOME": "/h"}, system_file=absent)
    by_option = home_named(file=file, environ={"TRANSSHIP_HOME": "/h"}, overrides={"home": "/o"}, system_file=absent)
    assert (by_variable, by_option) == (Path("/h"), Path("/o"))
    if "home" in text:
        assert home_named(file=file, environ={}, system_file=absent) == tmp_path
        assert home_named(environ={"TRANSSHIP_CONFIG": str(file)}, system_file=absent) == tmp_path
    assert home_named(file=absent, environ={"TRANSSHIP_HOME": "/h"}, system_file=absent) == Path("/h")
