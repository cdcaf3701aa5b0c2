"""What imports may do, how long they may take, and what is removed afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from config.settings.section import GIB, Bytes, Seconds, Section
from transship.domain.errors import ValueRefused
from transship.domain.methods import METHODS, OFFERED, ImportMethod


def _offered(name: object) -> object:
    """Return the name of a method that sites may offer.

    Raises:
        ValueRefused: there is no such method.
    """
    if name not in OFFERED:
        raise ValueRefused("is not among the valid values", f"choose from {', '.join(OFFERED)}")
    return name


class ImportSettings(Section):
    """What imports may do."""

    enabled_methods: tuple[Annotated[ImportMethod, BeforeValidator(_offered)], ...] = Field(
        tuple(method for method, facts in METHODS.items() if facts.by_default),
        description="Import methods that may be used. This also applies to runs started by hand.",
    )
    plugins: tuple[str, ...] = Field(
        (), description="Import plugins in the order in which they run, by entry point name (transship.import_plugins)."
    )
    image_size_cap_bytes: int = Field(
        1024 * GIB, ge=1, description="Largest accepted image; its virtual size counts too."
    )
    virtual_size_cap_bytes: int = Field(
        256 * GIB,
        ge=1,
        description="Largest virtual size that an image's header may state: a few bytes can claim a disk that takes"
        " hours to convert and hash. Raw images have no such header; image_size_cap_bytes limits them.",
    )
    virtual_size_caps: Mapping[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="The same limit for single projects, in bytes by project id."
    )
    hashing_algorithm: Literal["sha256", "sha384", "sha512"] = Field(
        "sha512", description="Algorithm of os_hash_value."
    )
    do_secure_hash: bool = Field(
        True,
        description="Compute the digests of data whose location is registered. false: take them from the request, if it"
        " has any, and read nothing.",
    )
    md5_checksum: bool = Field(True, description="Compute the MD5 checksum that older clients verify.")
    max_parallel_stores: int = Field(
        4, ge=1, description="Stores written at the same time. 1: one by one, in the requested order."
    )
    store_slots: Mapping[str, Annotated[int, Field(ge=1)]] = Field(
        {},
        description="Copies written to a store at the same time by all hosts together, by store id; others: no limit."
        " An upload counts as one.",
    )
    store_slot_timeout_s: Seconds = Field(
        1800.0, description="Longest wait for a slot of store_slots; after that the copy is written without one."
    )
    store_mib_per_s: Mapping[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="MiB per second that the imports and uploads of one host together write to a store, by store id;"
        " others: no limit.",
    )
    store_retries: int = Field(3, ge=0, description="Retries when a store is unavailable.")
    timeout_s: Seconds = Field(
        86400.0,
        description="Time limit for one attempt of an import; then it fails. Waiting for a worker does not count.",
    )
    max_per_project: int = Field(
        0,
        ge=0,
        description="Imports that one project may run at the same time; the rest wait. 0: all worker slots but one, or"
        " no limit if api.auth is none, because all callers are one project then.",
    )
    dispatch_ahead: int = Field(
        16,
        ge=1,
        description="Waiting imports that Prefect holds. The rest wait in the catalogue, and projects take turns.",
    )
    task_time_to_live_h: int = Field(48, ge=1, description="Hours that a finished task stays in the list.")

    def virtual_size_cap(self, project: str) -> tuple[int, str]:
        """Return the largest virtual size of a project's images in bytes, and the option that sets it."""
        if project in self.virtual_size_caps:
            return self.virtual_size_caps[project], f'imports.virtual_size_caps of project "{project}"'
        return self.virtual_size_cap_bytes, "imports.virtual_size_cap_bytes"


class QuotaSettings(Section):
    """Limits of images and of projects; negative counts: no limit."""

    image_property_quota: int = Field(128, description="Extra properties of one image.")
    image_tag_quota: int = Field(128, description="Tags of one image.")
    image_member_quota: int = Field(128, description="Members of one image.")
    image_location_quota: int = Field(
        10, description="Locations of one image up to which clients may add some; copies by imports are not limited."
    )
    user_storage_bytes: Bytes = Field(
        0,
        description="Most bytes that the copies of one project's images may take together; 0: no limit. Without effect"
        " if unified_limits is true.",
    )
    unified_limits: bool = Field(
        False, description="Enforce the limits of projects in Keystone. Requires api.auth keystone and a password."
    )
    endpoint_id: str = Field(
        "",
        description="Id of the image service's endpoint for which the limits are registered; empty: it is looked up.",
    )
    endpoint_region_name: str = Field(
        "", description="Region in which that endpoint is looked up; required if the image service has several regions."
    )

    @property
    def of_projects(self) -> bool:
        """Whether projects have quotas."""
        return self.unified_limits or self.user_storage_bytes > 0


class LeaseSettings(Section):
    """The import lock: how long it lasts without renewal, and what happens to imports that lose their worker."""

    ttl_s: Seconds = Field(60.0, description="Seconds after its last renewal until a running import counts as lost.")
    renew_s: Seconds = Field(3.0, description="Seconds between renewals.")
    pending_timeout_s: Seconds = Field(
        7200.0, description="Longest time that an import waits for a worker; then it fails."
    )
    crash_retries: int = Field(
        3, ge=0, description="How often an import that lost its worker is resumed automatically."
    )
    rerun_ttl_s: Seconds = Field(
        86400.0, description="Seconds that staged data are kept after a failure that a retry may solve."
    )

    @model_validator(mode="after")
    def _renews_in_time(self) -> Self:
        if self.renew_s * 3 > self.ttl_s:
            reason = f"lease.renew_s {self.renew_s:g} must be at most a third of lease.ttl_s {self.ttl_s:g}"
            raise ValueRefused(reason, "renew more often, or make the lease longer")
        return self


class HousekeepingSettings(Section):
    """The flow that removes unneeded data and lists unknown files in stores."""

    inventory_interval_s: Seconds = Field(
        3600.0, description="Seconds between two inventories of a store, which look for unknown objects."
    )
