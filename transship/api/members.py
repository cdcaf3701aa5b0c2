"""The members of images: the projects that an image is shared with.

The owner's project and admins find all members of an image; other projects find only their own membership.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from transship.api.attributes import LONGEST_NAME
from transship.api.bodies import parse_json_object
from transship.api.images import MEDIA_TYPE
from transship.api.site import Call
from transship.api.views import member_view
from transship.catalog import members
from transship.catalog.images import get_image, lock_image
from transship.domain.errors import BadRequest, Forbidden, MemberExists, MemberNotFound
from transship.domain.image import Image, Member, MemberStatus, Visibility
from transship.domain.policies import Action
from transship.domain.quota import refuse_over_count
from transship.domain.visibility import refuse_unless_seen

log = structlog.get_logger(__name__)

_STATUSES: Final = tuple(str(status) for status in MemberStatus)


def list_members(call: Call) -> Response:
    """``GET /v2/images/{image_id}/members``: the members that the caller can find."""
    with call.site.catalog.read() as connection:
        image = _shared(call, get_image(connection, call.image_id))
        call.require(Action.GET_MEMBERS, image)
        found = _found(call, connection, image)
    if not call.site.policy.allows(Action.GET_MEMBER, call.viewer, image):
        found = []
    body = {"members": [member_view(member) for member in found], "schema": "/v2/schemas/members"}
    return JSONResponse(body, media_type=MEDIA_TYPE)


def show_member(call: Call) -> Response:
    """``GET /v2/images/{image_id}/members/{member_id}``: one member; a refusal is a 404, so it tells nothing."""
    with call.site.catalog.read() as connection:
        image = get_image(connection, call.image_id)
        try:
            member = _member(call, connection, _shared(call, image))
        except Forbidden as refused:
            raise MemberNotFound(image.id, _project_in_path(call)) from refused
    return JSONResponse(member_view(member), media_type=MEDIA_TYPE)


def add_member(call: Call) -> Response:
    """``POST /v2/images/{image_id}/members``: share an image with a project, which has yet to accept it."""
    project, now = _project_in(parse_json_object(call.body)), datetime.now(UTC)
    with call.site.catalog.write() as connection:
        image = _shared(call, lock_image(connection, call.image_id))
        call.require(Action.ADD_MEMBER, image)
        there = len(image.members)
        refuse_over_count("image members", call.site.settings.quota.image_member_quota, there + 1)
        if project in image.members:
            raise MemberExists(image.id, project)
        member = Member(image.id, project, MemberStatus.PENDING, now, now)
        members.add_member(connection, member)
    log.info("image shared", image_id=image.id, project=project)
    return JSONResponse(member_view(member), media_type=MEDIA_TYPE)


def answer_membership(call: Call) -> Response:
    """``PUT /v2/images/{image_id}/members/{member_id}``: accept or reject an image, or leave that open again."""
    body = parse_json_object(call.body)
    if "status" not in body:
        raise BadRequest("Status not specified")
    with call.site.catalog.write() as connection:
        image = _shared(call, lock_image(connection, call.image_id))
        member = _member(call, connection, image)
        call.require(Action.MODIFY_MEMBER, image)
        if body["status"] not in _STATUSES:
            raise BadRequest('Incorrect request: Status must be "pending", "accepted" or "rejected".')
        member = replace(member, status=MemberStatus(str(body["status"])), updated_at=datetime.now(UTC))
        members.update_member(connection, member)
    return JSONResponse(member_view(member), media_type=MEDIA_TYPE)


def remove_member(call: Call) -> Response:
    """``DELETE /v2/images/{image_id}/members/{member_id}``: stop sharing an image with a project."""
    with call.site.catalog.write() as connection:
        image = _shared(call, lock_image(connection, call.image_id))
        member = _member(call, connection, image)
        call.require(Action.DELETE_MEMBER, image)
        members.remove_member(connection, member, datetime.now(UTC))
    log.info("image no longer shared", image_id=image.id, project=member.project)
    return Response(status_code=204)


def _shared(call: Call, image: Image) -> Image:
    """Return an image that can have members.

    Raises:
        ImageNotFound: the caller cannot find it.
        Forbidden: its visibility is another one.
    """
    refuse_unless_seen(call.viewer, image)
    if image.visibility is not Visibility.SHARED:
        raise Forbidden("Only shared images have members.")
    return image


def _found(call: Call, connection: Connection, image: Image) -> list[Member]:
    """Return the members of an image that the caller can find."""
    viewer = call.viewer
    finds_all = viewer.is_admin or viewer.owns(image.owner)
    found = members.members_of(connection, image.id)
    return [member for member in found if finds_all or member.project == viewer.project_id]


def _member(call: Call, connection: Connection, image: Image) -> Member:
    """Return the member in the path.

    Raises:
        Forbidden: the policy does not let the caller see members.
        MemberNotFound: the caller cannot find it.
    """
    call.require(Action.GET_MEMBER, image)
    project = _project_in_path(call)
    found = next((member for member in _found(call, connection, image) if member.project == project), None)
    if found is None:
        raise MemberNotFound(image.id, project)
    return found


def _project_in_path(call: Call) -> str:
    return str(call.request.path_params["member_id"])


def _project_in(body: dict[str, object]) -> str:
    if "member" not in body:
        raise BadRequest("Member to be added not specified")
    project = body["member"]
    if not project:
        raise BadRequest("Member can't be empty")
    if not isinstance(project, str) or len(project) > LONGEST_NAME:
        raise BadRequest(f"A member is the id of a project, a text of at most {LONGEST_NAME} characters")
    return project
