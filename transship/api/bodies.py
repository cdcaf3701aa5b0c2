"""Request bodies: read up to a limit, and decoded strictly enough to store them."""

from __future__ import annotations

import json
import re
from typing import Final

from starlette.requests import Request

from transship.domain.errors import BadRequest, BodyTooLarge

NO_BODY: Final = frozenset({"GET", "HEAD", "DELETE"})
"""Methods whose requests have no body."""


MAX_DEPTH: Final = 16
"""Most nesting levels of a body; the API's deepest has five."""

MOST_VALUES: Final = 10_000
"""Most values in a body, counting each member of an object or array, because each is validated."""

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Return a request's body.

    Raises:
        BodyTooLarge: it is longer than ``limit_bytes``; no more than that was read.
        BadRequest: the request must not have a body.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    if request.method in NO_BODY:
        refuse_body(body)
    return bytes(body)


def refuse_body(body: bytes | bytearray) -> None:
    """Refuse a request that has a body but needs none.

    Raises:
        BadRequest: the body is not empty.
    """
    if body:
        raise BadRequest("A body is not expected with this request.")


def parse_json(body: bytes) -> dict[str, object] | list[object]:
    """Return the JSON object or array that a body holds.

    Raises:
        BadRequest: it is empty, not JSON, not an object or array, too deep, has too many values, or holds text that
            cannot be stored.
    """
    if not body:
        raise BadRequest("Body expected in request.")
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("Malformed JSON in request body.") from error
    if not isinstance(value, dict | list):
        raise BadRequest("The request body must be a JSON object or array.")
    depth, values = _extent(value)
    if depth > MAX_DEPTH:
        raise BadRequest(f"The request body is nested more than {MAX_DEPTH} levels deep.")
    if values > MOST_VALUES:
        raise BadRequest(f"The request body holds {values} values", f"at most {MOST_VALUES} are read")
    if not storable(value):
        raise BadRequest("The request body holds a NUL character or half of a surrogate pair, which cannot be stored.")
    return value


def parse_json_object(body: bytes) -> dict[str, object]:
    """Return the JSON object that a body holds.

    Raises:
        BadRequest: as `parse_json`, or it is an array.
    """
    value = parse_json(body)
    if isinstance(value, list):
        raise BadRequest("The request body must be a JSON object.")
    return value


def storable(value: object) -> bool:
    """Whether every database can store all text in a JSON value."""
    match value:
        case str():
            return _UNSTORABLE.search(value) is None
        case dict():
            return all(storable(key) and storable(member) for key, member in value.items())
        case list():
            return all(storable(member) for member in value)
    return True


def _extent(value: object) -> tuple[int, int]:
    """Return the number of levels and values in a JSON value.

    This does not recurse, because the decoder accepts more levels than the stack has room for.
    """
    level, depth, values = [value], 0, 0
    while level:
        depth += 1
        inside = [list(each.values()) if isinstance(each, dict) else each for each in level]
        members = [member for members in inside if isinstance(members, list) for member in members]
        values += len(members)
        level = [member for member in members if isinstance(member, dict | list)]
    return depth, values


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
