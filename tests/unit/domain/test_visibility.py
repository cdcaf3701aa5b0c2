"""Who may see and change which image."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from transship.domain.errors import Forbidden, ImageNotFound
from transship.domain.image import Image, ImageStatus, Visibility
from transship.domain.visibility import (
    Viewer,
    may_change,
    may_download,
    may_see,
    may_see_store_details,
    refuse_create,
    refuse_new_owner,
    refuse_unless_changed_by,
    refuse_unless_seen,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADMIN = Viewer("", ("admin",))
OWNER = Viewer("own", ("member", "reader"))
READER = Viewer("own", ("reader",))
OTHER = Viewer("other", ("member", "reader"))
NOBODY = Viewer()


def _image(visibility: Visibility = Visibility.PRIVATE, status: ImageStatus = ImageStatus.ACTIVE) -> Image:
    return Image("i", status, NOW, NOW, visibility=visibility, owner="own")


@pytest.mark.parametrize(
    ("viewer", "seen"),
    [
        (ADMIN, set(Visibility)),
        (OWNER, set(Visibility)),
        (READER, set(Visibility)),
        (OTHER, {Visibility.PUBLIC, Visibility.COMMUNITY}),
        (NOBODY, set()),
    ],
)
def test_who_sees_an_image(viewer: Viewer, seen: set[Visibility]) -> None:
    assert {each for each in Visibility if may_see(viewer, _image(each))} == seen


def test_members_see_shared_images_only() -> None:
    assert {each for each in Visibility if may_see(OTHER, _image(each), accepted_member=True)} == {
        Visibility.PUBLIC,
        Visibility.COMMUNITY,
        Visibility.SHARED,
    }


@pytest.mark.parametrize(("viewer", "may"), [(ADMIN, True), (OWNER, True), (READER, False), (OTHER, False)])
def test_only_members_of_the_owning_project_and_admins_change_an_image(viewer: Viewer, may: bool) -> None:
    assert may_change(viewer, _image(Visibility.PUBLIC)) is may


def test_a_stranger_is_told_that_a_private_image_does_not_exist_and_that_a_public_one_is_not_theirs() -> None:
    refuse_unless_changed_by(OWNER, _image())
    refuse_unless_seen(OWNER, _image())
    with pytest.raises(ImageNotFound):
        refuse_unless_changed_by(OTHER, _image())
    with pytest.raises(Forbidden):
        refuse_unless_changed_by(OTHER, _image(Visibility.PUBLIC))


def test_images_without_owner_belong_to_no_caller_without_project() -> None:
    assert not may_change(Viewer("", ("member",)), Image("i", ImageStatus.ACTIVE, NOW, NOW))


def test_data_of_a_deactivated_image_are_for_admins() -> None:
    deactivated = _image(Visibility.PUBLIC, ImageStatus.DEACTIVATED)
    assert may_download(ADMIN, deactivated)
    assert not may_download(OWNER, deactivated)
    assert may_download(OTHER, _image(Visibility.PUBLIC))
    assert not may_download(READER, _image())


def test_store_details_are_for_admins_and_services() -> None:
    shown = [may_see_store_details(viewer) for viewer in (ADMIN, Viewer("", ("service",)), OWNER)]
    assert shown == [True, True, False]


@pytest.mark.parametrize(
    ("viewer", "owner", "visibility", "refused"),
    [
        (ADMIN, "anybody", Visibility.PUBLIC, False),
        (OWNER, "own", Visibility.SHARED, False),
        (OWNER, "own", Visibility.PUBLIC, True),
        (OWNER, "other", Visibility.SHARED, True),
        (READER, "own", Visibility.SHARED, True),
        (Viewer("", ("member",)), "", Visibility.SHARED, True),
    ],
)
def test_who_may_create_which_image(viewer: Viewer, owner: str, visibility: Visibility, refused: bool) -> None:
    if not refused:
        refuse_create(viewer, owner, visibility)
        return
    with pytest.raises(Forbidden):
        refuse_create(viewer, owner, visibility)


def test_only_admins_give_images_away() -> None:
    refuse_new_owner(ADMIN)
    with pytest.raises(Forbidden):
        refuse_new_owner(OWNER)
