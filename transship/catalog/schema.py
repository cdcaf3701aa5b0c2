"""The tables. A change here needs a migration in ``migrations/versions``; a test compares both."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from transship.catalog.types import PlainText, UtcTime

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UUID_LENGTH: Final = 36
NAME_LENGTH: Final = 255

META: Final = Table(
    "catalog_meta",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    comment="Facts about this catalogue, e.g. its id, which staging directories carry as a marker.",
)

IMAGES: Final = Table(
    "images",
    METADATA,
    Column("id", String(UUID_LENGTH), primary_key=True),
    Column("status", String(30), nullable=False),
    Column("name", String(NAME_LENGTH)),
    Column("visibility", String(30), nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("os_hidden", Boolean, nullable=False),
    Column("disk_format", String(20)),
    Column("container_format", String(20)),
    Column("size", BigInteger),
    Column("virtual_size", BigInteger),
    Column("checksum", String(32)),
    Column("os_hash_algo", String(64)),
    Column("os_hash_value", String(128)),
    Column("min_disk", Integer, nullable=False),
    Column("min_ram", Integer, nullable=False),
    Column("owner", String(NAME_LENGTH), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    Column("version", Integer, nullable=False, comment="grows with each write by a client"),
    Column("has_imported", Boolean, nullable=False, comment="an import was asked for at least once"),
    Column("import_message", PlainText, comment="why the last import failed"),
    Index("ix_images_created_at_id", "created_at", "id"),
    Index("ix_images_owner", "owner"),
)

PROPERTIES: Final = Table(
    "image_properties",
    METADATA,
    Column("image_id", ForeignKey(IMAGES.c.id), primary_key=True),
    Column("name", String(NAME_LENGTH), primary_key=True),
    Column("value", Text, nullable=False),
    Index("ix_image_properties_name", "name"),
)

TAGS: Final = Table(
    "image_tags",
    METADATA,
    Column("image_id", ForeignKey(IMAGES.c.id), primary_key=True),
    Column("tag", String(NAME_LENGTH), primary_key=True),
)

MEMBERS: Final = Table(
    "image_members",
    METADATA,
    Column("image_id", ForeignKey(IMAGES.c.id), primary_key=True),
    Column("member", String(NAME_LENGTH), primary_key=True),
    Column("status", String(20), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

TASKS: Final = Table(
    "tasks",
    METADATA,
    Column("id", String(UUID_LENGTH), primary_key=True),
    Column("image_id", ForeignKey(IMAGES.c.id), nullable=False),
    Column("method", String(30), nullable=False),
    Column("status", String(20), nullable=False),
    Column("owner", String(NAME_LENGTH), nullable=False),
    Column("user_id", String(NAME_LENGTH), nullable=False),
    Column("request_id", String(NAME_LENGTH), nullable=False),
    Column("roles", JSON, nullable=False, comment="the caller's roles, lower case"),
    Column("input", JSON, nullable=False, comment="the request as the user may see it"),
    Column("parameters", JSON, nullable=False, comment="of its flow run, without secrets"),
    Column("result", JSON),
    Column("message", PlainText, nullable=False),
    Column("progress", JSON),
    Column("flow_run_id", String(UUID_LENGTH)),
    Column("attempt", Integer, nullable=False),
    Column("crashes", Integer, nullable=False, comment="how often it lost its worker"),
    Column("strict", Boolean, nullable=False, comment="all_stores_must_succeed"),
    Column("rerunnable", Boolean, nullable=False, comment="a Retry of its flow run may go on"),
    Column("settled", Boolean, nullable=False, comment="its flow run was seen to have ended too"),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("expires_at", UtcTime),
    Index("ix_tasks_image_id", "image_id"),
    Index("ix_tasks_status", "status"),
    Index("ix_tasks_flow_run_id", "flow_run_id"),
)

LEASES: Final = Table(
    "leases",
    METADATA,
    Column("image_id", ForeignKey(IMAGES.c.id), primary_key=True),
    Column("epoch", BigInteger, nullable=False, comment="grows with each change of hands, never falls"),
    Column("state", String(10), nullable=False, comment="free, queued or held"),
    Column("task_id", String(UUID_LENGTH)),
    Column("owner", Text, comment="host, process and flow run that hold it"),
    Column("since", UtcTime, nullable=False),
    Column("expires_at", UtcTime, comment="by the database's clock; none while free or queued"),
    Index("ix_leases_state", "state"),
)

TARGETS: Final = Table(
    "import_targets",
    METADATA,
    Column("image_id", ForeignKey(IMAGES.c.id), primary_key=True),
    Column("store", String(NAME_LENGTH), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("task_id", String(UUID_LENGTH), nullable=False),
    Column("state", String(12), nullable=False, comment="waiting, uploading, written, done or failed"),
    Column("error", PlainText, nullable=False),
)

LOCATIONS: Final = Table(
    "locations",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("image_id", ForeignKey(IMAGES.c.id), nullable=False),
    Column("store", String(NAME_LENGTH), nullable=False),
    Column("url", Text, nullable=False),
    Column("state", String(12), nullable=False, comment="uploading, stored, active or deleting"),
    Column("epoch", BigInteger, nullable=False),
    Column("size", BigInteger),
    Column("proof", Text, nullable=False),
    Column("copied_from", Text, nullable=False, comment="the file that was copied"),
    Column("put_token", Text, comment="what the store's driver needs to resume an unfinished put, e.g. an upload id"),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("claim", String(NAME_LENGTH), comment="who removes it now besides a holder of the lease"),
    Column("claim_until", UtcTime, comment="by the database's clock; then another one may remove it"),
    Column("verified_at", UtcTime, comment="when all its bytes were last read and compared with the image's digest"),
    Column("damage", Text, comment="what was wrong with it then"),
    UniqueConstraint("image_id", "store"),
    Index("ix_locations_state", "state"),
)

STAGED: Final = Table(
    "staged_files",
    METADATA,
    Column("name", String(NAME_LENGTH), primary_key=True, comment="file name in the host's staging directory"),
    Column("host", String(NAME_LENGTH), primary_key=True),
    Column("image_id", ForeignKey(IMAGES.c.id), nullable=False),
    Column("task_id", String(UUID_LENGTH), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("role", String(20), nullable=False, comment="source, or the label of the plugin that made it"),
    Column("state", String(10), nullable=False, comment="part, sealed or scrap"),
    Column("reserved_bytes", BigInteger, nullable=False),
    Column("size", BigInteger),
    Column("source_key", String(64), nullable=False, comment="sha256 of the source's full URI"),
    Column("validators", JSON),
    Column("digests", JSON, comment="of a sealed file, hex by algorithm, where they were computed on the way"),
    Column("keep_until", UtcTime, comment="kept for a rerun until then; none: the lease decides"),
    Column("created_at", UtcTime, nullable=False),
    Index("ix_staged_files_image_id", "image_id"),
)

SECRETS: Final = Table(
    "secrets",
    METADATA,
    Column("task_id", String(UUID_LENGTH), primary_key=True),
    Column("name", String(30), primary_key=True),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("expires_at", UtcTime),
)

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("key", String(NAME_LENGTH), nullable=False, comment="doing it twice under one key has one effect"),
    Column("task_id", String(UUID_LENGTH)),
    Column("payload", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("last_error", PlainText, nullable=False),
    UniqueConstraint("key"),
    Index("ix_outbox_due_at", "due_at"),
)

NOTIFICATIONS: Final = Table(
    "notifications",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("message_id", String(UUID_LENGTH), nullable=False),
    Column("event_type", String(64), nullable=False),
    Column("priority", String(10), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("image_id", String(UUID_LENGTH), nullable=False),
    Column("task_id", String(UUID_LENGTH)),
    Column("store", String(NAME_LENGTH)),
    Column("occurred_at", UtcTime, nullable=False),
    Column("sent_to_bus", Boolean, nullable=False),
    Column("sent_to_log", Boolean, nullable=False),
    Column("sent_to_prefect", Boolean, nullable=False),
    Index("ix_notifications_sent_to_bus_id", "sent_to_bus", "id"),
    Index("ix_notifications_sent_to_log_id", "sent_to_log", "id"),
    Index("ix_notifications_sent_to_prefect_id", "sent_to_prefect", "id"),
)

SINKS: Final = Table(
    "notification_sinks",
    METADATA,
    Column("name", String(20), primary_key=True),
    Column("reason", PlainText, nullable=False, comment="why nothing can be sent to it now; empty when it can"),
    Column("since", UtcTime, nullable=False, comment="when this was noted"),
    Column("dropped", BigInteger, nullable=False, comment="notifications given up because too many waited"),
)

STORES: Final = Table(
    "stores",
    METADATA,
    Column("id", String(NAME_LENGTH), primary_key=True),
    Column("ciphertext", LargeBinary, nullable=False, comment="settings as edited in the Prefect UI"),
    Column("updated_at", UtcTime, nullable=False),
)

HOSTS: Final = Table(
    "hosts",
    METADATA,
    Column("name", String(NAME_LENGTH), primary_key=True),
    Column("heard_at", UtcTime, nullable=False, comment="last sign of life, by the database's clock"),
    Column("slots", Integer, nullable=False, comment="imports that its worker carries at the same time"),
    comment="Hosts with a staging directory; each worker writes its own row.",
)

INVENTORIES: Final = Table(
    "inventories",
    METADATA,
    Column("place", String(NAME_LENGTH), primary_key=True, comment="store:<id> or staging:<host>"),
    Column("taken_at", UtcTime, nullable=False),
    Column("strays", BigInteger, nullable=False, comment="how many things there no row names"),
    Column("names", JSON, nullable=False, comment="the first of them, in order"),
    comment="What housekeeping found that is not ours; it is listed here and never touched.",
)

KEEPERS: Final = Table(
    "keepers",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)
