"""JSON schemas of images and related resources, used by clients for their models and here to validate bodies."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from config.settings import FormatSettings
from transship.domain.errors import BadRequest
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus

Schema = Mapping[str, object]

_LARGEST_COUNT: Final = 2**31 - 1
"""Largest value of an integer column in PostgreSQL."""

_LONGEST_REASON: Final = 300
_MOST_FAULTS: Final = 20
"""Number of schema errors from which the reported one is chosen."""

_UUID_PATTERN: Final = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
_TIME: Final[Schema] = {"type": "string"}

_VALIDATION_DATA: Final[Schema] = {
    "description": "Digests that the data at the location must have",
    "type": "object",
    "writeOnly": True,
    "additionalProperties": False,
    "properties": {
        "checksum": {"type": "string", "minLength": 32, "maxLength": 32},
        "os_hash_algo": {"type": "string", "maxLength": 64},
        "os_hash_value": {"type": "string", "maxLength": 128},
    },
    "required": ["os_hash_algo", "os_hash_value"],
}


def _packaged(description: str, **rules: object) -> Schema:
    return {"type": "string", **rules, "description": description, "is_base": False}


_OTHER_IMAGE: Final[Schema] = {"type": ["null", "string"], "pattern": _UUID_PATTERN}

_PACKAGED: Final[Schema] = {
    "architecture": _packaged("Architecture of the processor that the image needs"),
    "description": _packaged("What the image is, for people"),
    "instance_uuid": _packaged("Instance that the image was made of"),
    "kernel_id": _packaged("Image that is the kernel, for images of kind AMI", **_OTHER_IMAGE),
    "os_distro": _packaged("Distribution of the operating system"),
    "os_version": _packaged("Version of the operating system, as its distributor names it"),
    "ramdisk_id": _packaged("Image that is the initial RAM disk, for images of kind AMI", **_OTHER_IMAGE),
}
"""Extra properties that Glance's ``schema-image.json`` declares, as distributions install it."""


class Schemas:
    """The schemas of one site.

    Args:
        formats: formats that images may have here.
    """

    def __init__(self, formats: FormatSettings) -> None:
        image = _image_schema(formats)
        self._image = Draft202012Validator(image)
        self.by_name: Mapping[str, Schema] = {
            "image": image,
            "images": _collection_schema("image", image),
            "member": _MEMBER,
            "members": _member_list_schema(),
            "task": _TASK,
            "tasks": _task_list_schema(),
        }

    def judge_image(self, image: Mapping[str, object]) -> None:
        """Refuse attributes that an image cannot have.

        Args:
            image: some or all attributes of an image, as a client sent them.

        Raises:
            BadRequest: names the attribute and the reason.
        """
        fault = best_match(islice(self._image.iter_errors(image), _MOST_FAULTS))
        if fault is None:
            return
        where = "/".join(str(step) for step in fault.absolute_path)
        reason = fault.message if len(fault.message) <= _LONGEST_REASON else f"{fault.message[:_LONGEST_REASON]}…"
        raise BadRequest(f"Provided object does not match schema 'image': {where or 'image'}: {reason}")


def _image_schema(formats: FormatSettings) -> Schema:
    return {
        "name": "image",
        "properties": _image_properties(formats),
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }


def _image_properties(formats: FormatSettings) -> Schema:
    return {
        "id": {"type": "string", "pattern": _UUID_PATTERN, "description": "Identifier of the image"},
        "name": _optional_text(255, "Display name of the image"),
        "status": {
            "type": "string",
            "readOnly": True,
            "enum": [str(status) for status in ImageStatus],
            "description": "State of the image",
        },
        "visibility": {
            "type": "string",
            "enum": ["community", "public", "private", "shared"],
            "description": "Who may see the image",
        },
        "protected": {"type": "boolean", "description": "Whether the image is protected from deletion"},
        "os_hidden": {"type": "boolean", "description": "Whether the image is hidden from the default list"},
        "checksum": _read_only(_optional_text(32, "md5 of the image data")),
        "os_hash_algo": _read_only(_optional_text(64, "Algorithm of os_hash_value")),
        "os_hash_value": _read_only(_optional_text(128, "Digest of the image data, as hexadecimal digits")),
        "owner": _optional_text(255, "Project that owns the image"),
        "size": _read_only({"type": ["null", "integer"], "description": "Size of the image data in bytes"}),
        "virtual_size": _read_only({"type": ["null", "integer"], "description": "Size that a guest sees, in bytes"}),
        "container_format": _optional_choice(formats.container_formats, "Format of the container"),
        "disk_format": _optional_choice(formats.disk_formats, "Format of the disk"),
        "created_at": _read_only({**_TIME, "description": "When the image was created"}),
        "updated_at": _read_only({**_TIME, "description": "When the image was last changed"}),
        "tags": {
            "type": "array",
            "items": {"type": "string", "maxLength": 255},
            "description": "Tags of the image",
        },
        "direct_url": _read_only({"type": "string", "description": "Location of the image data"}),
        "min_ram": _count("Memory that the image needs to boot, in MB"),
        "min_disk": _count("Disk size that the image needs to boot, in GB"),
        "self": _read_only({"type": "string", "description": "URL of this image"}),
        "file": _read_only({"type": "string", "description": "URL of the image data"}),
        "schema": _read_only({"type": "string", "description": "URL of this schema"}),
        "stores": _read_only({"type": "string", "description": "Stores that hold the image data, separated by commas"}),
        "locations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "url": {"type": "string", "maxLength": 255},
                    "metadata": {"type": "object"},
                    "validation_data": _VALIDATION_DATA,
                },
                "required": ["url", "metadata"],
            },
            "description": "Locations of the image data, with metadata",
        },
        **_PACKAGED,
    }


def _optional_text(longest: int, description: str) -> Schema:
    return {"type": ["null", "string"], "maxLength": longest, "description": description}


def _optional_choice(choices: tuple[str, ...], description: str) -> Schema:
    return {"type": ["null", "string"], "enum": [None, *choices], "description": description}


def _count(description: str) -> Schema:
    return {"type": "integer", "minimum": 0, "maximum": _LARGEST_COUNT, "description": description}


def _read_only(schema: Schema) -> Schema:
    return {**schema, "readOnly": True}


def _collection_schema(name: str, item: Schema) -> Schema:
    return {
        "name": f"{name}s",
        "properties": {
            f"{name}s": {"type": "array", "items": item},
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }


_MEMBER: Final[Schema] = {
    "name": "member",
    "properties": {
        "member_id": {"type": "string", "description": "Project that the image is shared with"},
        "image_id": {"type": "string", "pattern": _UUID_PATTERN, "description": "Identifier of the image"},
        "created_at": {**_TIME, "description": "When the membership was created"},
        "updated_at": {**_TIME, "description": "When the membership was last changed"},
        "status": {
            "type": "string",
            "enum": ["pending", "accepted", "rejected"],
            "description": "Whether the project accepted the image",
        },
        "schema": {"readOnly": True, "type": "string"},
    },
}


def _member_list_schema() -> Schema:
    return {
        "name": "members",
        "properties": {"members": {"type": "array", "items": _MEMBER}, "schema": {"type": "string"}},
        "links": [{"rel": "describedby", "href": "{schema}"}],
    }


def _task_list_schema() -> Schema:
    detail = ("input", "result", "message")
    summary = {name: rules for name, rules in _TASK_PROPERTIES.items() if name not in detail}
    return {
        "name": "tasks",
        "properties": {
            "tasks": {"type": "array", "items": {"name": "task", "properties": summary}},
            "schema": {"type": "string"},
        },
        "links": [{"rel": "describedby", "href": "{schema}"}],
    }


_TASK_PROPERTIES: Final[Schema] = {
    "id": {"type": "string", "pattern": _UUID_PATTERN, "description": "Identifier of the task"},
    "type": {
        "type": "string",
        "enum": ["import", "api_image_import", "location_import"],
        "description": "Type of the task",
    },
    "status": {
        "type": "string",
        "enum": [str(status) for status in TaskStatus],
        "description": "Status of the task",
    },
    "input": {"type": ["null", "object"], "description": "Parameters of the request"},
    "result": {"type": ["null", "object"], "description": "What came out"},
    "owner": {"type": "string", "description": "Project that asked"},
    "message": {"type": "string", "description": "What the task does now, or why it failed"},
    "image_id": {"type": "string", "description": "Image that the task works on"},
    "request_id": {"type": "string", "description": "Id of the request that started the task"},
    "user_id": {"type": "string", "description": "User who asked"},
    "expires_at": {"type": ["null", "string"], "description": "When the task leaves the lists"},
    "created_at": {**_TIME, "description": "When the task was created"},
    "updated_at": {**_TIME, "description": "When the task was last changed"},
    "self": {"readOnly": True, "type": "string"},
    "schema": {"readOnly": True, "type": "string"},
}

_TASK: Final[Schema] = {"name": "task", "properties": _TASK_PROPERTIES}
