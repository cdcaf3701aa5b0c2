"""Which images a caller can find at all; the policies in `transship.domain.policies` decide what they may do."""

from __future__ import annotations

from dataclasses import dataclass, replace

from transship.domain.errors import Forbidden, ImageNotFound
from transship.domain.image import Image, ImageStatus, Visibility


@dataclass(frozen=True, slots=True)
class Viewer:
    """The caller, as far as visibility and policies need to know.

    Attributes:
        project_id: the caller's project; empty without an identity service.
        roles: lower case.
        is_admin: whether the caller passes the rule ``context_is_admin``.
        user_id: empty without an identity service.
        service_user_id, service_roles: of the service that sends the request for the user; empty if there is none.
    """

    project_id: str = ""
    roles: tuple[str, ...] = ()
    is_admin: bool = False
    user_id: str = ""
    service_user_id: str = ""
    service_roles: tuple[str, ...] = ()

    def owns(self, owner: str) -> bool:
        """Whether an owner is the caller's project; without a project they own nothing."""
        return bool(self.project_id) and owner == self.project_id


def may_see(viewer: Viewer, image: Image) -> bool:
    """Whether the caller can find the image; a member can, whether it accepted the image or not."""
    if viewer.is_admin or viewer.owns(image.owner):
        return True
    if image.visibility is Visibility.SHARED:
        return viewer.project_id in image.members
    return image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)


def shown_to(viewer: Viewer, image: Image) -> Image:
    """Return an image as the caller may see it: only admins see the locations of a deactivated image."""
    if image.status is ImageStatus.DEACTIVATED and not viewer.is_admin:
        return replace(image, locations=())
    return image


def refuse_unless_seen(viewer: Viewer, image: Image) -> None:
    """Refuse a caller who cannot find the image.

    Raises:
        ImageNotFound: as for an image that does not exist.
    """
    if not may_see(viewer, image):
        raise ImageNotFound(image.id)


def refuse_deactivated(viewer: Viewer, image: Image) -> None:
    """Refuse the data of a deactivated image unless the caller is an admin.

    Raises:
        Forbidden: the caller is not an admin.
    """
    if image.status is ImageStatus.DEACTIVATED and not viewer.is_admin:
        raise Forbidden("The requested image has been deactivated. Only admins may download it.")


def refuse_new_owner(viewer: Viewer) -> None:
    """Refuse a change of owner unless the caller is an admin.

    Raises:
        Forbidden: the caller is not an admin.
    """
    if not viewer.is_admin:
        raise Forbidden("Owner can't be updated by non admin.")
