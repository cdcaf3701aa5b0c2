"""Patches of images."""

from __future__ import annotations

from typing import Any

from tests.fakes.compared import EVERYBODY, PATCH, Request, by
from tests.peers.requests import reasons

DRAFT_4 = {"Content-Type": "application/openstack-images-v2.0-json-patch"}
UUID = "6f1c3b52-6b2e-4c0e-9d0e-0c5d6a7b8c9d"


def add(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "add", "path": path, "value": value}]


def replace(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": path, "value": value}]


def remove(path: str) -> list[dict[str, Any]]:
    return [{"op": "remove", "path": path}]


ALLOWED: list[Request] = [
    *by(f"{EVERYBODY} unscoped nobody", "PATCH /v2/images/{new}", body=replace("/name", "x"), headers=PATCH),
    *by("admin member reader", "PATCH /v2/images/{public}", body=[], headers=PATCH),
    *by("member reader", "PATCH /v2/images/{public}", body=replace("/name", "x"), headers=PATCH),
    *by("member reader", "PATCH /v2/images/{foreign}", body=replace("/name", "x"), headers=PATCH),
    *by("member", "PATCH /v2/images/{community}", body=replace("/name", "x"), headers=PATCH),
    *by("member", "PATCH /v2/images/{nowhere}", "PATCH /v2/images/wrong", body=replace("/name", "x"), headers=PATCH),
    *by("member", "PATCH /v2/images/{gone}", body=replace("/name", "x"), headers=PATCH),
    *by("admin member", "PATCH /v2/images/{new}", body=replace("/owner", "another"), headers=PATCH),
    *by("admin member", "PATCH /v2/images/{new}", body=replace("/owner", None), headers=PATCH),
    *by("admin member", "PATCH /v2/images/{new}", body=replace("/visibility", "public"), headers=PATCH),
    *by("admin member", "PATCH /v2/images/{new}", body=replace("/visibility", "community"), headers=PATCH),
    *by("member", "PATCH /v2/images/{filled}", body=replace("/disk_format", "qcow2"), headers=PATCH),
    *by("member", "PATCH /v2/images/{filled}", body=replace("/container_format", "bare"), headers=PATCH),
    *by("member", "PATCH /v2/images/{filled}", body=replace("/disk_format", "raw"), headers=PATCH),
    *by("member", "PATCH /v2/images/{uploaded}", body=replace("/disk_format", "qcow2"), headers=PATCH),
    *by("member", "PATCH /v2/images/{filled}", body=replace("/name", "x") + add("/colour", "red"), headers=PATCH),
]

OPERATIONS: list[Request] = [
    request
    for body in (
        [],
        replace("/name", None),
        replace("/name", ""),
        replace("/name", 5),
        replace("/name", "x" * 256),
        add("/name", "x"),
        remove("/name"),
        replace("/visibility", "private"),
        replace("/visibility", "wrong"),
        remove("/visibility"),
        replace("/protected", "true"),
        replace("/os_hidden", True),
        remove("/os_hidden"),
        replace("/disk_format", "qcow2"),
        replace("/disk_format", None),
        replace("/disk_format", "wrong"),
        remove("/disk_format"),
        replace("/container_format", "ova"),
        replace("/min_disk", 5),
        replace("/min_disk", -1),
        replace("/min_disk", "5"),
        replace("/min_disk", 5.0),
        replace("/min_ram", None),
        remove("/min_ram"),
        replace("/tags", ["a", "b"]),
        replace("/tags", ["a", "a"]),
        replace("/tags", [""]),
        replace("/tags", "a"),
        replace("/tags", None),
        add("/tags/0", "a"),
        add("/tags/-", "a"),
        remove("/tags"),
        replace("/status", "active"),
        replace("/size", 5),
        replace("/checksum", "0" * 32),
        replace("/virtual_size", 5),
        replace("/created_at", "now"),
        replace("/updated_at", "now"),
        replace("/id", UUID),
        replace("/id", "{new}"),
        remove("/id"),
        replace("/self", "x"),
        replace("/file", "x"),
        replace("/schema", "x"),
        replace("/direct_url", "x"),
        replace("/os_hash_algo", "x"),
        replace("/os_hash_value", "x"),
        add("/location", "x"),
        add("/deleted", "x"),
        add("/deleted_at", "x"),
        add("/members", "x"),
        remove("/owner"),
        add("/os_glance_import_task", "x"),
        replace("/os_glance_failed_import", "x"),
        remove("/os_glance_failed_import"),
        add("/locations", []),
        replace("/locations", []),
        replace("/locations", [{"url": "file:///x", "metadata": {}}]),
        add("/locations/-", {"url": "file:///x", "metadata": {}}),
        add("/locations/0", {"url": "file:///x", "metadata": {}}),
        add("/locations/x", {"url": "file:///x", "metadata": {}}),
        add("/locations/-", "x"),
        remove("/locations"),
        remove("/locations/0"),
        remove("/locations/-"),
        add("/colour", "red"),
        add("/colour", ""),
        add("/colour", None),
        add("/colour", 5),
        add("/colour", {"a": "b"}),
        add("/colour", "red") + replace("/colour", "blue"),
        add("/colour", "red") + remove("/colour"),
        add("/colour", "red") + add("/colour", "blue"),
        add("/colour", "red") + replace("/nothing", "blue"),
        replace("/colour", "red"),
        remove("/colour"),
        add("/a/b", "red"),
        add("/a~1b", "red"),
        add("/a~0b", "red"),
        add("/a~b", "red"),
        add("/a~2b", "red"),
        add("", "red"),
        add("//", "red"),
        add("colour", "red"),
        add("/colour/", "red"),
        add("/x" + "x" * 254, "red"),
        add("/architecture", None),
        add("/os_version", 5),
        add("/kernel_id", UUID),
        add("/kernel_id", "wrong"),
        add("/instance_uuid", None),
        add("/description", "x"),
        [{"op": "move", "path": "/a", "from": "/b"}],
        [{"op": "test", "path": "/name", "value": "new"}],
        [{"op": "ADD", "path": "/colour", "value": "red"}],
        [{"op": None, "path": "/colour", "value": "red"}],
        [{"op": 5, "path": "/colour", "value": "red"}],
        [{"path": "/colour", "value": "red"}],
        [{"op": "add", "value": "red"}],
        [{"op": "add", "path": "/colour"}],
        [{"op": "remove", "path": "/name", "value": "x"}],
        [{"op": "add", "path": "/colour", "value": "red", "more": 1}],
        ["text"],
        [5],
        [None],
        [[]],
        {},
        {"op": "add", "path": "/colour", "value": "red"},
        "text",
        None,
    )
    for request in by("member", "PATCH /v2/images/{new}", body=body, headers=PATCH)
]

OTHER_TYPES: list[Request] = [
    request
    for body in (
        [{"add": "/colour", "value": "red"}],
        [{"replace": "/name", "value": "x"}],
        [{"add": "/name", "value": "x"}],
        [{"remove": "/name"}],
        [{"replace": "/colour", "value": "red"}],
        [{"remove": "/colour"}],
        [{"add": "/colour", "value": "red"}, {"add": "/colour", "value": "blue"}],
        [{"add": "/colour", "remove": "/name", "value": "red"}],
        [{"add": "/colour"}],
        [{"value": "red"}],
        [{"op": "add", "path": "/colour", "value": "red"}],
        [{"add": "/a/b", "value": "red"}],
        [{}],
        {},
    )
    for request in by("member", "PATCH /v2/images/{new}", body=body, headers=DRAFT_4)
] + [
    *by("member", "PATCH /v2/images/{new}", body=replace("/name", "x")),
    *by("member", "PATCH /v2/images/{new}", body=replace("/name", "x"), headers={"Content-Type": "text/plain"}),
    *by("member", "PATCH /v2/images/{new}", body=b"not json", headers={"Content-Type": "text/plain"}),
    *by("member", "PATCH /v2/images/{new}", body=b"not json", headers=PATCH),
    *by("member", "PATCH /v2/images/{new}", headers=PATCH),
    *by(
        "member",
        "PATCH /v2/images/{new}",
        body=replace("/name", "x"),
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch; charset=utf-8"},
    ),
    *by(
        "member",
        "PATCH /v2/images/{new}",
        body=replace("/name", "x"),
        headers={"Content-Type": "application/OpenStack-images-v2.1-json-patch"},
    ),
    *by(
        "member",
        "PATCH /v2/images/{new}",
        body=replace("/name", "x"),
        headers={"Content-Type": "application/openstack-images-v2.2-json-patch"},
    ),
]

DIFFERENT: list[Request] = [
    *by("member", "PATCH /v2/images/{NEW}", body=replace("/name", "x"), headers=PATCH, differs=reasons.CASE),
    *by("member", "PATCH /v2/images/{new}", body=[{"add": 5, "value": "red"}], headers=DRAFT_4, differs=reasons.FAILS),
    *[
        request
        for reason, body in (
            (reasons.STORES, replace("/stores", "x")),
            (reasons.FAILS, add("/image_id", "x")),
            (reasons.FAILS, add("/extra_properties", "x")),
            (reasons.FAILS, [{"op": "add", "path": None, "value": "red"}]),
            (reasons.FAILS, [{"op": "add", "path": 5, "value": "red"}]),
            (reasons.OWNER, add("/owner", "")),
            (reasons.NAMES, add("/", "red")),
            (reasons.NAMES, add("/ ", "red")),
            (reasons.NAMES, add("/x" + "x" * 255, "red")),
            (reasons.NULLS, add("/kernel_id", None)),
            (reasons.NULLS, add("/ramdisk_id", None)),
            (reasons.NULLS, add("/kernel_id", None) + remove("/kernel_id")),
        )
        for request in by("member", "PATCH /v2/images/{new}", body=body, headers=PATCH, differs=reason)
    ],
]
