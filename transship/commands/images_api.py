"""A client of the Images API v2, limited to what the commands need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import quote
from uuid import UUID

import requests

from transship.domain.errors import CommandRefused, NothingListens, ServiceRefused, ServiceUnreachable
from transship.domain.task import StoreProgress
from transship.prefect_rest.client import NOTHING_LISTENS, why_silent

SERVICE: Final = "Images API"
TIMEOUT_S: Final = (5, 60)
"""Timeouts in seconds for connecting and for a response: creating waits for the catalogue's write lock."""

UPLOAD_TIMEOUT_S: Final = (5, 600)
"""The same for an upload, at the end of which the data are synced to disk."""

PROGRESS_FIELDS: Final = (
    *("phase", "done_bytes", "total_bytes", "rate"),
    *("hashed_bytes", "to_hash_bytes", "hash_rate"),
)

SHOWN_IDS: Final = 5
"""Most ids of images with the same name that are listed."""

TAG: Final = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image as the API shows it.

    Attributes:
        stores: ids of the stores that hold it.
        failed_stores: ids of the stores that the last import could not write.
        message: why the last import failed, empty when it did not.
        locations: location URLs by store id; empty if the API does not show them.
    """

    id: str
    name: str
    status: str
    disk_format: str
    size: int | None
    virtual_size: int | None
    hash_algorithm: str
    hash_value: str
    stores: tuple[str, ...]
    failed_stores: tuple[str, ...]
    message: str
    locations: Mapping[str, str]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read the API's JSON."""
        return cls(
            id=body["id"],
            name=body.get("name") or "",
            status=body["status"],
            disk_format=body.get("disk_format") or "",
            size=body.get("size"),
            virtual_size=body.get("virtual_size"),
            hash_algorithm=body.get("os_hash_algo") or "",
            hash_value=body.get("os_hash_value") or "",
            stores=_words(body.get("stores")),
            failed_stores=_words(body.get("os_glance_failed_import")),
            message=body.get("os_glance_import_message") or "",
            locations={str(each["metadata"].get("store", "")): each["url"] for each in body.get("locations") or ()},
        )


@dataclass(frozen=True, slots=True)
class TaskView:
    """An import task as the API shows it.

    Attributes:
        phase: what the import is doing; empty while it has not begun.
        done_bytes, total_bytes: bytes of this phase; total 0 while unknown.
        rate: bytes a second.
        hashed_bytes, to_hash_bytes, hash_rate: progress of digests computed beside copies; 0 if none are.
        flow_run_id: Prefect's id of its run; empty until it was dispatched.
        waits: what it waits for; empty while it works.
    """

    id: str
    status: str
    message: str
    phase: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    rate: int = 0
    hashed_bytes: int = 0
    to_hash_bytes: int = 0
    hash_rate: int = 0
    stores: tuple[StoreProgress, ...] = ()
    flow_run_id: str = ""
    waits: str = ""

    @property
    def final(self) -> bool:
        """Whether the import has ended."""
        return self.status in ("success", "failure")

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read the API's JSON; the progress fields are an extension of this service."""
        progress, message = body.get("progress") or {}, body.get("message") or ""
        return cls(
            id=body["id"],
            status=body["status"],
            message=message,
            waits=progress.get("waits") or (message if body["status"] == "pending" else ""),
            stores=tuple(
                StoreProgress(**_told(each, StoreProgress.__slots__)) for each in progress.get("stores") or ()
            ),
            flow_run_id=body.get("flow_run_id") or "",
            **_told(progress, PROGRESS_FIELDS),
        )


class ImagesApi:
    """The Images API v2 at one address.

    Args:
        url: without a trailing slash, e.g. ``http://127.0.0.1:9292``.
        token: returns the Keystone token to call with; None: the API needs none.

    All methods raise:
        ServiceUnreachable: nothing answers there.
        ServiceRefused: the response is an error.
    """

    def __init__(self, url: str, token: Callable[[], str] | None = None) -> None:
        self.url = url
        self._token = token
        self._session = requests.Session()
        # A proxy from the environment would be used for loopback addresses too.
        self._session.trust_env = False
        self._session.headers["Accept"] = "application/json"

    def create(self, attributes: Mapping[str, object]) -> ImageView:
        """Create an image record."""
        return ImageView.of(self._call("POST", "/v2/images", attributes))

    def delete(self, image_id: str) -> None:
        """Delete an image record and its data."""
        self._call("DELETE", f"/v2/images/{image_id}")

    def stage(self, image_id: str, pieces: Iterable[bytes], size: int) -> None:
        """Upload data for a glance-direct import.

        Args:
            pieces: the data, in order.
            size: total bytes.
        """
        headers = {"Content-Type": "application/octet-stream", "X-OpenStack-Image-Size": str(size)}
        _refuse_error(self._sent("PUT", f"/v2/images/{image_id}/stage", headers, UPLOAD_TIMEOUT_S, data=pieces))

    def start_import(self, image_id: str, request: Mapping[str, object]) -> None:
        """Start an import, which continues after this has returned."""
        self._call("POST", f"/v2/images/{image_id}/import", request)

    def image(self, image_id: str) -> ImageView:
        """Return an image."""
        return ImageView.of(self._call("GET", f"/v2/images/{image_id}"))

    def refuse_unknown(self, stores: Iterable[str]) -> None:
        """Refuse stores that the service does not have, before anything is uploaded for them.

        Raises:
            CommandRefused: it has no store of this id.
        """
        known = [str(store["id"]) for store in self._call("GET", "/v2/info/stores")["stores"]]
        for store in stores:
            if store not in known:
                raise CommandRefused(f"there is no store {store}", f"the stores are: {', '.join(known)}")

    def named(self, wanted: str) -> ImageView:
        """Return the image with an id or a name.

        Raises:
            CommandRefused: there is none, or more than one has the name.
        """
        found = list(self.images(wanted))
        if len(found) > 1:
            ids = ", ".join(image.id for image in found[:SHOWN_IDS])
            more = f" and {len(found) - SHOWN_IDS} more" if len(found) > SHOWN_IDS else ""
            raise CommandRefused(f"{len(found)} images are named {wanted}: {ids}{more}", "name one by its id")
        if found:
            return found[0]
        try:
            return self.image(str(UUID(wanted)))
        except ValueError:
            raise CommandRefused(f"no image is named {wanted}", "'transship images' lists all") from None
        except ServiceRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            raise CommandRefused(f"there is no image {wanted}", "'transship images' lists all") from refused

    def latest_task(self, image_id: str) -> TaskView | None:
        """Return the newest import task of an image; None if it has none."""
        tasks = self._call("GET", f"/v2/images/{image_id}/tasks")["tasks"]
        return TaskView.of(max(tasks, key=lambda task: str(task["created_at"]))) if tasks else None

    def tasks(self, image_id: str) -> list[TaskView]:
        """Return the import tasks of an image."""
        return [TaskView.of(task) for task in self._call("GET", f"/v2/images/{image_id}/tasks")["tasks"]]

    def images(self, name: str = "") -> Iterator[ImageView]:
        """Yield all images, or those with a name, newest first."""
        path = "/v2/images?limit=100" + (f"&name={quote(name, safe='')}" if name else "")
        while path:
            page = self._call("GET", path)
            yield from map(ImageView.of, page["images"])
            path = page.get("next", "")

    def health(self) -> tuple[bool, str]:
        """Return whether the service is healthy, and its message."""
        answer = self._answer("GET", "/healthcheck", None)
        return answer.ok, answer.text.strip()

    def catalog_id(self) -> str:
        """Return the id of the service's catalogue, which identifies the service; empty if it does not return one."""
        try:
            report = self._answer("GET", "/healthcheck", None).json()
        except ValueError:
            return ""
        return str(report.get("catalog_id") or "") if isinstance(report, dict) else ""

    def _identity(self) -> Mapping[str, str]:
        return {} if self._token is None else {"X-Auth-Token": self._token()}

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        answer = self._answer(method, path, body)
        _refuse_error(answer)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise ServiceRefused(
                SERVICE, answer.status_code, "the answer is not JSON; is this an Images API?"
            ) from error

    def _answer(self, method: str, path: str, body: Mapping[str, object] | None) -> requests.Response:
        return self._sent(method, path, {}, TIMEOUT_S, json=body)

    def _sent(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        timeout_s: tuple[float, float],
        *,
        json: Mapping[str, object] | None = None,
        data: Iterable[bytes] | None = None,
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                self.url + path,
                json=json,
                data=data,
                headers={**self._identity(), **headers},
                timeout=timeout_s,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            reason = why_silent(error)
            kind = NothingListens if reason == NOTHING_LISTENS else ServiceUnreachable
            raise kind(SERVICE, self.url, reason) from error


def _refuse_error(answer: requests.Response) -> None:
    if not answer.ok:
        raise ServiceRefused(SERVICE, answer.status_code, _explanation(answer))


def _explanation(answer: requests.Response) -> str:
    try:
        text = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        text = answer.text
    return " ".join(TAG.sub(" ", text).split())[:1000] or answer.reason


def _told(body: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return what the API's JSON says of some fields; another release may not know all."""
    return {name: body[name] for name in names if body.get(name) is not None}


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word for word in (text or "").split(",") if word)
