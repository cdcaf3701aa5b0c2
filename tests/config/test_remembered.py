"""Options of the command line that hold for later commands in the same home directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from config.loading import LoadedSettings, load_settings
from config.options import option_values
from config.reading import REMEMBERED
from config.remembered import remember


def load(home: Path, given: Mapping[str, str] | None = None, **environ: str) -> LoadedSettings:
    return load_settings(environ={"TRANSSHIP_HOME": str(home), **environ}, overrides=given, system_file=home / "none")


GIVEN = {
    "api.port": "9393",
    "imports.plugins": "image_decompression,image_conversion",
    "inject.properties": '{"a b": "c"}',
    "log.level": "DEBUG",
    "stores.fast.dir": "/srv/fast",
    "stores.fast.weight": "7",
    "default_store": "fast",
    "supervisor.drain_s": "2.5",
    "database.secret_key": 'a"secret',
}


def test_every_kind_of_value_holds_for_the_next_load_and_names_its_file(tmp_path: Path) -> None:
    first = load(tmp_path, {**GIVEN, "home": str(tmp_path)})
    assert set(remember(first)) == set(GIVEN) - {"inject.properties"} | {"inject.properties.a b"}
    again = load(tmp_path)
    assert option_values(again.settings) == option_values(first.settings)
    assert {again.origins[option] for option in GIVEN} == {str(tmp_path / REMEMBERED)}
    assert (tmp_path / REMEMBERED).stat().st_mode & 0o777 == 0o600


def test_later_options_are_added_and_replace_earlier_ones(tmp_path: Path) -> None:
    remember(load(tmp_path, {"api.port": "9393", "prefect.port": "4300"}))
    assert remember(load(tmp_path, {"api.port": "9494"})) == ("api.port", "prefect.port")
    settings = load(tmp_path).settings
    assert (settings.api.port, settings.prefect.port) == (9494, 4300)


def test_a_variable_wins_over_what_is_remembered_and_does_not_forget_it(tmp_path: Path) -> None:
    remember(load(tmp_path, {"api.port": "9393"}))
    now = load(tmp_path, TRANSSHIP_API__PORT="9494")
    assert now.settings.api.port == 9494
    assert remember(now) == ("api.port",)
    assert load(tmp_path).settings.api.port == 9393


def test_an_option_whose_line_is_removed_is_forgotten(tmp_path: Path) -> None:
    remember(load(tmp_path, {"api.port": "9393", "prefect.port": "4300"}))
    path = tmp_path / REMEMBERED
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "api.port" not in line))
    settings = load(tmp_path).settings
    assert (settings.api.port, settings.prefect.port) == (9292, 4300)


def test_without_options_nothing_is_written(tmp_path: Path) -> None:
    assert remember(load(tmp_path)) == ()
    assert not (tmp_path / REMEMBERED).exists()


def test_a_file_that_is_named_is_read_instead(tmp_path: Path) -> None:
    remember(load(tmp_path, {"api.port": "9393"}))
    (tmp_path / "named.toml").write_text("")
    assert load(tmp_path, TRANSSHIP_CONFIG=str(tmp_path / "named.toml")).settings.api.port == 9292
