"""Every setting of Transship, typed, with its unit in its name.

Values come from these sources, and later ones override earlier ones: the defaults below, Glance's files, a TOML file,
the environment (``TRANSSHIP_<SECTION>__<OPTION>``), the command line. An invalid value stops the start
with an error that names its source, the option and what is valid.

Each file holds the groups of one subject; this one combines them, and checks what concerns several of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from config.settings.formats import ConversionSettings, DecompressionSettings, FormatSettings, InjectSettings
from config.settings.imports import HousekeepingSettings, ImportSettings, LeaseSettings, QuotaSettings
from config.settings.intake import (
    DownloadSettings,
    GlanceDownloadSettings,
    RemoteSettings,
    StagingSettings,
    UploadSettings,
    UriSettings,
)
from config.settings.keystone import AuthSettings, KeystoneLogin
from config.settings.notifications import NotificationDriver, NotificationSettings
from config.settings.processes import (
    LOOPBACK_HOSTS,
    ApiSettings,
    CorsSettings,
    DatabaseSettings,
    LogSettings,
    PrefectSettings,
    RunnerSettings,
    SupervisorSettings,
    http_origin,
)
from config.settings.section import AbsolutePath, Section
from config.settings.stores import AnyStore, StoreSettings, kind_of, store_facts, store_limit_name
from config.settings.stores.file import FileStoreSettings
from config.settings.stores.s3 import S3Credentials
from transship.domain.errors import ValueRefused
from transship.domain.placement import RESERVED_STORE_PREFIX, StoreFacts


class Settings(Section):
    """All settings. Build one with `config.loading.load_settings`."""

    home: AbsolutePath = Field(
        Path("~/.local/state/transship"), description="Directory for databases, secrets, logs and staging."
    )
    glance_config: tuple[AbsolutePath, ...] = Field(
        (), description="Glance configuration files or directories; they are read before all other sources."
    )
    api: ApiSettings = ApiSettings()
    cors: CorsSettings = CorsSettings()
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
    host_name: str = Field(
        default_factory=lambda: os.uname().nodename,
        description="Name of this host in leases and work queues.",
    )
    default_store: str = Field("local", description="Store for imports that name none.")
    stores: Mapping[str, AnyStore] = Field(
        {}, description="Stores by id. If none is set, there is one file store named local."
    )
    s3_credentials: Mapping[str, S3Credentials] = Field(
        {}, description="Keys of S3 services by name. Stores of type s3 name them in their option credentials."
    )
    remotes: Mapping[str, RemoteSettings] = Field(
        {},
        description="Regions whose Glance has a fixed URL for glance-download. Others are found in the caller's service"
        " catalogue.",
    )

    @field_validator("stores")
    @classmethod
    def _ids_not_reserved(cls, stores: Mapping[str, StoreSettings]) -> Mapping[str, StoreSettings]:
        for store_id in stores:
            if store_id.startswith(RESERVED_STORE_PREFIX):
                raise ValueRefused(
                    f"store id {store_id} begins with {RESERVED_STORE_PREFIX}, which is reserved", "rename it"
                )
        return stores

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        for store_id, store in self.stores.items():
            for option, shared in kind_of(store).references.items():
                name, known, place = getattr(store, option), getattr(self, shared.group), f"stores.{store_id}.{option}"
                if not isinstance(name, str):
                    remedy = f"move the options to a section [{shared.group}.{store_id}], and write its name here"
                    raise ValueRefused(f"{place} is not a name", remedy)
                if name and name not in known:
                    others = f", or choose from {', '.join(known)}" if known else ""
                    remedy = f"add a section [{shared.group}.{name}]{others}"
                    raise ValueRefused(f"{place} names {name}, which {shared.group} does not have", remedy)
        return self

    @model_validator(mode="after")
    def _limited_stores_exist(self) -> Self:
        for option in ("store_slots", "store_mib_per_s"):
            unknown = sorted(set(getattr(self.imports, option)) - set(self.all_stores))
            if unknown:
                known = ", ".join(self.all_stores)
                raise ValueRefused(
                    f"imports.{option} names {', '.join(unknown)}, not among the stores", f"the stores are {known}"
                )
        return self

    @model_validator(mode="after")
    def _default_store_exists(self) -> Self:
        known = ", ".join(self.all_stores)
        writable = ", ".join(each.id for each in self.store_facts if not each.read_only)
        if not writable:
            raise ValueRefused(
                f"no store can be written; {known} can only be read", "add one to stores, e.g. of type file"
            )
        if self.default_store not in self.all_stores:
            raise ValueRefused(
                f"default_store {self.default_store} is not one of the stores", f"the stores are {known}"
            )
        if any(each.read_only for each in self.store_facts if each.default):
            raise ValueRefused(f"default_store {self.default_store} can only be read", f"choose from {writable}")
        return self

    @model_validator(mode="after")
    def _keystone_is_named(self) -> Self:
        if self.api.auth == "keystone" and not self.auth.complete:
            raise ValueRefused(
                "auth.auth_url and a login for the service are required by api.auth keystone",
                "set auth.username (or auth.user_id), auth.password and auth.project_name (or auth.project_id),"
                " or an application credential",
            )
        return self

    @model_validator(mode="after")
    def _limits_can_be_read(self) -> Self:
        if self.quota.unified_limits and not (self.api.auth == "keystone" and self.auth.password.get_secret_value()):
            raise ValueRefused(
                "quota.unified_limits requires api.auth keystone and a login with a password, because only a user can"
                " have a role on the system",
                "set them, or remove quota.unified_limits",
            )
        return self

    @property
    def configured_stores(self) -> Mapping[str, StoreSettings]:
        """The stores as configured; if there are none, one file store ``local`` in the home directory."""
        if self.stores:
            return self.stores
        return {"local": FileStoreSettings(dir=self.home / "images", description="Directory on this machine")}

    @property
    def all_stores(self) -> Mapping[str, StoreSettings]:
        """The configured stores, with the sections that they refer to in place of the names."""
        return {store_id: self._completed(store) for store_id, store in self.configured_stores.items()}

    def _completed(self, store: StoreSettings) -> StoreSettings:
        names = {option: (shared, getattr(store, option)) for option, shared in kind_of(store).references.items()}
        found = {option: getattr(self, shared.group)[name] for option, (shared, name) in names.items() if name}
        return store.model_copy(update=found) if found else store

    @property
    def store_facts(self) -> tuple[StoreFacts, ...]:
        """The public facts about the configured stores, in configured order."""
        return tuple(
            store_facts(store_id, store, default=store_id == self.default_store)
            for store_id, store in self.all_stores.items()
        )

    def remote(self, region: str) -> RemoteSettings | None:
        """Return the settings of a region's Glance, or None; case does not matter."""
        return next((each for name, each in self.remotes.items() if name.casefold() == region.casefold()), None)

    @property
    def staging_dir(self) -> Path:
        """The staging directory in force."""
        return self.staging.dir or self.home / "staging"

    @property
    def run_dir(self) -> Path:
        """Directory of the lock, the status files and the sockets of running processes."""
        return self.home / "run"

    @property
    def prefect_api_url(self) -> str:
        """URL at which this machine reaches the Prefect API in use, without a trailing slash."""
        return (self.prefect.api_url or f"{http_origin(self.prefect.host, self.prefect.port)}/api").rstrip("/")

    @property
    def api_url(self) -> str:
        """URL of this machine's own Images API, without a trailing slash; `api.public_endpoint` is for clients."""
        return http_origin(self.api.host, self.api.port)
