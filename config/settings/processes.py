"""The processes of Transship: their addresses, databases, sizes and log files."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from config.settings.section import MIB, AbsolutePath, Origin, Port, Seconds, Section, web_url
from transship.domain.errors import ValueRefused

LOOPBACK_HOSTS: Final = ("127.0.0.1", "::1", "localhost")


def http_origin(host: str, port: int) -> str:
    """Return the ``http://host:port`` at which this machine reaches one of its listeners.

    Args:
        host: name or address of the listener; a wildcard address becomes loopback, and IPv6 addresses get brackets.
        port: 1 to 65535.
    """
    try:
        address = ip_address(host or "0.0.0.0")  # noqa: S104 - replaced, never listened on
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ip_address("::1" if address.version == 6 else "127.0.0.1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


class ApiSettings(Section):
    """The Images API v2 service."""

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: Port = Field(9292, description="Port that the API listens on.")
    public_endpoint: str = Field(
        "",
        description="Base URL in answers to clients; empty: that of each request. Commands on this machine use host and"
        " port instead.",
    )
    enable_proxy_headers_parsing: bool = Field(
        False,
        description="Whether links in answers follow the headers Forwarded or X-Forwarded-Proto, -Host and"
        " -Prefix of a reverse proxy, which must replace what clients send in them.",
    )
    auth: Literal["none", "keystone"] = Field(
        "none",
        description="Who may call the API. keystone: holders of a valid token. none: everybody who reaches the port, as"
        " admin.",
    )
    accept_anyone: bool = Field(
        False, description="Allow auth none on a non-loopback address. Everybody who reaches it is admin."
    )
    policy_file: AbsolutePath | None = Field(
        None,
        description="Policy file (YAML): who may do what; config/samples/policy.yaml has all rules.",
    )
    enforce_new_defaults: bool = Field(
        True,
        description="Whether policies require roles by default. false: Glance's older defaults, by which the owner's"
        " project needs no role.",
    )
    property_protection_file: AbsolutePath | None = Field(
        None,
        description="File that says who may create, read, update and delete which extra properties; as Glance's.",
    )
    property_protection_rule_format: Literal["roles", "policies"] = Field(
        "roles", description="Whether that file names roles, or policies of api.policy_file."
    )
    show_image_direct_url: bool = Field(
        False, description="Show the best location of an image's data, as direct_url. The policy is get_image_location."
    )
    show_multiple_locations: bool = Field(
        False,
        description="Show all locations of an image's data, and let PATCH change them. The policy is"
        " get_image_location.",
    )
    limit_param_default: int = Field(25, ge=1, description="Images per page if the client sets no limit.")
    api_limit_max: int = Field(1000, ge=1, description="Maximum of images per page.")
    max_request_id_length: int = Field(64, ge=1, description="Longest accepted X-OpenStack-Request-ID, in characters.")
    max_body_bytes: int = Field(1 * MIB, ge=1024, description="Largest accepted JSON body.")

    @property
    def rule_files(self) -> tuple[Path, ...]:
        """The files with policies and with property protections."""
        return tuple(file for file in (self.policy_file, self.property_protection_file) if file is not None)

    @field_validator("public_endpoint")
    @classmethod
    def _can_be_linked_to(cls, url: str) -> str:
        return web_url("public_endpoint", url)

    @model_validator(mode="after")
    def _loopback_unless_accepted(self) -> Self:
        if self.auth == "none" and not self.accept_anyone and self.host not in LOOPBACK_HOSTS:
            raise ValueRefused(
                f"api.auth none makes everybody who reaches {self.host} an admin",
                "listen on 127.0.0.1, set api.auth = keystone, or set api.accept_anyone = true if you want that",
            )
        return self


class CorsSettings(Section):
    """Which web pages of other origins may use the API in a browser, e.g. Horizon, which uploads from there."""

    allowed_origin: tuple[Origin, ...] = Field(
        (), description="Their origins, e.g. https://horizon.example.org, or * for all; empty: none."
    )
    allow_credentials: bool = Field(
        True, description="Whether browsers may send cookies and HTTP logins; ignored if all origins are allowed."
    )
    expose_headers: tuple[str, ...] = Field(
        ("X-OpenStack-Request-ID", "OpenStack-image-import-methods", "OpenStack-image-store-ids"),
        description="Response headers that pages may read.",
    )
    max_age: Annotated[int, Field(ge=0)] = Field(
        3600, description="Seconds for which browsers may remember what is allowed."
    )
    allow_methods: tuple[str, ...] = Field(
        ("GET", "PUT", "POST", "DELETE", "PATCH"), description="Methods that pages may use."
    )
    allow_headers: tuple[str, ...] = Field(
        (
            *("X-Auth-Token", "X-OpenStack-Request-ID", "Content-MD5", "Range"),
            *("X-OpenStack-Image-Size", "X-Image-Meta-Store"),
        ),
        description="Request headers that pages may send, besides the usual ones.",
    )


class PrefectSettings(Section):
    """The Prefect server that runs the imports."""

    host: str = Field("127.0.0.1", description="Address that the supervised Prefect server listens on.")
    port: Port = Field(4200, description="Port that the supervised Prefect server listens on.")
    api_url: str = Field("", description="API URL of an external Prefect server; empty: run one on this machine.")
    auth_string: SecretStr = Field(
        SecretStr(""), description="user:password for the server's API; empty: generated at the first start."
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        description="Database of the supervised server (postgresql://…); empty: SQLite in the home directory.",
    )

    @field_validator("api_url")
    @classmethod
    def _can_be_reached(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = not url or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
        except ValueError:
            usable = False
        if not usable:
            raise ValueRefused("is not a usable URL", "write http://host:port/api or https://host:port/api")
        return url

    @field_validator("auth_string")
    @classmethod
    def _names_a_user(cls, text: SecretStr) -> SecretStr:
        user, colon, password = text.get_secret_value().partition(":")
        if (user or password) and not (user and colon and password):
            raise ValueRefused("auth_string is not user:password", "write both, with a colon between them")
        return text

    work_pool: str = Field("imports", description="Work pool for imports.")
    worker_limit: int = Field(4, ge=1, description="Imports that one worker runs at the same time.")
    poll_interval_s: int = Field(
        5, ge=1, le=60, description="Seconds between polls for runs; events normally announce them earlier."
    )
    retention_days: int = Field(30, ge=1, description="Days that Prefect keeps finished runs, their states and logs.")
    event_retention_h: int = Field(
        1, ge=1, description="Hours that Prefect keeps events. Those of an import take seven times the room of its run."
    )


class RunnerSettings(Section):
    """The processes that run imports."""

    engine: Literal["warm", "cold"] = Field(
        "warm", description="warm: reuse processes that have everything imported. cold: a new interpreter for each run."
    )
    executor_runs: int = Field(50, ge=1, description="Runs after which a warm process is replaced.")
    executor_growth_bytes: int = Field(
        256 * MIB, ge=1 * MIB, description="Memory growth after which a warm process is replaced."
    )
    cancel_grace_s: Seconds = Field(
        30.0, description="Time that a cancelled import has to clean up; then its process is killed."
    )


class DatabaseSettings(Section):
    """The catalogue."""

    url: SecretStr = Field(
        SecretStr(""), description="SQLAlchemy URL of the catalogue; empty: SQLite under the home directory."
    )
    busy_timeout_s: Seconds = Field(30.0, description="Longest wait for a lock or for a free connection.")
    max_connections: int = Field(20, ge=2, description="Most connections to the catalogue per process (PostgreSQL).")
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="Fernet key for secrets in the catalogue; empty: generated at the first start (SQLite only).",
    )


class SupervisorSettings(Section):
    """How `transship up` starts and stops its processes."""

    start_timeout_s: Seconds = Field(
        180.0,
        description="A starting component fails after this time without output or CPU use. While it makes progress, a"
        " start may take any time.",
    )
    drain_s: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Time that running imports have to finish at a stop; then they are interrupted."
    )
    kill_after_s: Seconds = Field(10.0, description="Time that each process has to exit at a stop; then it is killed.")


class LogSettings(Section):
    """Log files of the supervised processes."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Minimum level.")
    max_bytes: int = Field(10 * MIB, ge=64 * 1024, description="Log files are rotated at this size.")
    backups: int = Field(5, ge=0, description="Rotated files that are kept.")
