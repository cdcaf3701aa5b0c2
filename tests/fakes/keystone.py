"""A Keystone on loopback, as far as services need one: logins, whose token this is, and the limits of projects.

    with Keystone() as keystone:
        token = keystone.token("demo", roles=["member", "reader"])
        keystone.endpoint("image", "RegionTwo", "http://images.region-two.test")
        keystone.revoke(token)
    keystone.limits["image_count_total"] = 1            # of every project
    keystone.project_limits["demo"] = {"image_count_total": 2}

It answers as Keystone 30 does; `tests/peers/test_remote_glance.py` asks a real one the same.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

SERVICE_USER = "images"
SERVICE_PASSWORD = "images-secret"


@dataclass(frozen=True)
class Issued:
    """A token and its contents."""

    body: Mapping[str, Any]
    expires_at: datetime


def _limit(name: str, **further: object) -> dict[str, object]:
    return {"id": name, "resource_name": name, "service_id": "service-1", "region_id": "RegionOne", **further}


class Keystone:
    """One domain, the service's account, and tokens for a test's users."""

    def __init__(self) -> None:
        self._tokens: dict[str, Issued] = {}
        self._catalogue: list[dict[str, Any]] = []
        self.asked: list[str] = []
        """Tokens that somebody asked about, in order."""
        self.logins = 0
        self.last_login: Mapping[str, Any] = {}
        """What the last login sent, under ``auth``."""
        self.broken = 0
        """Status to answer everything with; 0: none."""
        self.limits: dict[str, int] = {}
        """Registered limits, in Keystone's units."""
        self.project_limits: dict[str, dict[str, int]] = {}
        """Limits of single projects; only a login to the system sees them."""
        self.limits_read = 0
        """Requests for the limits of a project."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v3"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    @property
    def section(self) -> dict[str, Any]:
        """Settings of a service that asks this Keystone."""
        return {
            "auth_url": self.url,
            "username": SERVICE_USER,
            "password": SERVICE_PASSWORD,
            "project_name": "service",
        }

    def endpoint(self, service: str, region: str, url: str, interface: str = "public") -> None:
        """Add an address to the catalogue of tokens issued from now on."""
        found = [each for each in self._catalogue if each["type"] == service]
        entry = found[0] if found else {"id": uuid4().hex, "type": service, "name": service, "endpoints": []}
        if not found:
            self._catalogue.append(entry)
        entry["endpoints"].append(
            {"id": uuid4().hex, "interface": interface, "region": region, "region_id": region, "url": url}
        )

    def token(
        self, project: str | None = "demo", user: str = "alice", *, roles: Sequence[str] = ("member", "reader"),
        lives_s: float = 3600,
    ) -> str:  # fmt: skip
        """Issue a token; None for the project: one of the whole system."""
        now = datetime.now(UTC)
        expires_at = now + timedelta(seconds=lives_s)
        body: dict[str, Any] = {
            "methods": ["password"],
            "user": {"domain": {"id": "default", "name": "Default"}, "id": user, "name": user},
            "audit_ids": [uuid4().hex],
            "expires_at": f"{expires_at:%Y-%m-%dT%H:%M:%S.%f}Z",
            "issued_at": f"{now:%Y-%m-%dT%H:%M:%S.%f}Z",
            "roles": [{"id": uuid4().hex, "name": role} for role in roles],
            "catalog": json.loads(json.dumps(self._catalogue)),
        }
        if project is None:
            body["system"] = {"all": True}
        else:
            body["project"] = {"domain": {"id": "default", "name": "Default"}, "id": project, "name": project}
        token = f"gAAAAAB{uuid4().hex}"
        self._tokens[token] = Issued(body, expires_at)
        return token

    def revoke(self, token: str) -> None:
        del self._tokens[token]

    def forget_service(self) -> None:
        """Revoke every token of the service's own account."""
        for token in [token for token, issued in self._tokens.items() if issued.body["user"]["id"] == SERVICE_USER]:
            del self._tokens[token]

    # --- answers ---

    def log_in(self, body: Mapping[str, Any]) -> tuple[int, dict[str, str], object]:
        self.logins += 1
        self.last_login = body["auth"]
        identity = body["auth"]["identity"]
        if "password" in identity["methods"]:
            user = identity["password"]["user"]
            known = user.get("id", user.get("name")) == SERVICE_USER and user["password"] == SERVICE_PASSWORD
        else:
            credential = identity["application_credential"]
            known = credential["id"] == SERVICE_USER and credential["secret"] == SERVICE_PASSWORD
        if not known:
            return 401, {}, {"error": {"code": 401, "message": "The request you have made requires authentication."}}
        project = None if "system" in body["auth"].get("scope", {}) else "service"
        token = self.token(project, SERVICE_USER, roles=["service", "admin"])
        return 201, {"X-Subject-Token": token}, {"token": self._tokens[token].body}

    def tell(self, asker: str, token: str, *, also_expired: bool) -> tuple[int, dict[str, str], object]:
        if asker not in self._tokens:
            return 401, {}, {"error": {"code": 401, "message": "The request you have made requires authentication."}}
        self.asked.append(token)
        issued = self._tokens.get(token)
        if issued is None or (issued.expires_at <= datetime.now(UTC) and not also_expired):
            return 404, {}, {"error": {"code": 404, "message": "Failed to validate token"}}
        return 200, {"X-Subject-Token": token}, {"token": issued.body}

    def tell_limits(self, path: str, query: Mapping[str, Sequence[str]], asker: str) -> dict[str, object] | None:
        """Answer what oslo.limit asks for; None: something else was asked for."""
        if asker not in self._tokens:
            return None
        endpoint = {"id": "endpoint-1", "service_id": "service-1", "region_id": "RegionOne", "interface": "public"}
        match path.removeprefix("/v3"):
            case "/limits/model":
                return {"model": {"name": "flat", "description": ""}}
            case "/services":
                return {"services": [{"id": "service-1", "type": query["type"][0], "name": "glance"}]}
            case "/endpoints":
                return {"endpoints": [endpoint]}
            case "/endpoints/endpoint-1":
                return {"endpoint": endpoint}
            case "/registered_limits":
                return {"registered_limits": [_limit(name, default_limit=most) for name, most in self.limits.items()]}
            case "/limits":
                self.limits_read += 1
                project = query["project_id"][0] if "system" in self._tokens[asker].body else ""
                of_project = self.project_limits.get(project, {}).items()
                return {"limits": [_limit(name, resource_limit=most, project_id=project) for name, most in of_project]}
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        keystone = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(*(keystone.log_in(body) if not keystone.broken else (keystone.broken, {}, {})))

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if keystone.broken:
                    self._send(keystone.broken, {}, {})
                elif parts.path == "/v3/auth/tokens":
                    asker, token = self.headers.get("X-Auth-Token", ""), self.headers.get("X-Subject-Token", "")
                    also_expired = parse_qs(parts.query).get("allow_expired") == ["1"]
                    self._send(*keystone.tell(asker, token, also_expired=also_expired))
                elif limits := keystone.tell_limits(
                    parts.path, parse_qs(parts.query), self.headers.get("X-Auth-Token", "")
                ):
                    self._send(200, {}, limits)
                else:
                    version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": keystone.url}]}
                    self._send(200, {}, {"version": version})

            def _send(self, status: int, headers: Mapping[str, str], body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                pass

        return Handler
