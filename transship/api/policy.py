"""Policies: who may do what, in the language of OpenStack's policy files, which oslo.policy parses and applies."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from transship.api.policy_file import Rules, enforcer_of, read_policy_file, rules_in
from transship.domain.errors import ConfigurationRefused, Forbidden, ImageNotFound
from transship.domain.image import Image, Visibility
from transship.domain.policies import CONTEXT_IS_ADMIN, OWNERS_ONLY, Action
from transship.domain.visibility import Viewer, refuse_unless_seen

log = structlog.get_logger(__name__)

_OF_VISIBILITY: Final = {
    Visibility.PUBLIC: Action.PUBLICIZE_IMAGE,
    Visibility.COMMUNITY: Action.COMMUNITIZE_IMAGE,
}
_OF_LISTS: Final = frozenset({Action.GET_IMAGE, Action.GET_IMAGES})


class Policy:
    """The rules in force; a changed file takes effect with the next request.

    If the file is missing or broken after a change, that is logged once and the former rules stay in force:
    oslo.policy's own reader would apply the defaults, which may allow more than the operator wants.

    Args:
        file: the policy file; None: the defaults apply.
        text: the file's text in the settings in force. It is used at start if the file itself cannot be used,
            because an invalid edit must not stop a running service. None: unknown.
        new_defaults: False for Glance's older defaults.

    Raises:
        ConfigurationRefused: the file cannot be read, or has a rule that cannot be used.
    """

    def __init__(self, file: Path | None, text: str | None = None, *, new_defaults: bool = True) -> None:
        self._lock = threading.Lock()
        self._file, self._new_defaults = file, new_defaults
        self._read_as = _stamp_of(file)
        try:
            self._load(read_policy_file(file) if file is not None else {})
        except ConfigurationRefused as refused:
            if file is None or text is None:
                raise
            log.error("policy file cannot be used; using the rules from the settings in force", reason=str(refused))  # noqa: TRY400 - as below
            self._load(rules_in(text, file))

    def _load(self, changed: Rules) -> None:
        self._enforcer = enforcer_of(changed, self._file, new_defaults=self._new_defaults)
        self._changed = frozenset(changed)

    def _follow_file(self) -> None:
        with self._lock:
            if self._file is None or (stamp := _stamp_of(self._file)) == self._read_as:
                return
            self._read_as = stamp
            try:
                self._load(read_policy_file(self._file))
            except ConfigurationRefused as refused:
                log.error("policy file cannot be used; the former rules stay in force", reason=str(refused))  # noqa: TRY400 - the trace says no more
            else:
                log.info("rules of the policy file read again", file=str(self._file))

    def judged(self, viewer: Viewer) -> Viewer:
        """Return a caller of whom it is known whether they are an admin."""
        return replace(viewer, is_admin=self.allows(CONTEXT_IS_ADMIN, viewer))

    def allows(self, rule: str, viewer: Viewer, image: Image | None = None) -> bool:
        """Whether a rule allows the caller its operation.

        Args:
            image: what the operation is about; None: the caller's project.
        """
        self._follow_file()
        target = _target(viewer, image)
        if not self._new_defaults and not viewer.is_admin:
            owns = viewer.owns(str(target["owner"]))
            if (rule in OWNERS_ONLY and not owns) or (rule == Action.MODIFY_MEMBER and owns):
                return False
        return bool(self._enforcer.enforce(rule, target, _credentials(viewer)))

    def knows(self, rule: str) -> bool:
        """Whether there is a rule of that name, in the policy file or by default."""
        return rule in self._enforcer.rules

    def refuse(self, rule: str, viewer: Viewer, image: Image | None = None) -> None:
        """Refuse a caller unless a rule allows the operation.

        Args:
            image: as for `allows`; a new one, or one that the caller has been shown to find.

        Raises:
            Forbidden: the rule does not allow the operation.
        """
        if not self.allows(rule, viewer, image):
            raise Forbidden(f"You are not authorized to complete {rule} action.")

    def refuse_unless(self, rule: str, viewer: Viewer, image: Image) -> None:
        """Refuse a caller unless they can find an image and a rule allows the operation on it.

        Raises:
            ImageNotFound: the caller cannot find the image, or may not be shown it.
            Forbidden: the caller may be shown the image, but the rule does not allow the operation.
        """
        refuse_unless_seen(viewer, image)
        if self.allows(rule, viewer, image):
            return
        if rule == Action.GET_IMAGE or not self.allows(Action.GET_IMAGE, viewer, image):
            raise ImageNotFound(image.id)
        raise Forbidden(f"You are not authorized to complete {rule} action.")

    def refuse_create(self, viewer: Viewer, image: Image) -> None:
        """Refuse a new image that the caller may not create.

        Raises:
            Forbidden: the rules do not allow this image, its owner or its visibility.
        """
        if image.owner != viewer.project_id and not self.allows(Action.ADD_IMAGE, viewer, image):
            raise Forbidden(f"You are not permitted to create images owned by '{image.owner}'")
        self.refuse(Action.ADD_IMAGE, viewer, image)
        self.refuse_visibility(viewer, image, image.visibility)

    def refuse_visibility(self, viewer: Viewer, image: Image, visibility: Visibility) -> None:
        """Refuse a visibility that the caller may not give an image.

        Raises:
            Forbidden: the rule of that visibility does not allow it.
        """
        if rule := _OF_VISIBILITY.get(visibility):
            self.refuse(rule, viewer, image)

    def listed(self, viewer: Viewer, images: list[Image]) -> list[Image]:
        """Return those of a list's images that the caller may be shown.

        By default, whoever may list images may be shown each of them that they can find.
        """
        if not self._changed & _OF_LISTS:
            return images
        return [image for image in images if self.allows(Action.GET_IMAGE, viewer, image)]


def _stamp_of(file: Path | None) -> tuple[int, int, int] | None:
    """Return a value that changes when a file is written or replaced; None if there is no file."""
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else None


def _credentials(viewer: Viewer) -> dict[str, object]:
    """Return what rules can say of a caller, by Keystone's names.

    What a caller does not have is left out: without a project they own nothing, not even images without an owner.
    """
    named = {"project_id": viewer.project_id, "user_id": viewer.user_id, "service_user_id": viewer.service_user_id}
    known: Mapping[str, object] = {name: value for name, value in named.items() if value}
    return {**known, "roles": list(viewer.roles), "service_roles": list(viewer.service_roles)}


def _target(viewer: Viewer, image: Image | None) -> dict[str, object]:
    """Return what rules can say of an image, or of the caller's project, by Glance's names."""
    owner = viewer.project_id if image is None else image.owner
    of_project: dict[str, object] = {"owner": owner, "project_id": owner}
    if image is None:
        return of_project
    return {
        # A property must not pass for a membership.
        **{name: value for name, value in image.properties.items() if name != "member_id"},
        **({"member_id": viewer.project_id} if viewer.project_id in image.members else {}),
        "id": image.id,
        "image_id": image.id,
        "name": image.name,
        "status": str(image.status),
        "visibility": str(image.visibility),
        "protected": image.protected,
        "os_hidden": image.os_hidden,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        **of_project,
    }
