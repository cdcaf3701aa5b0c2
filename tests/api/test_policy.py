"""Changes of a policy file take effect while the service runs, and a broken one allows nothing new."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from tests.fakes.images import new_image
from transship.api.policy import Policy
from transship.domain.errors import ConfigurationRefused
from transship.domain.policies import UNSERVED, Action
from transship.domain.visibility import Viewer

IMAGE = new_image()
ADMIN = Viewer(project_id="p", roles=("admin",))
COPIER = Viewer(project_id="p", roles=("copier",))


def write(file: Path, text: str) -> None:
    """Put another file in its place, as configuration management does."""
    new = file.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def of_copying(policy: Policy) -> tuple[bool, bool]:
    return policy.allows(Action.COPY_IMAGE, ADMIN, IMAGE), policy.allows(Action.COPY_IMAGE, COPIER, IMAGE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("copy_image: role:copier\n", encoding="utf-8")
    return path


def test_a_changed_file_holds_from_the_next_request_on(file: Path) -> None:
    policy = Policy(file)
    assert of_copying(policy) == (False, True)
    write(file, "copy_image: role:copier or role:admin\n")
    assert of_copying(policy) == (True, True)
    write(file, "{}\n")
    assert of_copying(policy) == (True, False)


@pytest.mark.parametrize(
    "broken", ["copy_image: [unclosed", "- no mapping", "copy_image: 7", None], ids=["YAML", "list", "number", "gone"]
)
def test_a_file_that_breaks_leaves_the_rules_that_held_and_is_told_once(file: Path, broken: str | None) -> None:
    policy = Policy(file)
    file.unlink() if broken is None else write(file, broken)
    with capture_logs() as logs:
        assert [of_copying(policy) for _ in range(2)] == [(False, True)] * 2
    (told,) = [line for line in logs if line["log_level"] == "error"]
    assert str(file) in told["reason"]
    write(file, "copy_image: role:admin\n")
    assert of_copying(policy) == (True, False)


def test_a_file_that_is_broken_at_the_start_is_refused(file: Path) -> None:
    os.truncate(file, 5)
    with pytest.raises(ConfigurationRefused, match=r"must map names"):
        Policy(file)


@pytest.mark.parametrize("broken", ["copy_image: [unclosed", None], ids=["YAML", "gone"])
def test_a_service_that_starts_while_the_file_is_broken_has_the_rules_of_its_settings(
    file: Path, broken: str | None
) -> None:
    taken = file.read_text(encoding="utf-8")
    file.unlink() if broken is None else write(file, broken)
    with capture_logs() as logs:
        policy = Policy(file, taken)
    assert of_copying(policy) == (False, True)
    assert str(file) in next(line["reason"] for line in logs if line["log_level"] == "error")
    write(file, "copy_image: role:admin\n")
    assert of_copying(policy) == (True, False)


def test_a_service_that_starts_after_an_edit_has_the_rules_of_the_file(file: Path) -> None:
    taken = file.read_text(encoding="utf-8")
    write(file, "copy_image: role:admin\n")
    assert of_copying(Policy(file, taken)) == (True, False)


REFUSED = {
    "half a rule": ("upload_image: role:admin or (role:member", "the rule of upload_image cannot be understood"),
    "no kind": ("upload_image: role:admin or members", "the rule of upload_image cannot be understood"),
    "unknown rule": ("upload_image: rule:owners", "the rule of upload_image refers to owners, which does not exist"),
    "circle": ("upload_image: rule:a\na: rule:b\nb: rule:a", "rules refer to themselves: a, b, a"),
    "not served": (
        "download_from_store: role:admin",
        "download_from_store restricts an operation that this release does not have",
    ),
    "not served, by another rule": ("nobody: '!'\ndownload_from_store: rule:nobody", "download_from_store restricts"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_rule_that_would_not_hold_stops_the_start_by_name_and_later_changes_nothing(
    text: str, reason: str, file: Path
) -> None:
    policy = Policy(file)
    write(file, text)
    with pytest.raises(ConfigurationRefused, match=reason):
        Policy(file)
    with capture_logs() as logs:
        assert [of_copying(policy) for _ in range(2)] == [(False, True)] * 2
    assert [reason in line["reason"] for line in logs if line["log_level"] == "error"] == [True]


@pytest.mark.parametrize(
    "rule", ["", "@", "rule:default", "rule:context_is_admin or (role:member and project_id:%(project_id)s)"]
)
def test_a_rule_of_a_missing_operation_may_be_set_to_its_default_or_be_open(rule: str, file: Path) -> None:
    file.write_text(f"add_member: {json.dumps(rule)}")
    assert of_copying(Policy(file)) == (True, False)


def test_each_rule_of_a_missing_operation_may_be_set_to_its_default(file: Path) -> None:
    file.write_text(yaml.safe_dump(dict(UNSERVED)))
    assert of_copying(Policy(file)) == (True, False)


def test_rules_without_effect_are_named_in_one_line_of_the_log(file: Path) -> None:
    file.write_text(
        "get_metadef_namespace: rule:metadef_default\nmanage_image_cache: '!'\nadd_task: role:admin\n"
        "uplaod_image: role:admin\ncopiers: role:copier\ncopy_image: rule:copiers\n"
    )
    with capture_logs() as logs:
        assert of_copying(Policy(file)) == (False, True)
    assert [line["rules"] for line in logs] == ["add_task,get_metadef_namespace,manage_image_cache", "uplaod_image"]


def test_a_value_that_documentation_leaves_open_matches_nobody_and_is_named(file: Path) -> None:
    file.write_text("copy_image: role:copier or user_id:<id of a user> or role:<role>")
    with capture_logs() as logs:
        policy = Policy(file)
    assert of_copying(policy) == (False, True)
    assert [line["rules"] for line in logs] == ["copy_image"]


def test_lines_with_commas_need_no_braces(file: Path) -> None:
    file.write_text('"get_task": "",\n"copy_image": "role:admin",\n')
    assert of_copying(Policy(file)) == (True, False)
