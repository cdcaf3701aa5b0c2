"""Every setting of Transship, typed, with its unit in its name.

Values come from, later ones winning: the defaults below, the files of a Glance, a TOML file, the
environment (``TRANSSHIP_<SECTION>__<OPTION>``), the command line. A value that cannot be used stops the start
with an error that names its source, the option and what would be right.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from transship.domain.image import CONTAINER_FORMATS, DISK_FORMATS
from transship.domain.import_request import ImportMethod
from transship.domain.placement import RESERVED_STORE_PREFIX, StoreFacts

MIB = 1024 * 1024
GIB = 1024 * MIB
LOOPBACK_HOSTS: Final = ("127.0.0.1", "::1", "localhost")


def _web_url(option: str, text: str) -> str:
    """Return an http or https URL without a trailing slash; empty text stays.

    Raises:
        ValueError: it is none, or holds credentials.
    """
    if not text:
        return text
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.query or parts.fragment or not text.isascii():
        raise ValueError(f"{option} must be http://host:port/path or https://host:port/path, without credentials")
    return text.rstrip("/")


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError("the home directory behind ~ cannot be found; write the whole path") from error


def _network(text: str) -> str:
    try:
        return str(ip_network(text.strip()))
    except ValueError as error:
        raise ValueError(f"{error}; write a network like 10.0.0.0/8 or fd00::/8, or one address") from error


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A group of settings: frozen, and unknown names are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class ApiSettings(Section):
    """The Images API v2 service."""

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: Port = Field(9292, description="Port that the API listens on.")
    public_endpoint: str = Field("", description="Base URL that clients use; empty: taken from each request.")
    auth: Literal["none", "keystone"] = Field(
        "none",
        description="Who may call: with keystone whoever has a token of it, with none everybody who reaches the port,"
        " as admin.",
    )
    accept_anyone: bool = Field(
        False, description="Allow auth none on an address that is not loopback: whoever reaches it is admin."
    )
    policy_file: AbsolutePath | None = Field(
        None,
        description="Policy file (YAML) that changes who may copy and deactivate images, and remove copies.",
    )
    limit_param_default: int = Field(25, ge=1, description="Images in one page when the client names no limit.")
    api_limit_max: int = Field(1000, ge=1, description="Most images in one page.")
    max_request_id_length: int = Field(64, ge=1, description="Longest X-OpenStack-Request-ID accepted, in characters.")
    max_body_bytes: int = Field(1 * MIB, ge=1024, description="Longest JSON body accepted.")

    @model_validator(mode="after")
    def _loopback_unless_told(self) -> Self:
        if self.auth == "none" and not self.accept_anyone and self.host not in LOOPBACK_HOSTS:
            raise ValueError(
                f"api.auth none makes everybody who reaches {self.host} an admin;"
                " listen on 127.0.0.1, set api.auth = keystone, or set api.accept_anyone = true if that is meant"
            )
        return self


class KeystoneLogin(Section):
    """Who we are in a Keystone."""

    auth_url: str = Field("", description="Keystone to log in to, e.g. https://keystone.example.org/v3.")
    username: str = Field("", description="User to log in as.")
    user_id: str = Field(
        "", description="User to log in as by its id, which no domain is needed with; wins over username."
    )
    password: SecretStr = Field(SecretStr(""), description="Password of that user.")
    user_domain_id: str = Field("", description="Domain of username; neither id nor name: default.")
    user_domain_name: str = Field("", description="Domain of username by its name.")
    project_name: str = Field("", description="Project to log in to.")
    project_id: str = Field("", description="Its id, with which no domain is needed; wins over project_name.")
    project_domain_id: str = Field("", description="Domain of project_name; neither id nor name: default.")
    project_domain_name: str = Field("", description="Domain of project_name by its name.")
    application_credential_id: str = Field("", description="Application credential to log in with, instead of a user.")
    application_credential_secret: SecretStr = Field(SecretStr(""), description="Secret of application_credential_id.")
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file of the authorities of Keystone's certificate; unset: the system's."
    )
    timeout_s: Seconds = Field(10.0, description="Longest wait for an answer of Keystone.")

    @property
    def complete(self) -> bool:
        """Whether everything that a login needs is set."""
        secret = self.application_credential_secret.get_secret_value()
        account = (self.username or self.user_id) and (self.project_name or self.project_id)
        by_password = bool(account and self.password.get_secret_value())
        return bool(self.auth_url) and (by_password or bool(self.application_credential_id and secret))

    @field_validator("auth_url")
    @classmethod
    def _keystone_can_be_asked(cls, url: str) -> str:
        return _web_url("auth_url", url)


class AuthSettings(KeystoneLogin):
    """The Keystone that says who calls the Images API, with api.auth = keystone."""

    www_authenticate_uri: str = Field("", description="Keystone's address that callers are told; empty: auth_url.")
    token_cache_s: Annotated[float, Field(ge=0)] = Field(
        300.0, description="Seconds that Keystone's word on a token is believed; a revoked token is good for as long."
    )
    token_cache_size: int = Field(10000, ge=1, description="Tokens that one process remembers.")
    service_token_roles: tuple[str, ...] = Field(
        ("service",), description="Roles whose X-Service-Token lets an expired token of a user pass."
    )


class PrefectSettings(Section):
    """The Prefect server that runs the imports."""

    host: str = Field("127.0.0.1", description="Address that the supervised Prefect server listens on.")
    port: Port = Field(4200, description="Port that the supervised Prefect server listens on.")
    api_url: str = Field("", description="API of a Prefect server run by others; empty: supervise one on this machine.")
    auth_string: SecretStr = Field(
        SecretStr(""), description="user:password of that server's API; empty: the one made at first start."
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        description="Database of the supervised server (postgresql://…); empty: SQLite in the home directory.",
    )
    work_pool: str = Field("imports", description="Work pool that imports run in.")
    worker_limit: int = Field(4, ge=1, description="Imports that one worker runs at the same time.")
    poll_interval_s: int = Field(
        5, ge=1, le=60, description="Seconds between a worker's looks for runs of which no event told it."
    )
    retention_days: int = Field(30, ge=1, description="Days that Prefect keeps finished runs and events.")


class RunnerSettings(Section):
    """The processes in which imports run."""

    engine: Literal["warm", "cold"] = Field(
        "warm", description="warm: processes with everything imported, used again; cold: a fresh interpreter a run."
    )
    executor_runs: int = Field(50, ge=1, description="Runs after which a warm process is replaced.")
    executor_growth_bytes: int = Field(
        256 * MIB, ge=1 * MIB, description="Memory that a warm process may have gained when it is replaced."
    )
    cancel_grace_s: Seconds = Field(
        30.0, description="Time that a cancelled import has to undo what it did; then its process is killed."
    )


class DatabaseSettings(Section):
    """The catalogue."""

    url: SecretStr = Field(
        SecretStr(""), description="SQLAlchemy URL of the catalogue; empty: SQLite under the home directory."
    )
    busy_timeout_s: Seconds = Field(30.0, description="How long a write waits for another one.")
    max_connections: int = Field(
        20, ge=2, description="Most connections that one process opens to the catalogue (PostgreSQL)."
    )
    secret_key: SecretStr = Field(
        SecretStr(""), description="Fernet key of the catalogue's secrets; empty: made at first start (SQLite only)."
    )


class ImportSettings(Section):
    """What imports may do."""

    enabled_methods: tuple[ImportMethod, ...] = Field(
        (ImportMethod.GLANCE_DIRECT, ImportMethod.WEB_DOWNLOAD, ImportMethod.COPY_IMAGE),
        description="Import methods that may be used; runs started by hand obey it too.",
    )
    plugins: tuple[str, ...] = Field(
        (), description="Import plugins, in the order in which they run: their names in transship.import_plugins."
    )
    image_size_cap_bytes: int = Field(1024 * GIB, ge=1, description="Largest image accepted, also its virtual size.")
    hashing_algorithm: Literal["sha256", "sha384", "sha512"] = Field(
        "sha512", description="Algorithm of os_hash_value."
    )
    md5_checksum: bool = Field(True, description="Compute the md5 checksum that older clients verify.")
    max_parallel_stores: int = Field(4, ge=1, description="Stores written at the same time; 1: in the order asked for.")
    store_slots: Mapping[str, Annotated[int, Field(ge=1)]] = Field(
        {},
        description="Copies that all hosts together write to a store at the same time, by store id; others: no limit.",
    )
    store_slot_timeout_s: Seconds = Field(
        1800.0, description="Longest wait for one of store_slots; then the copy is written without."
    )
    store_mib_per_s: Mapping[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="MiB a second that one host's imports together write to a store, by store id; others: no limit.",
    )
    store_retries: int = Field(3, ge=0, description="Attempts after the first for a store that is unavailable.")
    verify_stores: bool = Field(True, description="Compare size of each stored object before the image becomes active.")
    max_per_project: int = Field(
        0, ge=0, description="Imports of one project under way at the same time, the others wait; 0: no limit."
    )
    dispatch_ahead: int = Field(
        16,
        ge=1,
        description="Imports handed to Prefect before a worker begins them; of the others projects take turns.",
    )
    task_time_to_live_h: int = Field(48, ge=1, description="Hours that a finished task stays listed.")


class GlanceDownloadSettings(Section):
    """The import method glance-download."""

    extra_properties: tuple[str, ...] = Field(
        ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type"),
        description="Beginnings of the names of properties that are taken over from the remote image.",
    )


class RemoteSettings(KeystoneLogin):
    """A region whose Glance is reached at a URL, whatever service catalogues say."""

    url: str = Field(description="Its Images API, e.g. https://images.region-two.example.org.")
    send_caller_token: bool = Field(
        False, description="Call it with the token of whoever asks for the import: its Keystone is the caller's."
    )

    through_proxy: bool = Field(
        False, description="Reach it through download.proxy_url, which can read tokens that go to an http URL."
    )

    @field_validator("url")
    @classmethod
    def _can_be_asked(cls, url: str) -> str:
        if not url:
            raise ValueError("url must be the address of the region's Images API")
        return _web_url("url", url)

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        named = bool(self.auth_url or self.username or self.user_id or self.application_credential_id)
        if named and not self.complete:
            raise ValueError(
                "auth_url, username, password and project_name (or user_id and project_id) belong together,"
                " or auth_url and an application credential"
            )
        if named and self.send_caller_token:
            raise ValueError("send_caller_token and a login exclude each other")
        return self


class UriSettings(Section):
    """Which addresses may be imported from. An allow list that is set decides alone at its level."""

    allowed_schemes: tuple[str, ...] = Field(("http", "https"), description="Schemes accepted; empty: no allow list.")
    disallowed_schemes: tuple[str, ...] = Field((), description="Schemes refused when allowed_schemes is empty.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names and addresses accepted, also private ones; empty: no allow list."
    )
    disallowed_hosts: tuple[str, ...] = Field((), description="Hosts refused when allowed_hosts is empty.")
    allowed_networks: tuple[Network, ...] = Field(
        (), description="Networks (CIDR) whose addresses are accepted, also private ones; empty: no allow list."
    )
    disallowed_networks: tuple[Network, ...] = Field(
        (), description="Networks (CIDR) whose addresses are refused when allowed_networks is empty."
    )
    allowed_ports: tuple[Port, ...] = Field((80, 443), description="Ports accepted when a URI names one.")
    disallowed_ports: tuple[Port, ...] = Field((), description="Ports refused when allowed_ports is empty.")
    allow_https_to_http: bool = Field(False, description="Follow redirects from https to http.")
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects followed for one download.")
    max_length: int = Field(4096, ge=64, description="Longest URI accepted, in characters.")


class DownloadSettings(Section):
    """Limits of a download."""

    connect_timeout_s: Seconds = Field(10.0, description="Limit for one connection, with TLS.")
    idle_timeout_s: Seconds = Field(30.0, description="Longest silence of a server.")
    total_timeout_s: Seconds = Field(6 * 3600.0, description="Limit for one whole download.")
    min_speed_bytes_per_s: Bytes = Field(1024, description="Slowest rate accepted over min_speed_window_s.")
    min_speed_window_s: Seconds = Field(60.0, description="Seconds over which the slowest rate is taken.")
    retries: int = Field(4, ge=0, description="Attempts after the first for faults that may pass.")
    backoff_s: Seconds = Field(2.0, description="Wait before the first retry; doubles with each, with jitter.")
    retry_after_cap_s: Seconds = Field(120.0, description="Longest wait that a server's Retry-After may ask for.")
    chunk_bytes: int = Field(1 * MIB, ge=64 * 1024, description="Bytes read at a time.")
    allow_empty: bool = Field(False, description="Accept a source of 0 bytes.")
    connections: int = Field(
        4, ge=1, le=64, description="Connections of one download, where the server can serve ranges; 1: one stream."
    )
    range_bytes: int = Field(
        64 * MIB,
        ge=1 * MIB,
        description="Size of one range: at most so much per connection is fetched again after a kill.",
    )
    connections_per_host: int = Field(
        8, ge=0, description="Connections to one source's host from all imports of this machine; 0: no limit."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file of authorities that https sources may have besides the system's."
    )
    proxy_url: SecretStr = Field(
        SecretStr(""),
        description="Proxy of downloads, http://[user:password@]host:port; empty: none, whatever the environment says.",
    )
    no_proxy: tuple[str, ...] = Field(
        (),
        description="What is reached without proxy_url: hosts, .domains with all hosts below them, networks (CIDR).",
    )
    proxy_ca_file: AbsolutePath | None = Field(
        None, description="PEM file of authorities that an inspecting proxy signs with; used with proxy_url alone."
    )

    @field_validator("proxy_url")
    @classmethod
    def _proxy_can_be_used(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if not text:
            return url
        try:
            parts = urlsplit(text)
            usable = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
        except ValueError:
            usable = False
        if not usable or parts.path.strip("/") or parts.query or parts.fragment or not text.isascii():
            raise ValueError("proxy_url must be http://host:port or http://user:password@host:port")
        return url


class StagingSettings(Section):
    """The directory in which images lie while they are imported."""

    dir: AbsolutePath | None = Field(None, description="Staging directory; unset: <home>/staging.")
    free_floor_bytes: Bytes = Field(
        256 * MIB, description="Room that imports leave free, so that databases can always write."
    )
    wait_s: Annotated[float, Field(ge=0)] = Field(
        900.0, description="Longest wait for room that other imports take; then the import fails. 0: it fails at once."
    )
    unknown_size_reserve_bytes: Bytes = Field(
        1 * GIB, description="Room reserved at a time while a download's size is unknown."
    )


class UploadSettings(Section):
    """Limits of the clients that upload image data."""

    idle_timeout_s: Seconds = Field(60.0, description="Longest silence of a client.")
    min_speed_bytes_per_s: Bytes = Field(1024, description="Slowest rate accepted over min_speed_window_s.")
    min_speed_window_s: Seconds = Field(60.0, description="Seconds over which the slowest rate is taken.")


class LeaseSettings(Section):
    """The import lock: how long it lives without renewal, and what happens to imports that lost their worker."""

    ttl_s: Seconds = Field(60.0, description="Seconds after the last renewal until a running import counts as lost.")
    renew_s: Seconds = Field(3.0, description="Seconds between renewals.")
    pending_timeout_s: Seconds = Field(7200.0, description="Longest wait of a request until a worker begins it.")
    crash_retries: int = Field(3, ge=0, description="How often an import that lost its worker is resumed by itself.")
    rerun_ttl_s: Seconds = Field(86400.0, description="Seconds that a passing failure keeps its staged data.")

    @model_validator(mode="after")
    def _renews_in_time(self) -> Self:
        if self.renew_s * 3 > self.ttl_s:
            raise ValueError(f"lease.renew_s {self.renew_s:g} must be at most a third of lease.ttl_s {self.ttl_s:g}")
        return self


class HousekeepingSettings(Section):
    """The flow that removes what nobody needs, and lists what is not ours."""

    inventory_interval_s: Seconds = Field(
        3600.0, description="Seconds between two looks through all that lies in a store, for what is not ours."
    )


class FormatSettings(Section):
    """Image formats and their checks."""

    disk_formats: tuple[str, ...] = Field(DISK_FORMATS, description="Values of disk_format accepted.")
    container_formats: tuple[str, ...] = Field(CONTAINER_FORMATS, description="Values of container_format accepted.")
    require_match: bool = Field(True, description="Refuse data whose format is not the declared disk_format.")
    refuse_raw_in_disguise: bool = Field(
        False, description="Refuse images declared raw whose data are another format; else accepted if safe."
    )
    gpt_safety_checks_nonfatal: tuple[str, ...] = Field(
        (), description="Safety checks of partition tables that only warn, e.g. mbr."
    )
    vmdk_allowed_types: tuple[str, ...] = Field(
        ("streamOptimized", "monolithicSparse"), description="VMDK subformats accepted by conversion."
    )


class DecompressionSettings(Section):
    """Bounds of the image_decompression plugin."""

    max_ratio: float = Field(
        500.0, gt=1, description="Most output bytes per input byte; zeros alone reach 1030 with gzip and zip."
    )
    ratio_floor_bytes: Bytes = Field(1 * GIB, description="Output that is accepted whatever its ratio is.")
    chunk_bytes: int = Field(1 * MIB, ge=64 * 1024, description="Bytes decompressed at a time.")
    lha_command: str = Field("lhasa", description="Command that unpacks LHA files, looked up in PATH; may be missing.")
    lha_timeout_s: Seconds = Field(1800.0, description="Limit for unpacking one LHA file, and for its CPU time.")


class ConversionSettings(Section):
    """The image_conversion plugin and the limits of the qemu-img that it runs."""

    output_format: Literal["raw", "qcow2", "vmdk"] = Field("raw", description="Disk format of converted images.")
    qemu_img: str = Field("qemu-img", description="Command, looked up in PATH.")
    info_cpu_s: int = Field(2, ge=1, description="CPU seconds of one qemu-img info.")
    convert_cpu_s: int = Field(3600, ge=1, description="CPU seconds of one conversion.")
    memory_bytes: int = Field(1 * GIB, ge=64 * MIB, description="Address space of qemu-img.")
    timeout_s: Seconds = Field(4 * 3600.0, description="Limit for one conversion.")
    coroutines: int = Field(16, ge=1, le=16, description="Parallel requests of qemu-img convert.")


class InjectSettings(Section):
    """The inject_image_metadata plugin."""

    properties: Mapping[str, str] = Field({}, description="Properties set on imported images, overwriting.")
    ignore_user_roles: tuple[str, ...] = Field(("admin",), description="Callers with such a role are left alone.")


class QuotaSettings(Section):
    """Counts per image; negative: unlimited."""

    image_property_quota: int = Field(128, description="Extra properties of one image.")
    image_tag_quota: int = Field(128, description="Tags of one image.")


class LogSettings(Section):
    """Log files of the supervised processes."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    max_bytes: int = Field(10 * MIB, ge=64 * 1024, description="Size at which a log file is rotated.")
    backups: int = Field(5, ge=0, description="Rotated files kept of each log.")


class NotificationDriver(StrEnum):
    """How notifications leave, by oslo.messaging's names."""

    MESSAGING = "messaging"
    MESSAGING_V2 = "messagingv2"
    LOG = "log"
    NOOP = "noop"


class NotificationSettings(Section):
    """Notifications about images and tasks, for other services and for Prefect."""

    drivers: tuple[NotificationDriver, ...] = Field(
        (), description="Ways out: messagingv2, messaging (without envelope), log, noop; several may be named."
    )
    transport_url: SecretStr = Field(
        SecretStr(""),
        description="Broker, rabbit://user:password@host:port[,...]/vhost; empty: rabbit:// on this machine.",
    )
    topics: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("notifications",), min_length=1, description="Topics; queues are <topic>.info and <topic>.error."
    )
    publisher_id: str = Field("image.localhost", description="Sender that notifications name.")
    disabled: tuple[str, ...] = Field(
        (), description="Types that messaging and log leave out, e.g. image.update; image or task: the whole group."
    )
    prefect_events: bool = Field(True, description="Show the same facts as events of Prefect.")
    backlog_limit: int = Field(
        100_000, ge=100, description="Most notifications that wait for one way out; beyond it the oldest are given up."
    )

    @field_validator("transport_url")
    @classmethod
    def _is_of_rabbitmq(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if text and text.partition("://")[0] not in ("rabbit", "kombu"):
            raise ValueError("transport_url must begin with rabbit://; no other broker is served")
        return url


class SupervisorSettings(Section):
    """How `transship up` starts and stops its processes."""

    start_timeout_s: Seconds = Field(180.0, description="Longest wait until everything is ready after a start.")
    drain_s: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Time that running imports have to end at a stop; then they are interrupted."
    )
    kill_after_s: Seconds = Field(10.0, description="Time that each process has to end at a stop; then it is killed.")


class FileStoreSettings(Section):
    """A store in a directory."""

    type: Literal["file"] = Field("file", description="Kind of the store.")
    dir: AbsolutePath = Field(description="Directory that holds one file per image, named by the image id.")
    description: str = Field("", description="One line for people.")
    weight: int = Field(0, description="Higher is preferred for reads and stands first in lists.")
    file_mode: str = Field("0640", pattern=r"^0?[0-7]{3}$", description="Octal mode of stored files.")


def store_limit_name(store: str) -> str:
    """Return the name of Prefect's global concurrency limit of a store."""
    return f"store-{store}"


class Settings(Section):
    """All settings. Build one with `config.loading.load_settings`."""

    home: AbsolutePath = Field(
        Path("~/.local/state/transship"), description="Directory of databases, secrets, logs and staging."
    )
    glance_config: tuple[AbsolutePath, ...] = Field(
        (), description="Configuration files of a Glance, or directories of them, read before all other sources."
    )
    api: ApiSettings = ApiSettings()
    auth: AuthSettings = AuthSettings()
    prefect: PrefectSettings = PrefectSettings()
    runner: RunnerSettings = RunnerSettings()
    database: DatabaseSettings = DatabaseSettings()
    imports: ImportSettings = ImportSettings()
    glance_download: GlanceDownloadSettings = GlanceDownloadSettings()
    uri: UriSettings = UriSettings()
    download: DownloadSettings = DownloadSettings()
    upload: UploadSettings = UploadSettings()
    staging: StagingSettings = StagingSettings()
    lease: LeaseSettings = LeaseSettings()
    housekeeping: HousekeepingSettings = HousekeepingSettings()
    formats: FormatSettings = FormatSettings()
    decompression: DecompressionSettings = DecompressionSettings()
    conversion: ConversionSettings = ConversionSettings()
    inject: InjectSettings = InjectSettings()
    quota: QuotaSettings = QuotaSettings()
    notifications: NotificationSettings = NotificationSettings()
    log: LogSettings = LogSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    host_name: str = Field(default_factory=lambda: os.uname().nodename, description="Name of this host in leases.")
    default_store: str = Field("local", description="Store of imports that name none.")
    stores: Mapping[str, FileStoreSettings] = Field({}, description="Stores by id; none: one file store named local.")

    remotes: Mapping[str, RemoteSettings] = Field(
        {}, description="Regions whose Glance glance-download reaches at a URL; others are found in service catalogues."
    )

    @field_validator("stores")
    @classmethod
    def _ids_not_reserved(cls, stores: Mapping[str, FileStoreSettings]) -> Mapping[str, FileStoreSettings]:
        for store_id in stores:
            if store_id.startswith(RESERVED_STORE_PREFIX):
                raise ValueError(f"store id {store_id} begins with {RESERVED_STORE_PREFIX}, which is reserved")
        return stores

    @model_validator(mode="after")
    def _limited_stores_exist(self) -> Self:
        for option in ("store_slots", "store_mib_per_s"):
            unknown = sorted(set(getattr(self.imports, option)) - set(self.all_stores))
            if unknown:
                known = ", ".join(self.all_stores)
                raise ValueError(f"imports.{option} names {', '.join(unknown)}, not among the stores: {known}")
        return self

    @model_validator(mode="after")
    def _default_store_exists(self) -> Self:
        if self.default_store not in self.all_stores:
            known = ", ".join(self.all_stores)
            raise ValueError(f"default_store {self.default_store} is not one of the stores: {known}")
        return self

    @model_validator(mode="after")
    def _keystone_is_named(self) -> Self:
        if self.api.auth == "keystone" and not self.auth.complete:
            raise ValueError(
                "auth.auth_url and what the service logs in to Keystone with are needed by api.auth keystone: set"
                " auth.username (or auth.user_id), auth.password and auth.project_name (or auth.project_id),"
                " or an application credential"
            )
        return self

    @property
    def all_stores(self) -> Mapping[str, FileStoreSettings]:
        """The configured stores; without any, one file store ``local`` under the home directory."""
        if self.stores:
            return self.stores
        return {"local": FileStoreSettings(dir=self.home / "images", description="Directory on this machine")}

    @property
    def store_facts(self) -> tuple[StoreFacts, ...]:
        """What everybody may know of the configured stores, in configured order."""
        return tuple(
            StoreFacts(store_id, store.type, store.description, store.weight, False, store_id == self.default_store)
            for store_id, store in self.all_stores.items()
        )

    def remote(self, region: str) -> RemoteSettings | None:
        """Return how the Glance of a region is reached, None if that is not configured; case does not matter."""
        return next((each for name, each in self.remotes.items() if name.casefold() == region.casefold()), None)

    @property
    def staging_dir(self) -> Path:
        """The staging directory in force."""
        return self.staging.dir or self.home / "staging"

    @property
    def run_dir(self) -> Path:
        """Directory of the lock, the status and the sockets of what runs here."""
        return self.home / "run"

    @property
    def prefect_api_url(self) -> str:
        """URL of the Prefect API in force, without a trailing slash."""
        return (self.prefect.api_url or f"http://{self.prefect.host}:{self.prefect.port}/api").rstrip("/")

    @property
    def api_url(self) -> str:
        """URL at which this machine reaches the Images API, without a trailing slash."""
        return (self.api.public_endpoint or f"http://{self.api.host}:{self.api.port}").rstrip("/")
