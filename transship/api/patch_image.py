"""``PATCH /v2/images/{image_id}``: change attributes, properties and locations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from transship.api.bodies import parse_json, read_body
from transship.api.copies import remove_withdrawn
from transship.api.images import change_image, image_response, show_image
from transship.api.locations import find_location, judge_url
from transship.api.patch import LOCATIONS, Change, Verb, apply_changes, parse_patch
from transship.api.site import Call
from transship.catalog.images import announce_change, get_image
from transship.catalog.locations import add_location, forget_shown
from transship.catalog.removal import Claim, give_up_copy
from transship.domain.admission import refuse_without_formats
from transship.domain.errors import (
    AlreadyInStore,
    BadRequest,
    Forbidden,
    ImportRunning,
    PropertyConflict,
    WrongStatus,
)
from transship.domain.image import Image, ImageStatus, Location, Visibility
from transship.domain.locations import FoundLocation, NewLocation, ValidationData
from transship.domain.placement import best_first
from transship.domain.policies import Action
from transship.domain.quota import Claim as QuotaClaim
from transship.domain.quota import refuse_over_count

Found = Mapping[NewLocation, FoundLocation]
"""What was found at the locations of a patch, before the image was locked."""


async def patch_image(call: Call) -> Response:
    """``PATCH /v2/images/{image_id}``: change attributes, properties and locations.

    Locations are looked up before the image is locked, because servers and stores may take long to answer.
    """
    content_type = call.request.headers.get("content-type", "")
    body = await read_body(call.request, call.site.settings.api.max_body_bytes)
    # Check the media type first: the body of another type need not be JSON.
    parse_patch(content_type, [], call.site.schemas)
    changes = parse_patch(content_type, parse_json(body), call.site.schemas)
    asked = [location for change in changes for location in change.locations]
    if any(change.name == LOCATIONS for change in changes):
        await run_in_threadpool(_judge_locations, call, changes)
    for location in asked:
        await judge_url(call, location)
    if not changes:
        return await run_in_threadpool(show_image, call)
    return await run_in_threadpool(_patch, call, changes, asked)


def _patch(call: Call, changes: tuple[Change, ...], asked: Sequence[NewLocation]) -> Response:
    viewer, claims = call.viewer, list[Claim]()
    found = {location: find_location(call.site.stores, location) for location in asked}

    def patched(connection: Connection, image: Image) -> Image:
        for change in changes:
            if change.name == "visibility" and change.verb is not Verb.REMOVE:
                call.site.policy.refuse_visibility(viewer, image, Visibility(str(change.value)))
        protection = call.site.protection
        after = apply_changes(image, changes, viewer, lambda do, name: protection.allows(do, name, viewer, image))
        if any(change.name == LOCATIONS for change in changes):
            claims[:] = _relocate(call, connection, image, after, changes, found)
        return after

    image = change_image(call, patched, _claim(call, changes, found) if found else None)
    for claim in claims:
        remove_withdrawn(call, claim)
    if claims or found:
        with call.site.catalog.statement() as connection:
            image = get_image(connection, image.id)
    return image_response(call, image, 200, {})


def _claim(call: Call, changes: Sequence[Change], found: Found) -> QuotaClaim | None:
    """Return what the image's data in all its locations will use of its project's quota; None without a quota."""
    with call.site.catalog.statement() as connection:
        image = get_image(connection, call.image_id)
    quota = call.site.quotas.of(image.owner)
    if quota is None:
        return None
    left, added = _planned(call, image, changes, found)
    return quota.claim(image.id, size=sum(each.size for each in left) + sum(new.found.size for new in added))


def _judge_locations(call: Call, changes: Sequence[Change]) -> None:
    """Refuse changes of locations before any URL is looked up."""
    with call.site.catalog.statement() as connection:
        image = get_image(connection, call.image_id)
    call.require(Action.MODIFY_IMAGE, image)
    _refuse_now(call, image, changes)


def _refuse_now(call: Call, image: Image, changes: Sequence[Change]) -> None:
    """Refuse changes of locations that the site, the rules or the image's state do not allow.

    Raises:
        Forbidden: the site shows no locations, or a rule does not allow the change.
        WrongStatus, ImportRunning, FormatMissing: the image's locations may not be changed now.
    """
    if not call.site.settings.api.show_multiple_locations:
        raise Forbidden("It's not allowed to update locations if locations are invisible.")
    verbs = {change.verb for change in changes if change.name == LOCATIONS}
    if verbs & {Verb.ADD, Verb.REPLACE}:
        call.require(Action.SET_IMAGE_LOCATION, image)
    if verbs & {Verb.REMOVE, Verb.REPLACE}:
        call.require(Action.DELETE_IMAGE_LOCATION, image)
    if image.status not in (ImageStatus.ACTIVE, ImageStatus.QUEUED):
        raise WrongStatus(image.id, image.status, "active or queued", "change locations")
    if image.import_task is not None:
        raise ImportRunning(image.id, image.import_task)


@dataclass(frozen=True, slots=True)
class _Added:
    """A location that the patch adds."""

    found: FoundLocation
    expected: ValidationData | None


def _relocate(
    call: Call, connection: Connection, image: Image, after: Image, changes: Sequence[Change], found: Found
) -> list[Claim]:
    """Write the changes of a locked image's locations; return the claims of data to be removed afterwards."""
    _refuse_now(call, image, changes)
    left, added = _planned(call, image, changes, found)
    quota = call.site.settings.quota.image_location_quota
    refuse_over_count("image locations", quota, len(left) + len(added), len(image.locations))
    claims = []
    for location in image.locations:
        if location in left:
            continue
        with call.site.stores.using(location.store) as driver:
            read_only = driver.read_only
        if read_only:
            forget_shown(connection, image.id, location.store)
        else:
            ttl_s = call.site.settings.lease.ttl_s
            claims.append(give_up_copy(connection, image.id, location.store, ttl_s=ttl_s))
    for each in added:
        refuse_without_formats(after)
        _refuse_other_data(image, each.found, each.expected)
        add_location(connection, image, each.found, each.expected, datetime.now(UTC))
        image = get_image(connection, image.id)
    announce_change(connection, image.id)
    return claims


def _planned(call: Call, image: Image, changes: Sequence[Change], found: Found) -> tuple[list[Location], list[_Added]]:
    """Return the locations that stay, and those that are new.

    Raises:
        Forbidden: the image would lose its last location.
        BadRequest: a position is not one of the list.
        AlreadyInStore: a store would have two locations of the image.
    """
    listed: list[Location | _Added] = list(best_first(image.locations, call.site.stores.facts()))
    for change in changes:
        new = [_Added(found[location], location.expected) for location in change.locations]
        match change.verb if change.name == LOCATIONS else None:
            case Verb.ADD:
                _position(change, len(listed) + 1)
                listed += new
            case Verb.REPLACE:
                if not new:
                    raise Forbidden("It's not allowed to remove all locations of an image", "delete the image instead")
                kept = {(each.store, each.url): each for each in image.locations}
                listed = [kept.get((each.found.store, each.found.url), each) for each in new]
            case Verb.REMOVE:
                if len(listed) == 1:
                    raise Forbidden("Cannot remove last location in the image.", "delete the image instead")
                del listed[_position(change, len(listed))]
    stores = [each.store if isinstance(each, Location) else each.found.store for each in listed]
    for store in stores:
        if stores.count(store) > 1:
            raise AlreadyInStore(store)
    left = [each for each in listed if isinstance(each, Location)]
    return left, [each for each in listed if isinstance(each, _Added)]


def _position(change: Change, positions: int) -> int:
    """Return the position that a change names.

    Raises:
        BadRequest: there is no such position.
    """
    if change.position == "-" and change.verb is Verb.ADD:
        return positions - 1
    if not change.position.isascii() or not change.position.isdigit() or int(change.position[:9]) >= positions:
        raise BadRequest(f"Invalid position for a location: '{change.position[:20]}'")
    return int(change.position[:9])


def _refuse_other_data(image: Image, found: FoundLocation, expected: ValidationData | None) -> None:
    """Refuse a location whose data are not those of the image.

    Raises:
        PropertyConflict: size or digests differ.
    """
    new: dict[str, object] = {"size": found.size}
    if expected is not None:
        new |= {**expected.named(), **({"checksum": expected.checksum} if expected.checksum else {})}
    for name, value in new.items():
        known = getattr(image, name)
        if known not in (None, value):
            raise PropertyConflict(name, f"of the new location is {value}, that of the image {known}.")
