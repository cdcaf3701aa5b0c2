"""JSON patches of images: strict parsing, and applying them to a record. Pure functions.

Source: Images API v2, "Update image"; RFC 6902 and its draft 4 for the older media type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from transship.api.attributes import (
    WRITABLE,
    refuse_property,
    refuse_protected,
    refuse_read_only,
    refuse_reserved,
    with_attribute,
)
from transship.api.schemas import Schemas
from transship.domain.errors import BadRequest, Forbidden, MediaTypeRefused, PropertyConflict
from transship.domain.image import Image, ImageStatus
from transship.domain.locations import NewLocation
from transship.domain.protections import Operation
from transship.domain.visibility import Viewer, refuse_new_owner

RFC_6902: Final = "application/openstack-images-v2.1-json-patch"
DRAFT_4: Final = "application/openstack-images-v2.0-json-patch"
MEDIA_TYPES: Final = (RFC_6902, DRAFT_4)

LOCATIONS: Final = "locations"
_FORMATS: Final = ("disk_format", "container_format")


class Verb(StrEnum):
    """The operation of a change."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an image.

    Attributes:
        name: attribute or extra property, or ``locations``.
        value: valid under the image schema; None for a removal.
        new_only: adding an existing name is a conflict (draft 4).
        position: of a location in the list, or ``-``; empty for all other changes.
        locations: the value of ``locations``.
    """

    verb: Verb
    name: str
    value: object = None
    new_only: bool = False
    position: str = ""
    locations: tuple[NewLocation, ...] = ()


def parse_patch(content_type: str, body: object, schemas: Schemas) -> tuple[Change, ...]:
    """Parse the changes of a patch.

    Args:
        content_type: the Content-Type header.
        body: the decoded JSON.

    Raises:
        MediaTypeRefused: it is not an image patch.
        BadRequest: it is malformed, or a value does not fit the schema.
        Forbidden: an attribute is read-only or reserved.
    """
    media_type = content_type.partition(";")[0].strip()
    if media_type not in MEDIA_TYPES:
        raise MediaTypeRefused(media_type or "none", MEDIA_TYPES)
    if not isinstance(body, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    return tuple(_change(entry, schemas, draft_4=media_type == DRAFT_4) for entry in body)


def _change(entry: object, schemas: Schemas, *, draft_4: bool) -> Change:
    if not isinstance(entry, Mapping):
        raise BadRequest("Operations must be JSON objects.")
    verb = _verb_by_member(entry) if draft_4 else _verb_by_op(entry)
    pointer = entry.get(verb if draft_4 else "path")
    if not isinstance(pointer, str):
        raise BadRequest("Unable to find 'path' in JSON Schema change" if pointer is None else "'path' must be text.")
    name, *deeper = _steps(pointer)
    if len(deeper) != (1 if name == LOCATIONS and verb is not Verb.REPLACE else 0):
        raise BadRequest(f"Invalid JSON pointer for this resource: '{pointer}'")
    if verb is not Verb.REMOVE and "value" not in entry:
        raise BadRequest("Operation 'add' and 'replace' require a member named \"value\".")
    refuse_read_only(name)
    if name == "id":
        raise Forbidden("Attribute 'id' is read-only.")
    refuse_reserved(name)
    if name == LOCATIONS:
        return _location_change(verb, "".join(deeper), entry.get("value"))
    if verb is Verb.REMOVE:
        return Change(verb, name)
    schemas.judge_image({name: entry["value"]})
    return Change(verb, name, entry["value"], new_only=draft_4)


def _location_change(verb: Verb, position: str, value: object) -> Change:
    match verb:
        case Verb.ADD:
            locations: tuple[NewLocation, ...] = (_new_location(value),)
        case Verb.REPLACE:
            if not isinstance(value, list):
                raise BadRequest("The value of 'locations' must be a list.")
            locations = tuple(_new_location(each) for each in value)
        case Verb.REMOVE:
            locations = ()
    return Change(verb, LOCATIONS, position=position, locations=locations)


def _new_location(value: object) -> NewLocation:
    location = NewLocation.of(value, checksum=True)
    if location.expected is not None:
        location.expected.refuse_other_than_digests()
    return location


def _verb_by_op(entry: Mapping[str, object]) -> Verb:
    verb = entry.get("op")
    if "op" not in entry:
        raise BadRequest("Unable to find 'op' in JSON Schema change")
    if not isinstance(verb, str) or verb not in set(Verb):
        raise BadRequest(f"Operations must be one of: {', '.join(Verb)}.")
    return Verb(verb)


def _verb_by_member(entry: Mapping[str, object]) -> Verb:
    verbs = [verb for verb in Verb if verb in entry]
    if len(verbs) != 1:
        raise BadRequest('Operation objects must contain exactly one member named "add", "remove" or "replace".')
    return verbs[0]


def _steps(pointer: str) -> list[str]:
    """Return the steps of a JSON pointer.

    Raises:
        BadRequest: it does not begin with ``/``, has an empty step, or an escape other than ``~0`` and ``~1``.
    """
    if not pointer.startswith("/"):
        raise BadRequest(f'Pointer `{pointer}` does not start with "/".')
    steps = pointer[1:].split("/")
    if not all(step.strip() for step in steps):
        raise BadRequest(f"Pointer `{pointer}` contains an empty part.")
    if re.search(r"~(?![01])", pointer):
        raise BadRequest(f'Pointer `{pointer}` contains "~" not part of a recognized escape sequence.')
    return [step.replace("~1", "/").replace("~0", "~") for step in steps]


def apply_changes(
    image: Image, changes: tuple[Change, ...], viewer: Viewer, may: Callable[[Operation, str], bool]
) -> Image:
    """Return the image after all changes but those of its locations.

    Args:
        may: whether the caller may do something with an extra property.

    Raises:
        PropertyConflict: a property that should exist does not, or vice versa.
        Forbidden: an attribute or property cannot be removed, or cannot be changed now or by this caller.
        BadRequest: the name or value of an extra property is too long.
    """
    properties = dict(image.properties)
    for change in changes:
        if change.name == LOCATIONS:
            continue
        if change.name in WRITABLE:
            image = _with_attribute_changed(image, change, viewer)
        else:
            _change_property(properties, change, may)
    return replace(image, properties=properties)


def _with_attribute_changed(image: Image, change: Change, viewer: Viewer) -> Image:
    if change.verb is Verb.REMOVE:
        raise Forbidden(f"Property {change.name} may not be removed.")
    if change.verb is Verb.ADD and change.new_only:
        raise PropertyConflict(change.name, "already present.")
    _refuse_now(image, change, viewer)
    return with_attribute(image, change.name, change.value)


def _change_property(properties: dict[str, str], change: Change, may: Callable[[Operation, str], bool]) -> None:
    """Change an image's extra properties in place: copying them for each change would take quadratic time."""
    there = change.name in properties
    if change.verb is not Verb.ADD and not there:
        raise PropertyConflict(change.name, "does not exist.")
    if change.verb is Verb.REMOVE:
        refuse_protected(change.name, permitted=may(Operation.DELETE, change.name))
        del properties[change.name]
        return
    if change.verb is Verb.ADD and change.new_only and there:
        raise PropertyConflict(change.name, "already present.")
    text = "" if change.value is None else str(change.value)
    refuse_property(change.name, text)
    # To a caller who may not read it, a property does not exist yet.
    operation = Operation.UPDATE if there and may(Operation.READ, change.name) else Operation.CREATE
    refuse_protected(change.name, permitted=may(operation, change.name))
    if change.value is None:
        properties.pop(change.name, None)
    else:
        properties[change.name] = text


def _refuse_now(image: Image, change: Change, viewer: Viewer) -> None:
    if change.name in _FORMATS and image.status is not ImageStatus.QUEUED:
        raise Forbidden(f"Attribute {change.name} can be only replaced for a queued image.")
    if change.name == "owner":
        refuse_new_owner(viewer)
