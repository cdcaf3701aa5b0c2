"""Stores that hold nothing themselves: images at http and https URLs, which are only read."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from config.glance.option import STORE_SECTION, IgnoredOption, MappedOption
from config.glance.readers import read_optional_path
from config.settings.section import AbsolutePath
from config.settings.stores.kind import BlockFacts, GlanceFacts, StoreKind, StoreSettings


class HttpStoreSettings(StoreSettings):
    """Images at http and https URLs, which are only read."""

    type: Literal["http"] = Field("http", description="Kind of the store.")
    ca_file: AbsolutePath | None = Field(
        None,
        title="Certificate authorities",
        description="PEM file with certificate authorities for https, in addition to the system's; unset:"
        " download.ca_file.",
        examples=["/etc/ssl/images-ca.pem"],
    )


KIND: Final = StoreKind(
    name="http",
    settings=HttpStoreSettings,
    driver="transship.stores.http:HttpStore.of",
    block=BlockFacts(
        description="Reads images at http and https URLs, as Glance's http store does; nothing is written to it.",
        documentation="https://docs.openstack.org/glance/latest/admin/multistores.html",
    ),
    glance=GlanceFacts(
        options=(
            MappedOption(STORE_SECTION, "https_ca_certificates_file", "stores.<store>.ca_file", read_optional_path),
        ),
        ignored=(
            IgnoredOption(
                STORE_SECTION,
                "https_insecure",
                "certificates are always checked; name the server's authority in https_ca_certificates_file",
                harmless=("false", "0", "off", "no"),
            ),
            IgnoredOption(
                STORE_SECTION,
                "http_proxy_information",
                "all http and https requests use the proxy of download.proxy_url; set it there",
            ),
        ),
    ),
    read_only=True,
)
