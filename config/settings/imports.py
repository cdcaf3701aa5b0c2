"""What imports may do, how long they may take, and what is removed after them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from config.settings.section import GIB, Seconds, Section
from transship.domain.import_request import ImportMethod


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
    virtual_size_cap_bytes: int = Field(
        256 * GIB,
        ge=1,
        description="Largest virtual size that an image's header may state; a few bytes may claim a disk that takes"
        " hours to convert and hash. Raw images have no such header; image_size_cap_bytes bounds them.",
    )
    virtual_size_caps: Mapping[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="The same for the images of some projects, in bytes by project id."
    )
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
    timeout_s: Seconds = Field(
        86400.0,
        description="Longest run of one attempt of an import; then it fails. Waiting for a worker does not count.",
    )
    max_per_project: int = Field(
        0,
        ge=0,
        description="Imports of one project under way at the same time, the others wait; 0: all worker slots but one,"
        " or no limit where api.auth is none, because everybody is one project there.",
    )
    dispatch_ahead: int = Field(
        16,
        ge=1,
        description="Imports handed to Prefect before a worker begins them; of the others projects take turns.",
    )
    task_time_to_live_h: int = Field(48, ge=1, description="Hours that a finished task stays listed.")

    def virtual_size_cap(self, project: str) -> tuple[int, str]:
        """Return the largest virtual size of a project's images in bytes, and the option that says so."""
        if project in self.virtual_size_caps:
            return self.virtual_size_caps[project], f'imports.virtual_size_caps of project "{project}"'
        return self.virtual_size_cap_bytes, "imports.virtual_size_cap_bytes"


class QuotaSettings(Section):
    """Counts per image; negative: unlimited."""

    image_property_quota: int = Field(128, description="Extra properties of one image.")
    image_tag_quota: int = Field(128, description="Tags of one image.")


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
