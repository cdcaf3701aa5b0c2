"""A real Glance and our Images API beside it: the same images on both, the same requests to both, and both answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from tests.fakes.images_api import ImagesApi
from tests.fakes.openstack_peers import ACCOUNTS, ADMIN_PASSWORD, Glance, OpenStack
from tests.fakes.system import until

ACTORS: Final[Mapping[str, str]] = {
    "admin": "admin", "member": "alice", "reader": "rita", "other": "bob", "service": "glance"
}  # fmt: skip
"""Users in Keystone by what they are for the images here; most images belong to the member and the reader's project."""

OCTETS: Final = {"Content-Type": "application/octet-stream"}
FORMATS: Final = {"disk_format": "raw", "container_format": "bare"}
DATA: Final = b"twelve bytes"

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
_PLACE: Final = re.compile(r"\{(\w+)\}")
_HEADERS: Final = (
    "location", "allow", "accept-patch", "content-range", "content-md5", "openstack-image-import-methods",
    "www-authenticate",
)  # fmt: skip


_TEXT: Final = {"type": "string", "description": "of the image"}
_ID: Final = {
    "type": ["null", "string"],
    "pattern": f"^{'-'.join(f'([0-9a-fA-F]){{{digits}}}' for digits in (8, 4, 4, 4, 12))}$",
    "description": "of another image",
}
IMAGE_PROPERTIES: Final = {
    **dict.fromkeys(("architecture", "description", "instance_uuid", "os_distro", "os_version"), _TEXT),
    **dict.fromkeys(("kernel_id", "ramdisk_id"), _ID),
}
"""What distributions add to the schema of images, in /etc/glance/schema-image.json; the package on PyPI lacks that."""


def two_stores(cloud: OpenStack, home: Path) -> Glance:
    """Return a Glance with the stores of `ImagesApi`.

    Args:
        home: empty directory for its files.
    """
    (home / "schema-image.json").write_text(json.dumps(IMAGE_PROPERTIES))
    stores = {"fast": {"store_description": "near"}, "archive": {"weight": 10}}
    for store, options in stores.items():
        (home / store).mkdir()
        options["filesystem_store_datadir"] = home / store
    return Glance(home, {f"{store}:file": options for store, options in stores.items()}, cloud.glance_options)


@dataclass(frozen=True)
class Request:
    """One request to both services.

    Attributes:
        actor: one of `ACTORS`, ``unscoped`` (a token without a project) or ``nobody`` (no token).
        line: method and path; ``{name}`` stands for the id of an image that both have, see `Pair`.
        body: bytes are sent as they are, anything else as JSON; ``{name}`` as in the line.
        after: requests of the same actor that go first.
        differs: the answers differ on purpose; the first cell of the row in docs/glance-differences.md that says so.
    """

    actor: str
    line: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    differs: str = ""

    def __str__(self) -> str:
        shown = self.body.decode(errors="replace") if isinstance(self.body, bytes) else json.dumps(self.body)
        parts = [self.actor, *(f"{line}," for line in self.after), self.line]
        parts += [shown[:80]] if self.body is not None else []
        parts += [f"{name}={value}" for name, value in self.headers.items()]
        return " ".join(parts)


def by(actors: str, *lines: str, **rest: Any) -> list[Request]:
    """Return the requests of each of the actors (names in one text) with each of the lines."""
    return [Request(actor, line, **rest) for line in lines for actor in actors.split()]


REFUSALS: Final = {400, 401, 403, 404, 405, 409, 415}
"""Answers after which an image is as it was."""

EVERYBODY: Final = "admin member reader other service"


class Pair:
    """Two services with one Keystone and the same images.

    ``{OTHER}`` is the other project; any other name in upper case is that image's id in upper case. Images that stay:

    * of the member: ``private`` (active, with tags and properties), ``shared``, ``empty`` (without formats),
      ``hidden``, ``lent`` (to the other project), ``protected``, ``staged``, ``deactivated``, ``copied`` (in both);
    * of the other project: ``community`` and ``foreign`` (private); of the administrator: ``public``;
    * ``gone`` is deleted, ``nowhere`` never was.

    Untouched by earlier requests, all the member's: ``new`` (queued), ``filled`` (active), ``uploaded`` (staged) and
    ``doubled`` (in both stores).
    """

    def __init__(self, cloud: OpenStack, glance: Glance, ours: ImagesApi) -> None:
        self._glance = httpx.Client(base_url=glance.url, timeout=300, trust_env=False)
        self._ours = ours
        self._threads = ThreadPoolExecutor(2)
        self._tokens = {actor: _token(cloud, user) for actor, user in ACTORS.items()}
        self._tokens |= {"unscoped": _token(cloud, "alice", scoped=False), "nobody": ""}
        self._ids: dict[str, str] = {"nowhere": str(uuid4())}
        self._projects = {"OTHER": cloud.connect("bob").current_project_id}
        self._fill()

    def close(self) -> None:
        self._threads.shutdown()
        self._glance.close()

    def answers(self, request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what is compared of Glance's answer and of ours."""
        places = {place.lower() for place in _PLACE.findall(f"{request.line} {request.body} {request.after}")}
        fresh = [name for name in ("new", "filled", "uploaded", "doubled") if name in places]
        for name in fresh:
            if name not in self._ids:
                self._make_fresh(name)
        glance, ours = self._at_once(lambda client: self._answer(client, request))
        refused = (
            not request.line.startswith("PUT ") and not request.after and {glance["status"], ours["status"]} <= REFUSALS
        )
        for name in fresh:
            if not refused:
                self._both("DELETE", f"/v2/images/{self._ids.pop(name)}")
        return glance, ours

    def _at_once(self, ask: Callable[[httpx.Client], Any]) -> tuple[Any, Any]:
        """Ask both at the same time; each gets one request after the other."""
        first, second = self._threads.map(ask, (self._glance, self._ours.client))
        return first, second

    def store_ids(self) -> tuple[list[str], list[str]]:
        """Return the stores that each service announces with a new image."""
        made = self._at_once(lambda client: self._send(client, "member", "POST /v2/images", {}))
        first, second = (answer.headers["openstack-image-store-ids"].split(",") for answer in made)
        return first, second

    def _answer(self, client: httpx.Client, request: Request) -> dict[str, Any]:
        for line in request.after:
            self._send(client, request.actor, line)
        answer = self._send(client, request.actor, request.line, request.body, request.headers)
        if answer.status_code == 201 and "location" in answer.headers:
            made = answer.json()["id"]
            if made not in self._ids.values():
                self._send(client, "admin", f"DELETE /v2/images/{made}")
        return self._compared(answer)

    def _send(
        self, client: httpx.Client, actor: str, line: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        method, path = self._with_ids(line).split(" ", 1)
        sent = {"Accept": "application/json", **(headers or {})}
        if self._tokens[actor]:
            sent["X-Auth-Token"] = self._tokens[actor]
        if isinstance(body, bytes):
            content = body
        else:
            content = b"" if body is None else self._with_ids(json.dumps(body)).encode()
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
        return client.request(method, path, content=content or None, headers=sent)

    def _with_ids(self, text: str) -> str:
        def known(found: re.Match[str]) -> str:
            if found[1] in self._projects:
                return self._projects[found[1]]
            image_id = self._ids.get(found[1].lower(), found[0])
            return image_id.upper() if found[1].isupper() else image_id

        return _PLACE.sub(known, text)

    def _compared(self, answer: httpx.Response) -> dict[str, Any]:
        headers = {name: self._known(answer.headers[name]) for name in _HEADERS if name in answer.headers}
        for name in ("allow", "accept-patch"):
            if name in headers:
                headers[name] = sorted(part.strip() for part in headers[name].split(","))
        base = str(answer.request.url.copy_with(path="/", query=None)).rstrip("/")
        if "location" in headers:
            headers["location"] = headers["location"].replace(base, "<base>")
        kind = answer.headers.get("content-type", "").partition(";")[0] if answer.content else ""
        content: object = md5(answer.content).hexdigest() if answer.content else ""
        if kind == "application/json":
            content = shape(json.loads(self._known(answer.text).replace(base, "<base>")))
        elif answer.is_error or kind.startswith("text/"):
            content = "text"
        return {"status": answer.status_code, "kind": kind, **headers, "content": content}

    def _known(self, text: str) -> str:
        """Return a text with names for the images' ids, and times and all other ids alike."""
        names = {image_id: f"<{name}>" for name, image_id in self._ids.items()}
        text = _UUID.sub(lambda found: names.get(found[0], "<another>"), text)
        return _TIME.sub(lambda found: "<time.fraction>" if found[1] else "<time>", text)

    def _both(self, method: str, path: str, actor: str = "admin", **arguments: Any) -> None:
        for answer in self._at_once(lambda client: self._send(client, actor, f"{method} {path}", **arguments)):
            wanted = {200, 201, 202, 204} | ({403, 404, 409} if method == "DELETE" else set())
            assert answer.status_code in wanted, f"{method} {path}: {answer.status_code} {answer.text}"

    def _create(self, name: str, actor: str = "member", **attributes: object) -> str:
        image_id = self._ids[name] = str(uuid4())
        body = {"id": image_id, "name": name, **FORMATS, **attributes}
        self._both("POST", "/v2/images", actor, body=body)
        return image_id

    def _make_fresh(self, name: str) -> None:
        image_id = self._create(name)
        if name == "filled":
            self._both("PUT", f"/v2/images/{image_id}/file", "member", body=DATA, headers=OCTETS)
        if name in ("uploaded", "doubled"):
            self._both("PUT", f"/v2/images/{image_id}/stage", "member", body=DATA, headers=OCTETS)
        if name == "doubled":
            self._import(image_id)

    def _fill(self) -> None:
        owned = {"colour": "blue", "os_distro": "debian", "hw_disk_bus": "scsi", "tags": ["a", "b c"]}
        self._create("private", visibility="private", min_disk=3, **owned)
        self._create("public", "admin", visibility="public", colour="blue", tags=["a"])
        self._create("deactivated")
        for name in ("private", "public", "deactivated"):
            self._both("PUT", f"/v2/images/{self._ids[name]}/file", "admin", body=DATA, headers=OCTETS)
        self._both("POST", f"/v2/images/{self._ids['deactivated']}/actions/deactivate", "member")
        self._create("shared")
        self._create("empty", disk_format=None, container_format=None)
        self._create("hidden", os_hidden=True)
        lent = f"/v2/images/{self._create('lent')}/members"
        self._both("POST", lent, "member", body={"member": self._projects["OTHER"]})
        self._both("PUT", f"{lent}/{self._projects['OTHER']}", "other", body={"status": "accepted"})
        self._create("protected", protected=True)
        self._create("community", "other", visibility="community")
        self._create("foreign", "other", visibility="private", tags=["a"])
        self._make_fresh_as("staged", "uploaded")
        self._make_fresh_as("copied", "doubled")
        self._both("DELETE", f"/v2/images/{self._create('gone')}")

    def _make_fresh_as(self, name: str, kind: str) -> None:
        self._make_fresh(kind)
        self._ids[name] = self._ids.pop(kind)

    def _import(self, image_id: str) -> None:
        """Import staged data into both stores: Glance by itself, ours with the transactions of a worker."""
        body = {"method": {"name": "glance-direct"}, "stores": ["fast", "archive"]}
        self._both("POST", f"/v2/images/{image_id}/import", "member", body=body)

        def imported() -> bool:
            image = self._send(self._glance, "admin", f"GET /v2/images/{image_id}").json()
            return image["status"] == "active" and "os_glance_import_task" not in image

        until(imported, 300, "Glance imported")
        self._ours.carry_out(image_id, DATA, ("fast", "archive"))


PATCH: Final = {"Content-Type": "application/openstack-images-v2.1-json-patch"}

_OWN_VALUES: Final = frozenset(
    {"description", "message", "code", "title", "data_dir", "chunk_size", "thin_provisioning", "url"}
)
"""Keys whose values are each service's own: texts for people, and the settings of its stores."""

_OWN_KEYS: Final = frozenset({"progress", "flow_run_id"})
"""What our tasks have beside Glance's."""


def shape(value: Any, name: str = "") -> Any:
    """Return a JSON value without what is never the same."""
    match value:
        case dict():
            return {key: shape(each, key) for key, each in value.items() if key not in _OWN_KEYS}
        case list():
            return [shape(each, name) for each in (sorted(value) if name == "tags" else value)]
    return type(value).__name__ if name in _OWN_VALUES else value


def _token(cloud: OpenStack, user: str, *, scoped: bool = True) -> str:
    account = ACCOUNTS.get(user)
    password, project = (account.password, account.project) if account else (ADMIN_PASSWORD, "admin")
    domain = {"domain": {"id": "default"}}
    identity = {"methods": ["password"], "password": {"user": {"name": user, "password": password, **domain}}}
    scope: object = {"project": {"name": project, **domain}} if scoped else "unscoped"
    url = f"{cloud.auth_url}/auth/tokens"
    issued = httpx.post(url, json={"auth": {"identity": identity, "scope": scope}}, timeout=300, trust_env=False)
    assert issued.status_code == 201, issued.text
    return str(issued.headers["X-Subject-Token"])
