"""First schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from transship.catalog.types import UtcTime

revision = "0100"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "catalog_meta",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_catalog_meta")),
        comment="Facts about this catalogue, e.g. its id, which staging directories carry as a marker.",
    )
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("heard_at", UtcTime(), nullable=False, comment="last sign of life, by the database's clock"),
        sa.Column("slots", sa.Integer(), nullable=False, comment="imports that its worker carries at the same time"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
        comment="Hosts with a staging directory; each worker writes its own row.",
    )
    op.create_table(
        "images",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("status", sa.String(length=30), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("visibility", sa.String(length=30), nullable=False),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("os_hidden", sa.Boolean(), nullable=False),
        sa.Column("disk_format", sa.String(length=20), nullable=True),
        sa.Column("container_format", sa.String(length=20), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("virtual_size", sa.BigInteger(), nullable=True),
        sa.Column("checksum", sa.String(length=32), nullable=True),
        sa.Column("os_hash_algo", sa.String(length=64), nullable=True),
        sa.Column("os_hash_value", sa.String(length=128), nullable=True),
        sa.Column("min_disk", sa.Integer(), nullable=False),
        sa.Column("min_ram", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("deleted_at", UtcTime(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="grows with each write by a client"),
        sa.Column("has_imported", sa.Boolean(), nullable=False, comment="an import was asked for at least once"),
        sa.Column("import_message", sa.Text(), nullable=True, comment="why the last import failed"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
    )
    op.create_index("ix_images_created_at_id", "images", ["created_at", "id"], unique=False)
    op.create_index("ix_images_owner", "images", ["owner"], unique=False)
    op.create_table(
        "inventories",
        sa.Column("place", sa.String(length=255), nullable=False, comment="store:<id> or staging:<host>"),
        sa.Column("taken_at", UtcTime(), nullable=False),
        sa.Column("strays", sa.BigInteger(), nullable=False, comment="how many things there no row names"),
        sa.Column("names", sa.JSON(), nullable=False, comment="the first of them, in order"),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_inventories")),
        comment="What housekeeping found that is not ours; it is listed here and never touched.",
    )
    op.create_table(
        "keepers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keepers")),
    )
    op.create_table(
        "notification_sinks",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, comment="why nothing can be sent to it now; empty when it can"),
        sa.Column("since", UtcTime(), nullable=False, comment="when this was noted"),
        sa.Column("dropped", sa.BigInteger(), nullable=False, comment="notifications given up because too many waited"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_notification_sinks")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.String(length=10), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("store", sa.String(length=255), nullable=True),
        sa.Column("occurred_at", UtcTime(), nullable=False),
        sa.Column("sent_to_bus", sa.Boolean(), nullable=False),
        sa.Column("sent_to_log", sa.Boolean(), nullable=False),
        sa.Column("sent_to_prefect", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_index("ix_notifications_sent_to_bus_id", "notifications", ["sent_to_bus", "id"], unique=False)
    op.create_index("ix_notifications_sent_to_log_id", "notifications", ["sent_to_log", "id"], unique=False)
    op.create_index("ix_notifications_sent_to_prefect_id", "notifications", ["sent_to_prefect", "id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False, comment="doing it twice under one key has one effect"),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcTime(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("key", name=op.f("uq_outbox_key")),
    )
    op.create_index("ix_outbox_due_at", "outbox", ["due_at"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=30), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", "name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "stores",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False, comment="settings as edited in the Prefect UI"),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stores")),
    )
    op.create_table(
        "image_members",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("member", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_members_image_id")),
        sa.PrimaryKeyConstraint("image_id", "member", name=op.f("pk_image_members")),
    )
    op.create_table(
        "image_properties",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_properties_image_id")),
        sa.PrimaryKeyConstraint("image_id", "name", name=op.f("pk_image_properties")),
    )
    op.create_index("ix_image_properties_name", "image_properties", ["name"], unique=False)
    op.create_table(
        "image_tags",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("tag", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_tags_image_id")),
        sa.PrimaryKeyConstraint("image_id", "tag", name=op.f("pk_image_tags")),
    )
    op.create_table(
        "import_targets",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("store", sa.String(length=255), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False, comment="waiting, uploading, written, done or failed"),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_import_targets_image_id")),
        sa.PrimaryKeyConstraint("image_id", "store", name=op.f("pk_import_targets")),
    )
    op.create_table(
        "leases",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="grows with each change of hands, never falls"),
        sa.Column("state", sa.String(length=10), nullable=False, comment="free, queued or held"),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True, comment="host, process and flow run that hold it"),
        sa.Column("since", UtcTime(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=True, comment="by the database's clock; none while free or queued"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_leases_image_id")),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_leases")),
    )
    op.create_index("ix_leases_state", "leases", ["state"], unique=False)
    op.create_table(
        "locations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("store", sa.String(length=255), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False, comment="uploading, stored, active or deleting"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("copied_from", sa.Text(), nullable=False, comment="the file that was copied"),
        sa.Column(
            "put_token",
            sa.Text(),
            nullable=True,
            comment="what the store's driver needs to resume an unfinished put, e.g. an upload id",
        ),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column(
            "claim", sa.String(length=255), nullable=True, comment="who removes it now besides a holder of the lease"
        ),
        sa.Column(
            "claim_until", UtcTime(), nullable=True, comment="by the database's clock; then another one may remove it"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_locations_image_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locations")),
        sa.UniqueConstraint("image_id", "store", name=op.f("uq_locations_image_id_store")),
    )
    op.create_index("ix_locations_state", "locations", ["state"], unique=False)
    op.create_table(
        "staged_files",
        sa.Column("name", sa.String(length=255), nullable=False, comment="file name in the host's staging directory"),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column(
            "role", sa.String(length=20), nullable=False, comment="source, or the label of the plugin that made it"
        ),
        sa.Column("state", sa.String(length=10), nullable=False, comment="part, sealed or scrap"),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("source_key", sa.String(length=64), nullable=False, comment="sha256 of the source's full URI"),
        sa.Column("validators", sa.JSON(), nullable=True),
        sa.Column(
            "digests",
            sa.JSON(),
            nullable=True,
            comment="of a sealed file, hex by algorithm, where they were computed on the way",
        ),
        sa.Column(
            "keep_until", UtcTime(), nullable=True, comment="kept for a rerun until then; none: the lease decides"
        ),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_staged_files_image_id")),
        sa.PrimaryKeyConstraint("name", "host", name=op.f("pk_staged_files")),
    )
    op.create_index("ix_staged_files_image_id", "staged_files", ["image_id"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("method", sa.String(length=30), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False, comment="the caller's roles, lower case"),
        sa.Column("input", sa.JSON(), nullable=False, comment="the request as the user may see it"),
        sa.Column("parameters", sa.JSON(), nullable=False, comment="of its flow run, without secrets"),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("flow_run_id", sa.String(length=36), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False, comment="how often it lost its worker"),
        sa.Column("strict", sa.Boolean(), nullable=False, comment="all_stores_must_succeed"),
        sa.Column("rerunnable", sa.Boolean(), nullable=False, comment="a Retry of its flow run may go on"),
        sa.Column("settled", sa.Boolean(), nullable=False, comment="its flow run was seen to have ended too"),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.Column("expires_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_tasks_image_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index("ix_tasks_flow_run_id", "tasks", ["flow_run_id"], unique=False)
    op.create_index("ix_tasks_image_id", "tasks", ["image_id"], unique=False)
    op.create_index("ix_tasks_status", "tasks", ["status"], unique=False)
