"""What each operation takes and answers, for the OpenAPI document; its errors are those of `transship.api.errors`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from transship.api import (
    copies,
    discovery,
    health,
    image_file,
    images,
    imports,
    locations,
    members,
    patch_image,
    tasks,
    uploads,
)
from transship.api.attributes import LONGEST_NAME
from transship.api.patch import MEDIA_TYPES, Verb
from transship.api.schemas import Schema
from transship.catalog.search import NUMBER_COLUMNS, TEXT_COLUMNS, TIME_COLUMNS, SortKey
from transship.catalog.task_list import EQUATABLE, TaskSortKey
from transship.domain import errors
from transship.domain.errors import TransshipError
from transship.domain.image import MemberStatus, Visibility
from transship.domain.locations import ALGORITHMS
from transship.domain.methods import OFFERED
from transship.domain.task import TaskStatus

Errors = tuple[type[TransshipError], ...]

TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "integer"}
_UUID: Final[Schema] = {"type": "string", "format": "uuid"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_JSON: Final = "application/json"
_BYTES: Final[Schema] = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class Description:
    """What an operation takes and answers.

    Attributes:
        answers: schemas by media type, by status; empty: no body.
        errors: what it raises besides `BY_ALL`.
        parameters: in the query or headers; as OpenAPI writes them.
        body: schemas by media type; empty: no body.
    """

    answers: Mapping[int, Mapping[str, Schema]]
    errors: Errors = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)


def _of(schema: str) -> Mapping[str, Schema]:
    """Return the content of a body with a schema of the site."""
    return {_JSON: {"$ref": f"#/components/schemas/{schema}"}}


def _object(required: Collection[str] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": [*required]}


def _choice(choices: Iterable[str]) -> Schema:
    return {"type": "string", "enum": [str(each) for each in choices]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _query(**schemas: Schema) -> tuple[Mapping[str, Any], ...]:
    return tuple({"name": name, "in": "query", "schema": schema} for name, schema in schemas.items())


def _header(name: str, schema: Schema, description: str) -> Mapping[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": description}


BY_ALL: Final[Errors] = (*(errors.BadRequest, errors.BodyTooLarge, errors.RequestIdTooLong, errors.CatalogUnavailable),)
BY_KEYSTONE: Final[Errors] = (errors.Unauthenticated, errors.IdentityUnavailable)
"""What every operation may raise; the second ones where callers need a token."""

_ON_IMAGE: Final[Errors] = (errors.ImageNotFound, errors.Forbidden)
_OF_STORES: Final[Errors] = (errors.StoreUnavailable, errors.StoreDenied)
_OF_CHANGES: Final[Errors] = (*_ON_IMAGE, errors.ImageChanged, errors.QuotaExceeded)
_OF_UPLOADS: Final[Errors] = (
    *_ON_IMAGE,
    *(errors.WrongStatus, errors.StagedAlready, errors.UploadRunning, errors.UploadTakenOver, errors.ImageGone),
    *(errors.DataTypeRefused, errors.UploadIncomplete, errors.UploadTooSlow, errors.ImageTooLarge),
    *(errors.StagingFull, errors.StagingUnavailable, errors.StagingBroken, errors.ProjectOverQuota),
)
_OF_LOCATIONS: Final[Errors] = (
    *(*_ON_IMAGE, errors.WrongStatus, errors.FormatMissing, errors.ImportRunning, errors.QuotaExceeded),
    *(errors.UriRefused, errors.NamesUnanswered, errors.LocationTaken, errors.StoreUnavailable),
)
_OF_MEMBERS: Final[Errors] = (*_ON_IMAGE, errors.MemberNotFound)

_PAGE: Final = {"limit": _COUNT, "marker": _UUID}
_DIRECTION: Final = _choice(("asc", "desc"))
_STORE: Final = _header(imports.STORE_HEADER, TEXT, "Store to write")
_SIZE: Final = _header(uploads.SIZE_HEADER, _COUNT, "Size of the data in bytes")
_NAME: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}

IN_PATH: Final[Mapping[str, Schema]] = {
    "image_id": _UUID,
    "task_id": _UUID,
    "store": TEXT,
    "member_id": TEXT,
    "tag": _NAME,
}
"""Parameters in paths."""

_IMAGE_FILTERS: Final = (
    *_query(
        **_PAGE,
        sort={"type": "string", "description": "Keys with directions, e.g. name:asc,size:desc"},
        sort_key=_list(_choice(SortKey)),
        sort_dir=_list(_DIRECTION),
        visibility=_choice((*Visibility, "all")),
        member_status=_choice((*MemberStatus, "all")),
        os_hidden=_choice(("true", "false")),
        protected=_choice(("true", "false")),
        tag=_list(TEXT),
        **dict.fromkeys(TEXT_COLUMNS, TEXT),
        **dict.fromkeys(NUMBER_COLUMNS, _NUMBER),
        **{f"{name}_{bound}": _NUMBER for name in NUMBER_COLUMNS for bound in ("min", "max")},
        **{
            name: {"type": "string", "description": "A time, or one after gt:, gte:, lt:, lte:, eq: or neq:"}
            for name in TIME_COLUMNS
        },
    ),
    {
        "name": "properties",
        "in": "query",
        "description": "Extra properties and their values",
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": TEXT},
    },
)

_TASK_FILTERS: Final = _query(
    **_PAGE,
    status=_choice(TaskStatus),
    type=_choice(tasks.TYPES),
    sort_key=_choice(TaskSortKey),
    sort_dir=_DIRECTION,
    **dict.fromkeys(EQUATABLE, TEXT),
)

_POINTER: Final[Schema] = {"type": "string", "pattern": "^/"}
_PATCH: Final[Schema] = {
    **_list(_object(("op", "path"), op=_choice(Verb), path=_POINTER, value={})),
    "examples": [[{"op": "replace", "path": "/name", "value": "Debian 13"}]],
}
_DRAFT_4: Final[Schema] = {
    **_list(_object(**dict.fromkeys(Verb, _POINTER), value={})),
    "examples": [[{"add": "/os_distro", "value": "debian"}]],
}

_IMPORT: Final[Schema] = {
    "examples": [{"method": {"name": str(method)}} for method in OFFERED if method.facts.uploaded],
    **_object(
        ("method",),
        method=_object(
            ("name",),
            name=_choice(OFFERED),
            **{key: TEXT for method in OFFERED for key in method.facts.body_keys},
        ),
        stores={**_list(TEXT), "minItems": 1, "uniqueItems": True},
        all_stores={"type": "boolean"},
        all_stores_must_succeed={"type": "boolean"},
    ),
}

_LOCATION: Final[Schema] = _object(("url", "metadata"), url=TEXT, metadata=_object(("store",), store=TEXT))
_NEW_LOCATION: Final[Schema] = _object(
    ("url",),
    url=TEXT,
    validation_data=_object(("os_hash_algo", "os_hash_value"), os_hash_algo=_choice(ALGORITHMS), os_hash_value=TEXT),
)

_STORE_VIEW: Final[Schema] = _object(
    ("id",), id=TEXT, description=TEXT, default=_choice(("true",)), **{"read-only": _choice(("true",))}
)
_STORE_DETAILS: Final[Schema] = {
    "allOf": [_STORE_VIEW, _object(("type", "weight", "properties"), type=TEXT, weight=_NUMBER, properties=_object())]
}
_METHODS: Final = _object(("description", "type", "value"), description=TEXT, type=TEXT, value=_list(TEXT))
_LINK: Final = _object(("rel", "href"), rel=TEXT, href=TEXT)
_VERSION: Final = _object(
    ("id", "status", "links"), id=TEXT, status=_choice(("CURRENT", "SUPPORTED")), links=_list(_LINK)
)
VERSION_LIST: Final[Mapping[str, Schema]] = {_JSON: _object(("versions",), versions=_list(_VERSION))}

_HEALTH: Final[Mapping[str, Schema]] = {"text/plain": TEXT, "text/html": TEXT, _JSON: _object(("reasons",))}

DESCRIPTIONS: Final[Mapping[Callable[..., object], Description]] = {
    health.check_health: Description({200: _HEALTH, 503: _HEALTH}, parameters=_query(detailed=TEXT)),
    discovery.show_document: Description({200: {_JSON: _object(("openapi", "paths"))}}),
    discovery.show_pages: Description({200: {"text/html": TEXT}}),
    discovery.show_import_methods: Description(
        {200: {_JSON: _object(("import-methods",), **{"import-methods": _METHODS})}}
    ),
    discovery.show_stores: Description({200: {_JSON: _object(("stores",), stores=_list(_STORE_VIEW))}}),
    discovery.show_store_details: Description(
        {200: {_JSON: _object(("stores",), stores=_list(_STORE_DETAILS))}}, (errors.Forbidden,)
    ),
    discovery.show_usage: Description({200: {_JSON: _object(("usage",), usage=_object())}}),
    discovery.show_schema: Description({200: {_JSON: _object(("name", "properties"))}}),
    images.list_images: Description({200: _of("images")}, (errors.Forbidden,), _IMAGE_FILTERS),
    images.create_image: Description(
        {201: _of("image")},
        (errors.Forbidden, errors.ImageExists, errors.QuotaExceeded, errors.ProjectOverQuota),
        body=_of("image"),
    ),
    images.show_image: Description({200: _of("image")}, _ON_IMAGE),
    patch_image.patch_image: Description(
        {200: _of("image")},
        (
            *(*_OF_CHANGES, *_OF_LOCATIONS, errors.PropertyConflict, errors.MediaTypeRefused),
            *(errors.AlreadyInStore, errors.CopyBeingRemoved),
        ),
        body=dict(zip(MEDIA_TYPES, (_PATCH, _DRAFT_4), strict=True)),
    ),
    images.delete_image: Description({204: {}}, _ON_IMAGE),
    images.add_tag: Description({204: {}}, _OF_CHANGES),
    images.remove_tag: Description({204: {}}, (*_OF_CHANGES, errors.TagNotFound)),
    image_file.download_image: Description(
        {200: {image_file.MEDIA_TYPE: _BYTES}, 204: {}, 206: {image_file.MEDIA_TYPE: _BYTES}},
        (*_ON_IMAGE, errors.RangeUnsatisfiable, errors.ImageDataUnavailable),
        (_header("Range", TEXT, "One range of bytes, e.g. bytes=0-1023"),),
    ),
    uploads.upload_image: Description(
        {204: {}},
        (
            *(*_OF_UPLOADS, *_OF_STORES, errors.StoreFull, errors.StoreReadOnly),
            *(errors.FormatMismatch, errors.FormatUnsafe, errors.UploadEmpty),
        ),
        (_STORE, _SIZE),
        body={uploads.DATA_TYPE: _BYTES},
    ),
    uploads.stage_image: Description(
        {204: {}}, (*_OF_UPLOADS, errors.MethodNotOffered), (_SIZE,), body={uploads.DATA_TYPE: _BYTES}
    ),
    imports.start_import: Description(
        {202: {}},
        (
            *(*_ON_IMAGE, errors.WrongStatus, errors.FormatMissing, errors.ImportRunning, errors.StoreUnknown),
            *(errors.StoreReadOnly, errors.AlreadyInStore, errors.UriRefused, errors.NamesUnanswered, errors.HostGone),
            errors.ProjectOverQuota,
        ),
        (_STORE,),
        body={_JSON: _IMPORT},
    ),
    imports.list_image_tasks: Description(
        {200: {_JSON: _object(("tasks",), tasks=_list(_of("task")[_JSON]))}}, _ON_IMAGE
    ),
    copies.deactivate_image: Description({204: {}}, (*_ON_IMAGE, errors.WrongStatus)),
    copies.reactivate_image: Description({204: {}}, (*_ON_IMAGE, errors.WrongStatus)),
    copies.delete_from_store: Description(
        {204: {}},
        (*_ON_IMAGE, errors.NotInStore, errors.StoreUnknown, errors.WrongStatus, errors.ImportRunning),
    ),
    locations.list_locations: Description({200: {_JSON: _list(_LOCATION)}}, _ON_IMAGE),
    locations.register_location: Description({202: {}}, _OF_LOCATIONS, body={_JSON: _NEW_LOCATION}),
    members.list_members: Description({200: _of("members")}, _ON_IMAGE),
    members.show_member: Description({200: _of("member")}, _OF_MEMBERS),
    members.add_member: Description(
        {200: _of("member")},
        (*_ON_IMAGE, errors.MemberExists, errors.QuotaExceeded),
        body={_JSON: _object(("member",), member=_NAME)},
    ),
    members.answer_membership: Description(
        {200: _of("member")},
        _OF_MEMBERS,
        body={_JSON: _object(("status",), status=_choice(MemberStatus))},
    ),
    members.remove_member: Description({204: {}}, _OF_MEMBERS),
    tasks.list_tasks: Description({200: _of("tasks")}, (errors.Forbidden,), _TASK_FILTERS),
    tasks.show_task: Description({200: _of("task")}, (errors.TaskNotFound, errors.Forbidden)),
}
"""By the function of each operation; the document cannot be built without one of a route."""
