"""Stores in a bucket of an S3 service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from config.glance.option import STORE_SECTION, IgnoredOption, MappedOption
from config.glance.readers import read_boolean, read_host_url, read_integer, read_optional_path, read_text
from config.settings.section import WHOLE_PATHS, AbsolutePath, Section, web_url
from config.settings.stores.kind import BlockFacts, GlanceFacts, SharedKind, StoreKind, StoreSettings
from transship.domain.errors import ValueRefused

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
"""Wider than AWS's rules, because radosgw and older AWS regions have buckets that break them."""


class S3Credentials(Section):
    """The keys of a user of an S3 service, for any number of stores."""

    access_key: SecretStr = Field(description="Access key.", examples=["AKIAIOSFODNN7EXAMPLE"])
    secret_key: SecretStr = Field(
        description="Secret key of access_key.", examples=["wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"]
    )

    @field_validator("access_key", "secret_key")
    @classmethod
    def _is_given(cls, key: SecretStr) -> SecretStr:
        if not key.get_secret_value():
            raise ValueRefused("is empty", "set access_key and secret_key")
        if not key.get_secret_value().strip("*"):
            remedy = "write the key itself, or in Prefect choose the store's credentials again"
            raise ValueRefused("is only the mask of a key", remedy)
        return key


class S3StoreSettings(StoreSettings):
    """A store in a bucket of an S3 service."""

    type: Literal["s3"] = Field("s3", description="Kind of the store.")
    endpoint: str = Field(
        "",
        description="URL of the service, without the bucket; empty: AWS.",
        examples=["https://objects.example.org:7480"],
    )
    region: str = Field(
        "", description="Region of the bucket; empty: the service's default.", examples=["eu-central-1"]
    )
    bucket: str = Field(
        description="Bucket that holds one object per image, named by the image id.", examples=["images"]
    )
    credentials: S3Credentials | str = Field(
        "",
        description="Name of credentials in s3_credentials; empty: those in ~/.aws of the service's user, or the"
        " machine's role.",
        examples=["radosgw"],
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="Whether requests name the bucket in the path or in the host name; auto: the client decides.",
    )
    ca_file: AbsolutePath | None = Field(
        None,
        title="CA file",
        description="PEM file with the certificate authorities of the service; unset: the public ones.",
        examples=["/etc/transship/objects-authority.pem"],
    )
    create_bucket: bool = Field(
        False, description="Whether the first `transship deploy` creates the bucket if it does not exist."
    )
    part_mib: int = Field(
        32,
        ge=5,
        le=5120,
        title="Part MiB",
        description="MiB in each part of an upload; more if the image would have over 10,000 parts.",
    )
    parts_in_flight: int = Field(4, ge=1, le=64, description="Parts of one image that are sent at the same time.")

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, endpoint: str) -> str:
        return web_url("endpoint", endpoint)

    @field_validator("bucket")
    @classmethod
    def _is_a_bucket(cls, bucket: str) -> str:
        if not _BUCKET.fullmatch(bucket):
            raise ValueRefused("is not the name of a bucket", "write 3 to 63 letters, digits, dots and dashes")
        return bucket

    @field_validator("credentials", mode="before")
    @classmethod
    def _named_or_complete(cls, value: object, info: ValidationInfo) -> S3Credentials | str:
        match value:
            case Mapping():
                return S3Credentials.model_validate(value)
            case S3Credentials() | "":
                return value
            case str() if not (info.context and info.context.get(WHOLE_PATHS)):
                return value
        raise ValueRefused("are not credentials", "choose S3 credentials by their name, or none")

    @property
    def keys(self) -> S3Credentials | None:
        """The keys; None: boto3 finds some. Of a store in `Settings.all_stores`, or from a block."""
        return self.credentials if isinstance(self.credentials, S3Credentials) else None


CREDENTIALS: Final = SharedKind(
    group="s3_credentials",
    settings=S3Credentials,
    block=BlockFacts(
        description="Keys of a user of an S3 service. All stores that refer to them use new keys at once.",
        documentation="https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html",
    ),
)

KIND: Final = StoreKind(
    name="s3",
    settings=S3StoreSettings,
    driver="transship.stores.s3.driver:S3Store.of",
    block=BlockFacts(
        description=(
            "Keeps images in a bucket of an S3 service such as AWS or Ceph's object gateway, one object per image,"
            " named by the image id, as Glance's S3 store does."
        ),
        documentation="https://docs.openstack.org/glance/latest/admin/multistores.html",
    ),
    glance=GlanceFacts(
        options=(
            MappedOption(
                STORE_SECTION,
                "s3_store_host",
                "stores.<store>.endpoint",
                read_host_url,
                "a host without a scheme means http, as in Glance",
                required=True,
            ),
            MappedOption(STORE_SECTION, "s3_store_region_name", "stores.<store>.region", read_text),
            MappedOption(STORE_SECTION, "s3_store_bucket", "stores.<store>.bucket", read_text, required=True),
            MappedOption(
                STORE_SECTION,
                "s3_store_access_key",
                "s3_credentials.<store>.access_key",
                read_text,
                required=True,
                secret=True,
            ),
            MappedOption(
                STORE_SECTION,
                "s3_store_secret_key",
                "s3_credentials.<store>.secret_key",
                read_text,
                required=True,
                secret=True,
            ),
            MappedOption(STORE_SECTION, "s3_store_bucket_url_format", "stores.<store>.addressing_style", read_text),
            MappedOption(STORE_SECTION, "s3_store_cacert", "stores.<store>.ca_file", read_optional_path),
            MappedOption(
                STORE_SECTION,
                "s3_store_create_bucket_on_put",
                "stores.<store>.create_bucket",
                read_boolean,
                "the bucket is created by `transship deploy`, never by an import",
            ),
            MappedOption(STORE_SECTION, "s3_store_large_object_chunk_size", "stores.<store>.part_mib", read_integer),
            MappedOption(STORE_SECTION, "s3_store_thread_pools", "stores.<store>.parts_in_flight", read_integer),
        ),
        ignored=(
            IgnoredOption(STORE_SECTION, "s3_store_large_object_size", "images of any size are uploaded in parts"),
            IgnoredOption(
                STORE_SECTION,
                "s3_store_enable_data_integrity_protection",
                "each part is always sent with its MD5, which every S3 service verifies",
            ),
            IgnoredOption(
                STORE_SECTION,
                "s3_store_request_checksum_calculation",
                "each part is always sent with its MD5, which every S3 service verifies",
            ),
            IgnoredOption(
                STORE_SECTION,
                "s3_store_response_checksum_validation",
                "data read from a store are compared with the image's own digests",
            ),
        ),
    ),
    references={"credentials": CREDENTIALS},
)
