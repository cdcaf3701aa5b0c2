"""The rules of a policy file: their names, their defaults, and the operations that ask them.

This table is used to enforce them, for ``config/samples/policy.yaml``, and for ``docs/policies.md``.

Source: Glance's policies in code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """The rules that operations of the API ask."""

    ADD_IMAGE = "add_image"
    GET_IMAGE = "get_image"
    GET_IMAGES = "get_images"
    MODIFY_IMAGE = "modify_image"
    DELETE_IMAGE = "delete_image"
    PUBLICIZE_IMAGE = "publicize_image"
    COMMUNITIZE_IMAGE = "communitize_image"
    UPLOAD_IMAGE = "upload_image"
    DOWNLOAD_IMAGE = "download_image"
    COPY_IMAGE = "copy_image"
    GET_IMAGE_LOCATION = "get_image_location"
    SET_IMAGE_LOCATION = "set_image_location"
    DELETE_IMAGE_LOCATION = "delete_image_location"
    ADD_IMAGE_LOCATION = "add_image_location"
    FETCH_IMAGE_LOCATION = "fetch_image_location"
    DEACTIVATE = "deactivate"
    REACTIVATE = "reactivate"
    TASKS_API_ACCESS = "tasks_api_access"
    STORES_INFO_DETAIL = "stores_info_detail"
    ADD_MEMBER = "add_member"
    GET_MEMBER = "get_member"
    GET_MEMBERS = "get_members"
    MODIFY_MEMBER = "modify_member"
    DELETE_MEMBER = "delete_member"


CONTEXT_IS_ADMIN: Final = "context_is_admin"
"""Rule for callers who may find every image; many defaults refer to it."""

_ADMIN: Final = f"rule:{CONTEXT_IS_ADMIN}"
_SERVICE: Final = "rule:service_api"
_OWN: Final = "project_id:%(project_id)s"
_MEMBER_OF_IMAGE: Final = "project_id:%(member_id)s"
_READABLE: Final = (
    f"{_OWN} or {_MEMBER_OF_IMAGE} or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s"
)
_BY_MEMBERS: Final = f"{_ADMIN} or (role:member and {_OWN})"
_BY_READERS: Final = f"{_ADMIN} or (role:reader and {_OWN})"
_BY_MEMBERS_IF_READABLE: Final = f"{_ADMIN} or (role:member and ({_READABLE}))"
_BY_READERS_OR_MEMBERS_OF_IMAGE: Final = f"{_ADMIN} or role:reader and ({_OWN} or {_MEMBER_OF_IMAGE})"

_IMAGE: Final = "/v2/images/{image_id}"


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule.

    Attributes:
        default: in the language of oslo.policy.
        description: what the rule allows.
        operations: method and path of each operation that asks it; empty for rules that only other rules refer to.
    """

    name: str
    default: str
    description: str
    operations: tuple[str, ...] = ()


RULES: Final = (
    PolicyRule("default", "", "What rules that Glance once left open refer to"),
    PolicyRule(CONTEXT_IS_ADMIN, "role:admin", "Who is an admin, and finds every image"),
    PolicyRule("service_api", "role:service or role:admin", "Who is another service of the cloud"),
    PolicyRule(
        Action.ADD_IMAGE,
        f"{_ADMIN} or (role:member and {_OWN} and project_id:%(owner)s)",
        "Create an image",
        ("POST /v2/images",),
    ),
    PolicyRule(
        Action.GET_IMAGE,
        f"{_ADMIN} or (role:reader and ({_READABLE}))",
        "Show an image and its tasks; who may not gets 404, also from other operations",
        (f"GET {_IMAGE}", f"GET {_IMAGE}/tasks", "GET /v2/images"),
    ),
    PolicyRule(Action.GET_IMAGES, _BY_READERS, "List images", ("GET /v2/images",)),
    PolicyRule(
        Action.MODIFY_IMAGE,
        _BY_MEMBERS,
        "Change an image, stage its data, import them",
        (
            *(f"PATCH {_IMAGE}", f"PUT {_IMAGE}/tags/{{tag}}", f"DELETE {_IMAGE}/tags/{{tag}}"),
            *(f"PUT {_IMAGE}/stage", f"POST {_IMAGE}/import"),
        ),
    ),
    PolicyRule(Action.DELETE_IMAGE, _BY_MEMBERS, "Delete an image", (f"DELETE {_IMAGE}",)),
    PolicyRule(
        Action.PUBLICIZE_IMAGE,
        _ADMIN,
        "Make an image public, when it exists or as a new one",
        (f"PATCH {_IMAGE}", "POST /v2/images"),
    ),
    PolicyRule(
        Action.COMMUNITIZE_IMAGE,
        _BY_MEMBERS,
        "Make an image one of the community, when it exists or as a new one",
        (f"PATCH {_IMAGE}", "POST /v2/images"),
    ),
    PolicyRule(
        Action.UPLOAD_IMAGE,
        _BY_MEMBERS,
        "Upload image data directly, without an import",
        (f"PUT {_IMAGE}/file",),
    ),
    PolicyRule(
        Action.DOWNLOAD_IMAGE,
        _BY_MEMBERS_IF_READABLE,
        "Download image data",
        (f"GET {_IMAGE}/file",),
    ),
    PolicyRule(
        Action.COPY_IMAGE, _ADMIN, "Copy an image to further stores with copy-image", (f"POST {_IMAGE}/import",)
    ),
    PolicyRule(
        Action.GET_IMAGE_LOCATION,
        _BY_READERS,
        "See where the data are, if the site shows it; remove the copy of one store, together with"
        " delete_image_location",
        ("DELETE /v2/stores/{store}/{image_id}",),
    ),
    PolicyRule(
        Action.SET_IMAGE_LOCATION,
        _BY_MEMBERS,
        "Change where the data are, if the site shows it",
        (f"PATCH {_IMAGE}",),
    ),
    PolicyRule(
        Action.DELETE_IMAGE_LOCATION,
        _ADMIN,
        "Remove a location with PATCH; remove the copy of one store, together with get_image_location",
        (f"PATCH {_IMAGE}", "DELETE /v2/stores/{store}/{image_id}"),
    ),
    PolicyRule(
        Action.ADD_IMAGE_LOCATION,
        f"{_SERVICE} or (role:member and {_OWN} and project_id:%(owner)s)",
        "Register where the data are; who lacks the role service may register http and https URLs",
        (f"POST {_IMAGE}/locations",),
    ),
    PolicyRule(
        Action.FETCH_IMAGE_LOCATION,
        _SERVICE,
        "List where the data are",
        (f"GET {_IMAGE}/locations",),
    ),
    PolicyRule(Action.DEACTIVATE, _BY_MEMBERS, "Deactivate an image", (f"POST {_IMAGE}/actions/deactivate",)),
    PolicyRule(Action.REACTIVATE, _BY_MEMBERS, "Reactivate an image", (f"POST {_IMAGE}/actions/reactivate",)),
    PolicyRule(Action.ADD_MEMBER, _BY_MEMBERS, "Share an image with a project", (f"POST {_IMAGE}/members",)),
    PolicyRule(
        Action.GET_MEMBER,
        _BY_READERS_OR_MEMBERS_OF_IMAGE,
        "Find a member of an image; who may not gets 404",
        (f"GET {_IMAGE}/members/{{member_id}}",),
    ),
    PolicyRule(
        Action.GET_MEMBERS, _BY_READERS_OR_MEMBERS_OF_IMAGE, "List the members of an image", (f"GET {_IMAGE}/members",)
    ),
    PolicyRule(
        Action.MODIFY_MEMBER,
        f"{_ADMIN} or (role:member and {_MEMBER_OF_IMAGE})",
        "Accept or reject an image",
        (f"PUT {_IMAGE}/members/{{member_id}}",),
    ),
    PolicyRule(
        Action.DELETE_MEMBER,
        _BY_MEMBERS,
        "Stop sharing an image with a project",
        (f"DELETE {_IMAGE}/members/{{member_id}}",),
    ),
    PolicyRule(
        Action.TASKS_API_ACCESS,
        _ADMIN,
        "Use the tasks API; who is no admin finds the tasks of their own project",
        ("GET /v2/tasks", "GET /v2/tasks/{task_id}"),
    ),
    PolicyRule(
        Action.STORES_INFO_DETAIL,
        f"{_ADMIN} or {_SERVICE}",
        "Show the details of stores",
        ("GET /v2/info/stores/detail",),
    ),
)
"""All rules that a policy file can change."""

UNSERVED: Final[Mapping[str, str]] = {
    "download_from_store": _BY_MEMBERS_IF_READABLE,
}
"""Rules of Glance whose operations this release does not have, and their defaults; others must not be set."""

_WITHOUT_EFFECT: Final = frozenset(
    {
        *("get_task", "get_tasks", "add_task", "modify_task"),  # no operation of Glance asks them any more
        *("manage_image_cache", "list_cached_nodes"),
        *("cache_image", "cache_list", "cache_delete", "cache_clean", "cache_prune"),
    }
)


def has_no_effect(name: str) -> bool:
    """Whether a rule of Glance can be ignored: it is for metadata definitions, the image cache, or for nothing."""
    return name in _WITHOUT_EFFECT or "metadef" in name


_NEVER_OPEN: Final = frozenset(
    {
        *(Action.PUBLICIZE_IMAGE, Action.COPY_IMAGE, Action.TASKS_API_ACCESS, Action.STORES_INFO_DETAIL),
        *(Action.ADD_IMAGE_LOCATION, Action.FETCH_IMAGE_LOCATION),
    }
)

OWNERS_ONLY: Final = frozenset(
    {
        *(Action.ADD_IMAGE, Action.MODIFY_IMAGE, Action.DELETE_IMAGE, Action.UPLOAD_IMAGE),
        *(Action.DELETE_IMAGE_LOCATION, Action.DEACTIVATE, Action.REACTIVATE),
        *(Action.ADD_MEMBER, Action.DELETE_MEMBER),
    }
)
"""Rules that only the owner's project and admins pass, whatever they say, if ``api.enforce_new_defaults`` is off."""


def defaults(*, new: bool = True) -> dict[str, str]:
    """Return the default of every rule by name.

    Args:
        new: False for Glance's older defaults, which leave most operations open.
    """
    open_to_all = {rule.name for rule in RULES if rule.operations and not new} - _NEVER_OPEN
    return {
        str(rule.name): f"{rule.default} or rule:default" if rule.name in open_to_all else rule.default
        for rule in RULES
    }
