"""The quotas of a Glance: storage of a project in a file, and unified limits in Keystone."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.notes import NoteKind
from tests.fakes.glance_files import notes, of
from transship.domain.errors import ConfigurationRefused


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("5", 5), ("7B", 7), ("3KB", 3 << 10), ("2MB", 2 << 20), ("9GB", 9 << 30), ("1TB", 1 << 40)],
)
def test_the_storage_of_a_project_is_read_with_its_unit(text: str, size: int, tmp_path: Path) -> None:
    assert of(tmp_path, f"[DEFAULT]\nuser_storage_quota = {text}\n").settings.quota.user_storage_bytes == size


@pytest.mark.parametrize("text", ["-1", "10 GB", "10PB", "ten", ""])
def test_storage_that_glance_would_refuse_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="is not an amount of storage"):
        of(tmp_path, f"[DEFAULT]\nuser_storage_quota = {text}\n")


KEYSTONE = "[paste_deploy]\nflavor = keystone\n[keystone_authtoken]\nauth_url = http://keystone.test/v3\n"
LIMITS = "[DEFAULT]\nuse_keystone_limits = true\n[oslo_limit]\nendpoint_id = 8f\nusername = glance\n"


def test_unified_limits_are_read_with_the_login_of_the_service(tmp_path: Path) -> None:
    account = "username = glance\npassword = hush\nproject_name = service\n"
    loaded = of(tmp_path, KEYSTONE + account + LIMITS)
    assert (loaded.settings.quota.unified_limits, loaded.settings.quota.endpoint_id) == (True, "8f")
    (note,) = [note for note in notes(loaded, NoteKind.IGNORED) if "oslo_limit" in note]
    assert "[keystone_authtoken]" in note


@pytest.mark.parametrize(
    "text", [LIMITS, KEYSTONE + "application_credential_id = a\napplication_credential_secret = b\n" + LIMITS]
)
def test_unified_limits_need_a_user_who_can_have_a_role_on_the_system(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match=r"quota\.unified_limits requires api\.auth keystone"):
        of(tmp_path, text)
