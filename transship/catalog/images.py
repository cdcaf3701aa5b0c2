"""Image records: read as a whole, but written only where a caller changed something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Label, Row, Table, delete, insert, select, true, update
from sqlalchemy.exc import IntegrityError

from transship.catalog.notifications import announce_deleted, announce_image, is_wanted
from transship.catalog.schema import IMAGES, LEASES, LOCATIONS, MEMBERS, PROPERTIES, TAGS, TARGETS
from transship.catalog.types import JsonRows, in_seconds
from transship.domain.errors import ImageChanged, ImageExists, ImageNotFound
from transship.domain.image import Image, ImageStatus, Location, Visibility
from transship.domain.notification import EventType

FIELDS = (
    "name", "visibility", "protected", "os_hidden", "disk_format", "container_format", "min_disk", "min_ram", "owner"
)  # fmt: skip
"""Columns that clients may write."""


def insert_image(connection: Connection, image: Image) -> None:
    """Add a new image with its properties and tags.

    Raises:
        ImageExists: an image with that id exists or existed.
    """
    try:
        connection.execute(
            insert(IMAGES).values(
                id=image.id,
                status=image.status,
                created_at=image.created_at,
                updated_at=image.updated_at,
                version=image.version,
                has_imported=False,
                **{field: getattr(image, field) for field in FIELDS},
            )
        )
    except IntegrityError as error:
        raise ImageExists(image.id) from error
    connection.execute(
        insert(LEASES).values(image_id=image.id, epoch=0, state="free", since=in_seconds(0)),
    )
    _add_properties(connection, image.id, image.properties)
    _add_tags(connection, image.id, image.tags)
    announce_image(connection, EventType.IMAGE_CREATE, image)


def get_image(connection: Connection, image_id: str) -> Image:
    """Return an image.

    Raises:
        ImageNotFound: there is none of that id, or it was deleted.
    """
    images = load_images(connection, [image_id])
    if not images:
        raise ImageNotFound(image_id)
    return images[0]


def lock_image(connection: Connection, image_id: str) -> Image:
    """Return an image, and lock it against other writers until this transaction ends.

    A transaction that bases a write on an image's state must begin with this.

    Raises:
        ImageNotFound: there is none of that id, or it was deleted.
    """
    _lock(connection, image_id)
    return get_image(connection, image_id)


def _lock(connection: Connection, image_id: str) -> None:
    connection.execute(select(LEASES.c.image_id).where(LEASES.c.image_id == image_id).with_for_update())


def load_images(connection: Connection, image_ids: Sequence[str]) -> list[Image]:
    """Return the images of those ids that are not deleted, in the order of the ids; one statement for any number."""
    if not image_ids:
        return []
    rows = connection.execute(_WHOLE.where(IMAGES.c.id.in_(image_ids), IMAGES.c.deleted_at.is_(None)))
    images = {row.id: _image(row) for row in rows}
    return [images[id_] for id_ in image_ids if id_ in images]


def _rows_of(table: Table, *columns: ColumnElement[Any], wanted: ColumnElement[bool] | None = None) -> Label[Any]:
    """Return the expression for the rows of a table that belong to an image; `_image` reads them."""
    rows = select(JsonRows(*columns)).where(table.c.image_id == IMAGES.c.id, true() if wanted is None else wanted)
    return rows.scalar_subquery().label(table.name)


_WHOLE: Final = select(
    IMAGES,
    LEASES.c.task_id.label("lock"),
    _rows_of(PROPERTIES, PROPERTIES.c.name, PROPERTIES.c.value),
    _rows_of(TAGS, TAGS.c.tag),
    _rows_of(MEMBERS, MEMBERS.c.member),
    _rows_of(
        LOCATIONS,
        LOCATIONS.c.id,
        LOCATIONS.c.store,
        LOCATIONS.c.url,
        LOCATIONS.c.size,
        LOCATIONS.c.damage,
        wanted=LOCATIONS.c.state == "active",
    ),
    _rows_of(TARGETS, TARGETS.c.store, TARGETS.c.state),
).outerjoin(LEASES, LEASES.c.image_id == IMAGES.c.id)


def _image(row: Row[Any]) -> Image:
    # Sorted by name, as in Glance; not by the database, whose collation may differ.
    targets = sorted(row.import_targets or ())
    importing = tuple(store for store, state in targets if state in ("waiting", "uploading", "written"))
    failed = tuple(store for store, state in targets if state == "failed")
    return Image(
        id=row.id,
        status=ImageStatus(row.status),
        created_at=row.created_at,
        updated_at=row.updated_at,
        name=row.name,
        visibility=Visibility(row.visibility),
        protected=row.protected,
        os_hidden=row.os_hidden,
        disk_format=row.disk_format,
        container_format=row.container_format,
        size=row.size,
        virtual_size=row.virtual_size,
        checksum=row.checksum,
        os_hash_algo=row.os_hash_algo,
        os_hash_value=row.os_hash_value,
        min_disk=row.min_disk,
        min_ram=row.min_ram,
        owner=row.owner,
        properties=dict(row.image_properties or ()),
        tags=frozenset(tag for (tag,) in row.image_tags or ()),
        members=frozenset(member for (member,) in row.image_members or ()),
        locations=tuple(Location(*location) for _, *location in sorted(row.locations or ())),
        import_task=row.lock,
        importing_to=importing if row.has_imported else None,
        failed_import=failed if row.has_imported else None,
        import_message=row.import_message,
        version=row.version,
    )


def update_image(connection: Connection, before: Image, after: Image, now: datetime) -> None:
    """Write the differences between two states of an image in fields that clients may change.

    A running import writes other columns, so neither overwrites the other.

    Raises:
        ImageNotFound: the image was deleted meanwhile.
        ImageChanged: another client wrote it after ``before`` was read; nothing was written.
    """
    _lock(connection, before.id)
    changed = {field: getattr(after, field) for field in FIELDS if getattr(after, field) != getattr(before, field)}
    written = connection.execute(
        update(IMAGES)
        .where(IMAGES.c.id == before.id, IMAGES.c.version == before.version, IMAGES.c.deleted_at.is_(None))
        .values(updated_at=now, version=before.version + 1, **changed)
    )
    if written.rowcount == 0:
        get_image(connection, before.id)
        raise ImageChanged(before.id)
    removed = [name for name in before.properties if name not in after.properties]
    new = {name: value for name, value in after.properties.items() if before.properties.get(name) != value}
    if removed or new:
        connection.execute(
            delete(PROPERTIES).where(PROPERTIES.c.image_id == before.id, PROPERTIES.c.name.in_([*removed, *new]))
        )
    _add_properties(connection, before.id, new)
    if before.tags - after.tags:
        connection.execute(delete(TAGS).where(TAGS.c.image_id == before.id, TAGS.c.tag.in_(before.tags - after.tags)))
    _add_tags(connection, before.id, after.tags - before.tags)
    announce_change(connection, before.id)


def announce_change(connection: Connection, image_id: str) -> None:
    """Announce that this transaction changed an image; reads the image only if a sink takes the notification."""
    if is_wanted(connection, EventType.IMAGE_UPDATE):
        announce_image(connection, EventType.IMAGE_UPDATE, get_image(connection, image_id))


def set_properties(connection: Connection, image_id: str, properties: Mapping[str, str]) -> None:
    """Set or overwrite extra properties; others are not changed."""
    connection.execute(
        delete(PROPERTIES).where(PROPERTIES.c.image_id == image_id, PROPERTIES.c.name.in_(list(properties)))
    )
    _add_properties(connection, image_id, properties)


def set_status(connection: Connection, image_id: str, status: ImageStatus, now: datetime) -> None:
    """Change an image's status; the caller has locked the image and checked that this is allowed."""
    connection.execute(update(IMAGES).where(IMAGES.c.id == image_id).values(status=status, updated_at=now))


def mark_deleted(connection: Connection, image_id: str, now: datetime) -> None:
    """Delete an image's record and mark its locations for removal, in one step.

    The lease's epoch is increased, so a running import loses its lease. The caller removes
    the data of the ``deleting`` locations afterwards; if it cannot, housekeeping does.

    Raises:
        ImageNotFound: there is none of that id, or it was deleted before.
    """
    announce_deleted(connection, lock_image(connection, image_id), now)
    connection.execute(
        update(IMAGES).where(IMAGES.c.id == image_id).values(status=ImageStatus.DELETED, deleted_at=now, updated_at=now)
    )
    connection.execute(
        update(LEASES)
        .where(LEASES.c.image_id == image_id)
        .values(epoch=LEASES.c.epoch + 1, state="free", task_id=None, owner=None, since=in_seconds(0), expires_at=None)
    )
    connection.execute(
        update(LOCATIONS).where(LOCATIONS.c.image_id == image_id).values(state="deleting", updated_at=now)
    )
    for table in (PROPERTIES, TAGS, MEMBERS, TARGETS):
        connection.execute(delete(table).where(table.c.image_id == image_id))


def _add_properties(connection: Connection, image_id: str, properties: Mapping[str, str]) -> None:
    if properties:
        rows = [{"image_id": image_id, "name": name, "value": value} for name, value in properties.items()]
        connection.execute(insert(PROPERTIES), rows)


def _add_tags(connection: Connection, image_id: str, tags: frozenset[str]) -> None:
    if tags:
        connection.execute(insert(TAGS), [{"image_id": image_id, "tag": tag} for tag in tags])
