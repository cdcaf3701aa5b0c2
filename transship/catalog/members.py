"""The projects that images are shared with."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from transship.catalog.notifications import announce_member
from transship.catalog.schema import MEMBERS
from transship.domain.image import Member, MemberStatus
from transship.domain.notification import EventType


def members_of(connection: Connection, image_id: str) -> list[Member]:
    """Return the members of an image, oldest first."""
    wanted = select(MEMBERS).where(MEMBERS.c.image_id == image_id).order_by(MEMBERS.c.created_at, MEMBERS.c.member)
    return [
        Member(row.image_id, row.member, MemberStatus(row.status), row.created_at, row.updated_at)
        for row in connection.execute(wanted)
    ]


def add_member(connection: Connection, member: Member) -> None:
    """Add a member; the caller has locked the image and made sure that it is not there."""
    connection.execute(
        insert(MEMBERS).values(
            image_id=member.image_id,
            member=member.project,
            status=member.status,
            created_at=member.created_at,
            updated_at=member.updated_at,
        )
    )
    announce_member(connection, EventType.MEMBER_CREATE, member)


def update_member(connection: Connection, member: Member) -> None:
    """Write a member's new status; the caller has locked the image."""
    values = {"status": member.status, "updated_at": member.updated_at}
    connection.execute(
        update(MEMBERS).where(MEMBERS.c.image_id == member.image_id, MEMBERS.c.member == member.project).values(values)
    )
    announce_member(connection, EventType.MEMBER_UPDATE, member)


def remove_member(connection: Connection, member: Member, now: datetime) -> None:
    """Remove a member; the caller has locked the image."""
    connection.execute(delete(MEMBERS).where(MEMBERS.c.image_id == member.image_id, MEMBERS.c.member == member.project))
    announce_member(connection, EventType.MEMBER_DELETE, member, now)
