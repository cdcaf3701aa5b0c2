"""Who may see and change an image: Glance's default policies as pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from transship.domain.errors import Forbidden, ImageNotFound
from transship.domain.image import Image, ImageStatus, Visibility

ADMIN_ROLE: Final = "admin"
SERVICE_ROLE: Final = "service"
MEMBER_ROLE: Final = "member"
READER_ROLE: Final = "reader"
"""Roles in the rules; in the identity service every member is also a reader."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """The caller, as far as the rules need to know.

    Attributes:
        project_id: the caller's project; empty without an identity service.
        roles: lower case.
    """

    project_id: str = ""
    roles: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """Whether the caller may access every image."""
        return ADMIN_ROLE in self.roles

    def owns(self, image: Image) -> bool:
        """Whether the image belongs to the caller's project."""
        return bool(self.project_id) and image.owner == self.project_id


def may_see(viewer: Viewer, image: Image, *, accepted_member: bool = False) -> bool:
    """Whether the caller may read the record.

    Args:
        accepted_member: the caller's project is an accepted member of the image.
    """
    if viewer.is_admin:
        return True
    if not {READER_ROLE, MEMBER_ROLE} & set(viewer.roles):
        return False
    if viewer.owns(image) or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY):
        return True
    return image.visibility is Visibility.SHARED and accepted_member


def may_change(viewer: Viewer, image: Image) -> bool:
    """Whether the caller may patch, tag, import or delete the image."""
    return viewer.is_admin or (MEMBER_ROLE in viewer.roles and viewer.owns(image))


def may_download(viewer: Viewer, image: Image) -> bool:
    """Whether the caller may read the image's data; only admins may read those of a deactivated image."""
    if viewer.is_admin:
        return True
    if image.status is ImageStatus.DEACTIVATED or MEMBER_ROLE not in viewer.roles:
        return False
    return may_see(viewer, image)


def shown_to(viewer: Viewer, image: Image) -> Image:
    """Return an image as the caller may see it: only admins see the locations of a deactivated image."""
    if image.status is ImageStatus.DEACTIVATED and not viewer.is_admin:
        return replace(image, locations=())
    return image


def may_see_store_details(viewer: Viewer) -> bool:
    """Whether the caller may see the configuration of stores."""
    return viewer.is_admin or SERVICE_ROLE in viewer.roles


def refuse_unless_seen(viewer: Viewer, image: Image) -> None:
    """Refuse a caller who may not see the image.

    Raises:
        ImageNotFound: as for an image that does not exist.
    """
    if not may_see(viewer, image):
        raise ImageNotFound(image.id)


def refuse_unless_changed_by(viewer: Viewer, image: Image) -> None:
    """Refuse a caller who may not change the image.

    Raises:
        ImageNotFound: the caller may not see it either.
        Forbidden: the caller may see it, but it belongs to another project.
    """
    if may_change(viewer, image):
        return
    refuse_unless_seen(viewer, image)
    raise Forbidden(f"You are not permitted to change image {image.id}")


def refuse_create(viewer: Viewer, owner: str, visibility: Visibility) -> None:
    """Refuse a new image that the caller may not create.

    Raises:
        Forbidden: the caller is not a member, the owner is another project, or a non-admin makes it public.
    """
    if viewer.is_admin:
        return
    if MEMBER_ROLE not in viewer.roles or not viewer.project_id:
        raise Forbidden("You are not permitted to create images")
    if owner != viewer.project_id:
        raise Forbidden(f"You are not permitted to create images owned by '{owner}'")
    refuse_visibility(viewer, visibility)


def refuse_visibility(viewer: Viewer, visibility: Visibility) -> None:
    """Refuse a visibility that the caller may not set.

    Raises:
        Forbidden: only admins may make images public.
    """
    if visibility is Visibility.PUBLIC and not viewer.is_admin:
        raise Forbidden("You are not permitted to make images public")


def refuse_new_owner(viewer: Viewer) -> None:
    """Refuse a change of owner unless the caller is an admin.

    Raises:
        Forbidden: the caller is not an admin.
    """
    if not viewer.is_admin:
        raise Forbidden("Owner can't be updated by non admin.")
