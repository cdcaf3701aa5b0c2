"""The settings as shown to users."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from config.loading import load_settings
from config.policy_pages import POLICY_PAGE_FILE, POLICY_SAMPLE_FILE, policy_page, policy_sample
from config.settings import Settings
from config.show import DOCS_FILE, MASK, SAMPLE_FILE, option_rows, sample_toml, settings_page
from transship.domain.policies import RULES

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"^# (?=\[|[a-z_0-9]+ = )", re.MULTILINE)


def rows(**environ: str) -> dict[str, tuple[str, str]]:
    loaded = load_settings(
        environ={"TRANSSHIP_HOME": "/nonexistent", **environ}, system_file=Path("/nonexistent/transship.toml")
    )
    return {row.option: (row.value, row.origin) for row in option_rows(loaded)}


def test_every_option_is_shown_with_its_value_and_origin() -> None:
    shown = rows(TRANSSHIP_API__PORT="8080")
    assert shown["api.port"] == ("8080", "environment TRANSSHIP_API__PORT")
    assert shown["uri.allowed_ports"] == ("80, 443", "default")
    assert shown["staging.dir"] == ("(unset)", "default")
    assert shown["stores.local.dir"] == ("/nonexistent/images", "default")
    assert shown["imports.md5_checksum"] == ("true", "default")
    assert shown["inject.properties"] == ("(none)", "default")


def test_every_option_has_a_description() -> None:
    loaded = load_settings(environ={"TRANSSHIP_HOME": "/nonexistent"}, system_file=Path("/nonexistent"))
    assert [row.option for row in option_rows(loaded) if not row.description.endswith(".")] == []


def test_secrets_are_masked_and_say_whether_they_are_set() -> None:
    shown = rows(TRANSSHIP_PREFECT__AUTH_STRING="admin:hunter2", TRANSSHIP_PREFECT__API_URL="http://u:hunter2@p/api")
    assert shown["prefect.auth_string"][0] == MASK
    assert shown["database.url"][0] == ""
    assert "hunter2" not in str(shown)


def test_the_sample_changes_nothing_as_it_is() -> None:
    assert Settings.model_validate(tomllib.loads(sample_toml())) == Settings()


def test_the_sample_with_every_option_set_gives_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "transship.toml"
    path.write_text(OPTION.sub("", sample_toml()))
    loaded = load_settings(file=path, environ={})
    assert {origin for option, origin in loaded.origins.items()} == {str(path)}
    settings, defaults = loaded.settings, Settings()
    changed = {name for name in Settings.model_fields if getattr(settings, name) != getattr(defaults, name)}
    assert changed == {"api", "auth", "download", "host_name", "remotes", "s3_credentials", "staging", "stores"}


def test_the_sample_in_the_repository_is_current() -> None:
    assert (ROOT / SAMPLE_FILE).read_text() == sample_toml(), "run: python -m config.show"


def test_the_page_in_the_repository_is_current() -> None:
    assert (ROOT / DOCS_FILE).read_text() == settings_page(), "run: python -m config.show"


def test_the_sample_and_the_page_of_policies_are_current() -> None:
    assert (ROOT / POLICY_SAMPLE_FILE).read_text() == policy_sample(), "run: python -m config.show"
    page = (ROOT / POLICY_PAGE_FILE).read_text()
    assert page == policy_page(page), "run: python -m config.show"


def test_the_sample_of_policies_with_every_rule_set_gives_the_defaults() -> None:
    rules = re.sub(r'^# (?=")', "", policy_sample(), flags=re.MULTILINE)
    assert yaml.safe_load(policy_sample()) is None
    assert yaml.safe_load(rules) == {rule.name: rule.default for rule in RULES}


def test_the_page_names_every_option() -> None:
    page = settings_page()
    loaded = load_settings(environ={"TRANSSHIP_HOME": "/nonexistent"}, system_file=Path("/nonexistent"))
    names = {row.option.rpartition(".")[2] for row in option_rows(loaded)}
    assert {name for name in names if f"| `{name}`<br>" not in page} == set()
