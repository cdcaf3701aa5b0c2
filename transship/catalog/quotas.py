"""What the images of a project use. Nothing is counted up or down: every check computes it from the images' state.

So an import or upload that fails, or whose process dies, leaves no charge once its image is free again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select

from transship.catalog.locks import lock_name
from transship.catalog.schema import IMAGES, LEASES, LOCATIONS, STAGED, TARGETS
from transship.domain.image import ImageStatus
from transship.domain.quota import Claim, Resource
from transship.domain.staged import SOURCE_ROLE


def refuse_claim(connection: Connection, claim: Claim | None) -> None:
    """Refuse a claim that a quota does not allow; other claims of its project wait until this transaction ends.

    A writing transaction must begin with this, so that it locks the project before the image. What the claim's image
    uses is not counted twice. Storage that uploads and imports under way will fill is counted as used.

    Args:
        claim: None: there is no quota.

    Raises:
        StorageExceeded, ImageCountExceeded: nothing was changed.
    """
    if claim is None:
        return
    asked = claim.asked
    limits = {each: limit for each, limit in claim.quota.limits.items() if each in asked and limit.most >= 0}
    if not limits:
        return
    lock_name(connection, f"quota of {claim.quota.project}")
    for resource, limit in limits.items():
        mine = and_(_of(claim.quota.project), IMAGES.c.id != claim.image_id)
        statement = _with_coming(mine) if resource is Resource.SIZE else _USAGE[resource].where(mine)
        used = int(connection.execute(statement).scalar_one())
        limit.check(resource, used, asked[resource])


def usage_of(connection: Connection, project: str) -> Mapping[Resource, int]:
    """Return what a project uses, counted as Glance does: bytes of storage and staging, and images."""
    return {
        resource: int(connection.execute(statement.where(_of(project))).scalar_one())
        for resource, statement in _USAGE.items()
    }


def _of(project: str) -> ColumnElement[bool]:
    return and_(IMAGES.c.owner == project, IMAGES.c.deleted_at.is_(None))


def _sum(of: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(of), 0)


_HAS_DATA: Final = IMAGES.c.status.in_([ImageStatus.ACTIVE, ImageStatus.DEACTIVATED])
_ON_THE_WAY: Final = IMAGES.c.status.in_([ImageStatus.SAVING, ImageStatus.UPLOADING, ImageStatus.IMPORTING])

_SHOWN: Final = exists().where(
    LOCATIONS.c.image_id == TARGETS.c.image_id, LOCATIONS.c.store == TARGETS.c.store, LOCATIONS.c.state == "active"
)
_UNWRITTEN: Final = and_(
    # Targets of ended imports stay in the table, but no lease has their task.
    TARGETS.c.image_id == LEASES.c.image_id,
    TARGETS.c.task_id == LEASES.c.task_id,
    TARGETS.c.state != "failed",
    ~_SHOWN,
)
_COPIED: Final = and_(LEASES.c.task_id.is_not(None), exists().where(_UNWRITTEN))
"""The image is being copied to more stores."""

_STAGED: Final = (
    select(
        func.max(
            case(
                (STAGED.c.state == "sealed", STAGED.c.size),
                (STAGED.c.role == SOURCE_ROLE, STAGED.c.reserved_bytes),
                else_=0,
            )
        )
    )
    .where(STAGED.c.image_id == IMAGES.c.id, STAGED.c.state.in_(["part", "sealed"]))
    .scalar_subquery()
)
_BYTES: Final = func.coalesce(case((_HAS_DATA, IMAGES.c.size), else_=_STAGED), 0)
"""Size of an image's data, or what was reserved for them while they arrive."""

_LEASED: Final = IMAGES.join(LEASES, LEASES.c.image_id == IMAGES.c.id)

_USAGE: Final[Mapping[Resource, Select[Any]]] = {
    Resource.SIZE: select(_sum(IMAGES.c.size))
    .select_from(IMAGES.join(LOCATIONS, LOCATIONS.c.image_id == IMAGES.c.id))
    .where(LOCATIONS.c.state == "active"),
    Resource.STAGE: select(_sum(_BYTES))
    .select_from(_LEASED)
    .where(or_(IMAGES.c.status.in_([ImageStatus.UPLOADING, ImageStatus.IMPORTING]), and_(_HAS_DATA, _COPIED))),
    Resource.COUNT: select(func.count()).select_from(IMAGES),
    Resource.UPLOADING: select(func.count()).select_from(_LEASED).where(or_(_ON_THE_WAY, and_(_HAS_DATA, _COPIED))),
}

_COPIES_TO_COME: Final = select(func.count()).where(_UNWRITTEN).scalar_subquery()
_COMING: Final = (
    select(_sum(_BYTES * case((IMAGES.c.status == ImageStatus.SAVING, 1), else_=_COPIES_TO_COME)))
    .select_from(_LEASED)
    .where(LEASES.c.state != "free")
)


def _with_coming(mine: ColumnElement[bool]) -> Select[Any]:
    """Return the statement for the storage that images fill, or will fill when what is under way has ended."""
    stored, coming = _USAGE[Resource.SIZE].where(mine), _COMING.where(mine)
    return select(stored.scalar_subquery() + coming.scalar_subquery())
