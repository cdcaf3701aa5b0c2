"""The OpenAPI document of the routes that are served.

Paths and summaries come from the routes and the docstrings of their operations, policies and errors from their tables;
`transship.api.descriptions` adds what each operation takes and answers.

Source: OpenAPI Specification 3.1.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from transship.api.descriptions import BY_ALL, BY_KEYSTONE, DESCRIPTIONS, IN_PATH, VERSION_LIST, Description
from transship.api.errors import status_of
from transship.api.resource import Operation, Streamed
from transship.api.schemas import Schema
from transship.api.versions import CURRENT, OPEN_TO_ALL, VERSION_LISTS
from transship.domain.errors import RequestIdTooLong, TransshipError
from transship.domain.policies import RULES

Document = Mapping[str, Any]

Paths = Mapping[str, Mapping[str, Operation | Streamed]]

_HEADLINE: Final = re.compile(r"``[A-Z]+ [^`]+``: ([^;.]+)")
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_SECURITY: Final = "token"

_ERROR: Final[Schema] = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "description": "What happened and what to do, as HTML"},
        "code": {"type": "string", "description": "Status and phrase, e.g. 409 Conflict"},
        "title": {"type": "string", "description": "Phrase of the status"},
    },
    "required": ["message", "code", "title"],
}
_ERROR_CONTENT: Final = {
    "application/json": {"schema": {"$ref": "#/components/schemas/error"}},
    "text/html": {"schema": {"type": "string"}},
    "text/plain": {"schema": {"type": "string"}},
}


def describe(paths: Paths, schemas: Mapping[str, Schema], *, keystone: bool) -> Document:
    """Return the document of the operations by path and method.

    Args:
        schemas: of images and related resources, by name.
        keystone: whether callers need a token.

    Raises:
        KeyError: `transship.api.descriptions` lacks an operation or a parameter.
    """
    described: dict[str, dict[str, Any]] = {path: {"get": _of_versions(path)} for path in VERSION_LISTS}
    for path, operations in paths.items():
        described[path] = {
            method.lower(): _operation(path, method, operation, keystone=keystone and path not in OPEN_TO_ALL)
            for method, operation in operations.items()
        }
    components: dict[str, Any] = {
        "schemas": {**{name: {**schema, "type": "object"} for name, schema in schemas.items()}, "error": _ERROR}
    }
    if keystone:
        components["securitySchemes"] = {_SECURITY: {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "OpenStack Images API, served by Transship", "version": CURRENT.removeprefix("v")},
        "paths": described,
        "components": components,
    }


def _function_of(operation: Operation | Streamed) -> Callable[..., object]:
    """Return the function of an operation, without what the route adds to it."""
    inner = operation.operation if isinstance(operation, Streamed) else operation
    return inner.func if isinstance(inner, functools.partial) else inner


def _operation(path: str, method: str, operation: Operation | Streamed, *, keystone: bool) -> dict[str, Any]:
    function = _function_of(operation)
    description = DESCRIPTIONS[function]
    body = {"requestBody": {"required": True, "content": _content(description.body)}} if description.body else {}
    policies = [rule.name for rule in RULES if f"{method} {path}" in rule.operations]
    asks = {"description": f"Policies: {', '.join(policies)}."} if policies else {}
    several = isinstance(operation, functools.partial) or method == "HEAD"
    name = function.__name__
    return {
        "operationId": f"{name}_{method.lower()}_{path.rpartition('/')[2]}" if several else name,
        "summary": _summary(function),
        **asks,
        "parameters": [*_in_path(path), *description.parameters],
        **body,
        "responses": _responses(description, keystone=keystone),
        "security": [{_SECURITY: []}] if keystone else [],
    }


def _summary(function: Callable[..., object]) -> str:
    found = _HEADLINE.match(function.__doc__ or "")
    if found is None:
        raise KeyError(f"the docstring of {function.__name__} does not begin with method, path and summary")
    return found[1][0].upper() + found[1][1:]


def _in_path(path: str) -> list[dict[str, Any]]:
    names = _PARAMETER.findall(path)
    return [{"name": name, "in": "path", "required": True, "schema": IN_PATH[name]} for name in names]


def _responses(description: Description, *, keystone: bool) -> dict[str, Any]:
    answers = {str(status): _answer(status, content) for status, content in description.answers.items()}
    errors = (*BY_ALL, *(BY_KEYSTONE if keystone else ()), *description.errors)
    return {**_refusals(errors), **answers}


def _refusals(errors: Sequence[type[TransshipError]]) -> dict[str, Any]:
    by_status: dict[HTTPStatus, list[str]] = {}
    for error in dict.fromkeys(errors):
        status = status_of(error) or HTTPStatus.INTERNAL_SERVER_ERROR
        by_status.setdefault(status, []).append((error.__doc__ or "").partition("\n")[0])
    return {
        str(status.value): {"description": " ".join(texts), "content": _ERROR_CONTENT}
        for status, texts in sorted(by_status.items())
    }


def _answer(status: int, content: Mapping[str, Schema]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    return {**answer, "content": _content(content)} if content else answer


def _content(schemas: Mapping[str, Schema]) -> dict[str, Any]:
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _of_versions(path: str) -> dict[str, Any]:
    return {
        "operationId": f"versions_{VERSION_LISTS[path].value}",
        "summary": "The versions of the API",
        "responses": {
            **_refusals((RequestIdTooLong,)),
            str(VERSION_LISTS[path].value): _answer(VERSION_LISTS[path], VERSION_LIST),
        },
        "security": [],
    }
