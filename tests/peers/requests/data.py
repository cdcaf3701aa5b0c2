"""Data of images: upload, staging, download, imports, copies, deactivation."""

from __future__ import annotations

from typing import Any

from tests.fakes.compared import DATA, EVERYBODY, OCTETS, Request, by
from tests.peers.requests import reasons

UPLOAD: list[Request] = [
    *by(
        f"{EVERYBODY} unscoped nobody",
        "PUT /v2/images/{new}/file",
        "PUT /v2/images/{new}/stage",
        body=DATA,
        headers=OCTETS,
    ),
    *[
        request
        for way in ("file", "stage")
        for request in (
            *by("member", f"PUT /v2/images/{{new}}/{way}", body=DATA),
            *by("member", f"PUT /v2/images/{{new}}/{way}", body=DATA, headers={"Content-Type": "text/plain"}),
            *by("member", f"PUT /v2/images/{{new}}/{way}", headers=OCTETS),
            *by(
                "member", f"PUT /v2/images/{{new}}/{way}", body=DATA, headers={**OCTETS, "x-openstack-image-size": "12"}
            ),
            *by(
                "member", f"PUT /v2/images/{{new}}/{way}", body=DATA, headers={**OCTETS, "x-openstack-image-size": "5"}
            ),
            *by(
                "member", f"PUT /v2/images/{{new}}/{way}", body=DATA, headers={**OCTETS, "x-openstack-image-size": "50"}
            ),
            *by(
                "member", f"PUT /v2/images/{{new}}/{way}", body=DATA, headers={**OCTETS, "x-openstack-image-size": "x"}
            ),
            *by(
                "member", f"PUT /v2/images/{{new}}/{way}", body=DATA, headers={**OCTETS, "x-openstack-image-size": "-1"}
            ),
            *by("member", f"PUT /v2/images/{{new}}/{way}", body=DATA, headers={**OCTETS, "x-openstack-image-size": ""}),
            *by("member", f"PUT /v2/images/{{filled}}/{way}", body=DATA, headers=OCTETS),
            *by("member", f"PUT /v2/images/{{uploaded}}/{way}", body=DATA, headers=OCTETS),
            *by("member", f"PUT /v2/images/{{deactivated}}/{way}", body=DATA, headers=OCTETS),
            *by("member", f"PUT /v2/images/{{nowhere}}/{way}", body=DATA, headers=OCTETS),
            *by("member", f"PUT /v2/images/{{gone}}/{way}", body=DATA, headers=OCTETS),
            *by("member", f"PUT /v2/images/wrong/{way}", body=DATA, headers=OCTETS),
            *by("member reader", f"PUT /v2/images/{{public}}/{way}", body=DATA, headers=OCTETS),
            *by("member", f"PUT /v2/images/{{foreign}}/{way}", body=DATA, headers=OCTETS),
        )
    ],
    *by("member", "PUT /v2/images/{empty}/file", body=DATA, headers=OCTETS),
    *by("member", "PUT /v2/images/{new}/file", body=DATA, headers={**OCTETS, "x-image-meta-store": "archive"}),
    *by("member", "PUT /v2/images/{new}/file", body=DATA, headers={**OCTETS, "x-image-meta-store": "wrong"}),
]

DOWNLOAD: list[Request] = [
    *by(
        f"{EVERYBODY} unscoped nobody",
        "GET /v2/images/{private}/file",
        "GET /v2/images/{public}/file",
        "GET /v2/images/{deactivated}/file",
    ),
    *by("member", "GET /v2/images/{shared}/file", "GET /v2/images/{staged}/file", "GET /v2/images/{community}/file"),
    *by("member", "GET /v2/images/{foreign}/file", "GET /v2/images/{gone}/file", "GET /v2/images/wrong/file"),
    *by("member", "GET /v2/images/{copied}/file", "HEAD /v2/images/{private}/file"),
    *by("member", "GET /v2/images/{private}/file", headers={"Range": "bytes=0-1,3-4"}),
]


def imported(method: Any, **more: Any) -> dict[str, Any]:
    return {"method": method, **more}


DIRECT = {"name": "glance-direct"}
WEB = {"name": "web-download", "uri": "http://example.org/disk"}
COPY = {"name": "copy-image"}

IMPORT: list[Request] = [
    *by(f"{EVERYBODY} unscoped nobody", "POST /v2/images/{uploaded}/import", body=imported(DIRECT, stores=["wrong"])),
    *by("member reader other", "POST /v2/images/{public}/import", body=imported(DIRECT)),
    *by("member reader other", "POST /v2/images/{filled}/import", body=imported(COPY, stores=["archive"])),
    *[
        request
        for body in (
            {},
            "text",
            {"method": {}},
            {"method": {"name": None}},
            {"method": {"name": "wrong"}},
            {"method": {"name": ""}},
            {"method": {"name": 5}},
            imported({"name": "glance-download"}),
            imported({"name": "web-download", "uri": "ftp://example.org/x"}),
            imported({"name": "web-download", "uri": "http://127.0.0.1:8080/x"}),
            imported(DIRECT),
            imported(DIRECT, stores=["wrong"]),
            imported(DIRECT, stores=["fast", "wrong"]),
            imported(DIRECT, stores=["fast"], all_stores=True),
            imported(DIRECT, all_stores="yes"),
            imported(DIRECT, all_stores=None),
            imported(DIRECT, all_stores_must_succeed="yes"),
            imported(DIRECT, all_stores_must_succeed=1),
            imported(COPY, stores=["archive"]),
            imported(COPY),
        )
        for line in ("POST /v2/images/{new}/import", "POST /v2/images/{filled}/import")
        for request in by("member", line, body=body)
    ],
    *by("member", "POST /v2/images/{new}/import"),
    *by("member", "POST /v2/images/{new}/import", body=b"{"),
    *by("member", "POST /v2/images/{empty}/import", body=imported(WEB)),
    *by("member", "POST /v2/images/{uploaded}/import", body=imported(WEB)),
    *by("member", "POST /v2/images/{uploaded}/import", body=imported(COPY)),
    *by("member", "POST /v2/images/{deactivated}/import", body=imported(DIRECT)),
    *by("member", "POST /v2/images/{nowhere}/import", "POST /v2/images/wrong/import", body=imported(DIRECT)),
    *by("member", "POST /v2/images/{gone}/import", "POST /v2/images/{foreign}/import", body=imported(DIRECT)),
    *by("member", "POST /v2/images/{uploaded}/import", body=imported(DIRECT), headers={"x-image-meta-store": "wrong"}),
    *by(
        "member",
        "POST /v2/images/{uploaded}/import",
        body=imported(DIRECT, stores=["fast"]),
        headers={"x-image-meta-store": "fast"},
    ),
    *by("admin", "POST /v2/images/{doubled}/import", body=imported(COPY, stores=["archive"])),
    *by("admin", "POST /v2/images/{doubled}/import", body=imported(COPY, all_stores=True)),
    *by("admin", "POST /v2/images/{filled}/import", body=imported(COPY, stores=["wrong"])),
    *by("admin", "POST /v2/images/{filled}/import", body=imported(COPY, stores=["fast"])),
    *by("admin", "POST /v2/images/{new}/import", body=imported(COPY, stores=["fast"])),
]

COPIES: list[Request] = [
    *by(f"{EVERYBODY} unscoped nobody", "DELETE /v2/stores/fast/{doubled}"),
    *by("admin", "GET /v2/images/{doubled}", after=("DELETE /v2/stores/fast/{doubled}",)),
    *by("admin", "DELETE /v2/stores/fast/{doubled}", after=("DELETE /v2/stores/fast/{doubled}",)),
    *by("admin", "DELETE /v2/stores/archive/{doubled}", after=("DELETE /v2/stores/fast/{doubled}",)),
    *by("admin member", "DELETE /v2/stores/fast/{filled}", "DELETE /v2/stores/archive/{filled}"),
    *by("admin member", "DELETE /v2/stores/wrong/{filled}", "DELETE /v2/stores/wrong/{nowhere}"),
    *by(
        "admin member",
        "DELETE /v2/stores/fast/{nowhere}",
        "DELETE /v2/stores/fast/wrong",
        "DELETE /v2/stores/fast/{gone}",
    ),
    *by("admin member", "DELETE /v2/stores/fast/{new}", "DELETE /v2/stores/fast/{uploaded}"),
    *by("admin member", "DELETE /v2/stores/fast/{deactivated}", "DELETE /v2/stores/fast/{foreign}"),
]

ELSEWHERE = {"url": "http://example.org/disk"}
DIGEST = {"os_hash_algo": "sha512", "os_hash_value": "0" * 128}

LOCATIONS: list[Request] = [
    *by(f"{EVERYBODY} unscoped nobody", "GET /v2/images/{shared}/locations", "GET /v2/images/{copied}/locations"),
    *by(f"{EVERYBODY} unscoped nobody", "GET /v2/images/{nowhere}/locations"),
    *by("member reader other unscoped nobody", "POST /v2/images/{new}/locations", body=ELSEWHERE),
    *by("member", "POST /v2/images/{filled}/locations", "POST /v2/images/{uploaded}/locations", body=ELSEWHERE),
    *by("member", "POST /v2/images/{public}/locations", "POST /v2/images/{foreign}/locations", body=ELSEWHERE),
    *by("member", "POST /v2/images/{nowhere}/locations", body=ELSEWHERE),
    *[
        request
        for body in (
            {},
            [],
            {"url": 5},
            {"url": None},
            {"url": ""},
            {"url": "swift+config://a/b/c"},
            {**ELSEWHERE, "more": 1},
            {**ELSEWHERE, "validation_data": {**DIGEST, "os_hash_value": "0"}},
            {**ELSEWHERE, "validation_data": {**DIGEST, "os_hash_value": "z" * 128}},
            {**ELSEWHERE, "validation_data": {**DIGEST, "checksum": "0" * 32}},
            {"url": "file:///etc/passwd"},
            {**ELSEWHERE, "validation_data": {}},
            {**ELSEWHERE, "validation_data": {**DIGEST, "os_hash_algo": "crc"}},
            {**ELSEWHERE, "validation_data": {"os_hash_algo": "sha512"}},
            {**ELSEWHERE, "validation_data": {**DIGEST, "more": 1}},
        )
        for request in by("member", "POST /v2/images/{new}/locations", body=body)
    ],
]

ACTIONS: list[Request] = [
    *by(
        f"{EVERYBODY} unscoped nobody",
        "POST /v2/images/{filled}/actions/deactivate",
        "POST /v2/images/{deactivated}/actions/deactivate",
        "POST /v2/images/{filled}/actions/reactivate",
    ),
    *by(
        "member", "POST /v2/images/{filled}/actions/reactivate", after=("POST /v2/images/{filled}/actions/deactivate",)
    ),
    *by(
        "member",
        "POST /v2/images/{new}/actions/deactivate",
        "POST /v2/images/{new}/actions/reactivate",
        "POST /v2/images/{uploaded}/actions/deactivate",
        "POST /v2/images/{public}/actions/deactivate",
        "POST /v2/images/{foreign}/actions/deactivate",
        "POST /v2/images/{nowhere}/actions/deactivate",
        "POST /v2/images/wrong/actions/reactivate",
        "POST /v2/images/{gone}/actions/reactivate",
    ),
    *by("member", "POST /v2/images/{filled}/actions/deactivate", body={"unwanted": 1}),
]

OF_TWELVE = "GET /v2/images/{private}/file"

DIFFERENT: list[Request] = [
    *by(
        "member",
        "PUT /v2/images/{new}/file",
        body=DATA,
        headers={**OCTETS, "x-image-meta-store": "os_glance_staging_store"},
        differs=reasons.RESERVED,
    ),
    *by("admin", "DELETE /v2/stores/os_glance_staging_store/{filled}", differs=reasons.RESERVED),
    *by("member", "PUT /v2/images/{new}/locations", body=ELSEWHERE, differs=reasons.ALLOW),
    *by("member", "POST /v2/images/{empty}/locations", body=ELSEWHERE, differs=reasons.LOCATION),
    *[
        request
        for asked in ("bytes=0-3", "bytes=4-", "bytes=-3", "bytes=0-100", "bytes=0-0", "bytes=-100")
        for request in by("member", OF_TWELVE, headers={"Range": asked}, differs=reasons.MD5)
    ],
    *[
        request
        for asked in ("bytes 0-3/12", "bytes 0-3/*", "bytes 0-11/12")
        for request in by("member", OF_TWELVE, headers={"Content-Range": asked}, differs=reasons.MD5)
    ],
    *[
        request
        for asked in ("bytes=100-", "bytes=12-", "bytes=3-1", "bytes=-0", "bytes=", "bytes=x-y", "lines=0-3", "0-3", "")
        for request in by("member", OF_TWELVE, headers={"Range": asked}, differs=reasons.RANGES)
    ],
    *[
        request
        for asked in ("bytes 4-20/12", "bytes x", "bytes 20-30/*")
        for request in by("member", OF_TWELVE, headers={"Content-Range": asked}, differs=reasons.RANGES)
    ],
    *by("member", "GET /v2/images/{shared}/file", headers={"Range": "bytes=0-3"}, differs=reasons.FAILS),
    *by("member", "POST /v2/images/{new}/import", "POST /v2/images/{filled}/import", body=[], differs=reasons.FAILS),
    *by("member", "POST /v2/images/{filled}/import", body=imported({"name": "web-download"}), differs=reasons.NO_URI),
    *by("member", "POST /v2/images/{new}/import", body=imported({"name": "web-download"})),
    *by("member", "POST /v2/images/{new}/import", body=imported({"name": "web-download", "uri": ""})),
]
