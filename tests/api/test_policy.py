"""Changes of a policy file take effect while the service runs, and a broken one allows nothing new."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.fakes.images import new_image
from transship.api.policy import COPY_IMAGE, Policy
from transship.domain.errors import ConfigurationRefused
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
    return policy.allows(COPY_IMAGE, ADMIN, IMAGE), policy.allows(COPY_IMAGE, COPIER, IMAGE)


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
