"""Who can find which image."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from transship.domain.errors import Forbidden, ImageNotFound
from transship.domain.image import Image, ImageStatus, Visibility
from transship.domain.visibility import Viewer, may_see, refuse_deactivated, refuse_new_owner, refuse_unless_seen

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADMIN = Viewer("", ("admin",), is_admin=True)
OWNER = Viewer("own", ("member", "reader"))
OTHER = Viewer("other", ("member", "reader"))


def _image(visibility: Visibility = Visibility.PRIVATE, status: ImageStatus = ImageStatus.ACTIVE) -> Image:
    return Image("i", status, NOW, NOW, visibility=visibility, owner="own")


@pytest.mark.parametrize(
    ("viewer", "seen"),
    [(ADMIN, set(Visibility)), (OWNER, set(Visibility)), (OTHER, {Visibility.PUBLIC, Visibility.COMMUNITY})],
)
def test_who_finds_an_image(viewer: Viewer, seen: set[Visibility]) -> None:
    assert {each for each in Visibility if may_see(viewer, _image(each))} == seen


def test_members_find_shared_images_only() -> None:
    found = {each for each in Visibility if may_see(OTHER, replace(_image(each), members=frozenset({"other"})))}
    assert found == {Visibility.PUBLIC, Visibility.COMMUNITY, Visibility.SHARED}


def test_a_stranger_is_told_that_a_private_image_does_not_exist() -> None:
    refuse_unless_seen(OWNER, _image())
    with pytest.raises(ImageNotFound):
        refuse_unless_seen(OTHER, _image())


def test_images_without_owner_belong_to_no_caller_without_project() -> None:
    assert not may_see(Viewer("", ("member", "reader")), Image("i", ImageStatus.ACTIVE, NOW, NOW))


def test_data_of_a_deactivated_image_are_for_admins() -> None:
    deactivated = _image(Visibility.PUBLIC, ImageStatus.DEACTIVATED)
    refuse_deactivated(ADMIN, deactivated)
    refuse_deactivated(OTHER, _image(Visibility.PUBLIC))
    with pytest.raises(Forbidden):
        refuse_deactivated(OWNER, deactivated)


def test_only_admins_change_the_owner() -> None:
    refuse_new_owner(ADMIN)
    with pytest.raises(Forbidden):
        refuse_new_owner(OWNER)
