"""Stores in a pool of a Ceph cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator

from config.glance.option import STORE_SECTION, IgnoredOption, MappedOption
from config.glance.readers import read_positive, read_power_of_two, read_text
from config.settings.section import AbsolutePath
from config.settings.stores.kind import BlockFacts, GlanceFacts, StoreKind, StoreSettings
from transship.domain.errors import ValueRefused


class RbdStoreSettings(StoreSettings):
    """A store in a pool of a Ceph cluster."""

    type: Literal["rbd"] = Field("rbd", description="Kind of the store.")
    pool: str = Field(
        "images", min_length=1, description="Pool that holds one RBD image per image, named by the image id."
    )
    user: str = Field(
        "",
        title="Ceph user",
        description="Name of the Ceph user, without 'client.'; empty: Ceph's default. The Ceph configuration names its"
        " keyring.",
        examples=["glance"],
    )
    conf: AbsolutePath = Field(
        Path("/etc/ceph/ceph.conf"), title="Ceph configuration", description="Ceph's configuration file."
    )
    chunk_mib: int = Field(
        8, ge=1, le=32, description="MiB in each of the objects that an image is divided into; a power of two."
    )
    connect_timeout_s: int = Field(5, ge=1, description="Seconds that Ceph's monitors may take to answer.")

    @field_validator("chunk_mib")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueRefused("is not a power of two", "write 1, 2, 4, 8, 16 or 32")
        return value


KIND: Final = StoreKind(
    name="rbd",
    settings=RbdStoreSettings,
    driver="transship.stores.ceph.driver:RbdStore.of",
    block=BlockFacts(
        description=(
            "Keeps images in a pool of a Ceph cluster, one RBD image with a protected snapshot per image, as Glance's"
            " RBD store does, so that Nova and Cinder can clone them."
        ),
        documentation="https://docs.openstack.org/glance/latest/admin/multistores.html",
    ),
    glance=GlanceFacts(
        options=(
            MappedOption(STORE_SECTION, "rbd_store_pool", "stores.<store>.pool", read_text),
            MappedOption(STORE_SECTION, "rbd_store_user", "stores.<store>.user", read_text),
            MappedOption(STORE_SECTION, "rbd_store_ceph_conf", "stores.<store>.conf", read_text),
            MappedOption(
                STORE_SECTION,
                "rbd_store_chunk_size",
                "stores.<store>.chunk_mib",
                read_power_of_two,
                "rounded down to a power of two, as in Glance",
            ),
            MappedOption(
                STORE_SECTION,
                "rados_connect_timeout",
                "stores.<store>.connect_timeout_s",
                read_positive,
                "0 does not change the setting",
            ),
        ),
        ignored=(IgnoredOption(STORE_SECTION, "rbd_thin_provisioning", "holes are never written"),),
    ),
)
