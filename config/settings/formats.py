"""Image formats, and the plugins that check and change image data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from config.settings.section import GIB, MIB, Bytes, Seconds, Section
from transship.domain.image import CONTAINER_FORMATS, DISK_FORMATS


class FormatSettings(Section):
    """Image formats and their checks."""

    disk_formats: tuple[str, ...] = Field(DISK_FORMATS, description="Accepted values of disk_format.")
    container_formats: tuple[str, ...] = Field(CONTAINER_FORMATS, description="Accepted values of container_format.")
    require_match: bool = Field(True, description="Refuse data whose format is not the declared disk_format.")
    refuse_raw_in_disguise: bool = Field(
        False,
        description="Refuse images declared raw whose data have another format; otherwise they are accepted if safe.",
    )
    gpt_safety_checks_nonfatal: tuple[str, ...] = Field(
        (), description="Safety checks of partition tables that only cause a warning, e.g. mbr."
    )
    vmdk_allowed_types: tuple[str, ...] = Field(
        ("streamOptimized", "monolithicSparse"), description="VMDK subformats that conversion accepts."
    )


class DecompressionSettings(Section):
    """Limits of the image_decompression plugin."""

    max_ratio: float = Field(
        500.0, gt=1, description="Maximum output bytes per input byte. Zeros alone reach 1030 with gzip and zip."
    )
    ratio_floor_bytes: Bytes = Field(1 * GIB, description="Output of up to this size is accepted at any ratio.")
    chunk_bytes: int = Field(1 * MIB, ge=64 * 1024, description="Bytes decompressed at a time.")
    lha_command: str = Field("lhasa", description="Command that unpacks LHA files, found in PATH. It may be missing.")
    lha_timeout_s: Seconds = Field(
        1800.0, description="Time limit for unpacking one LHA file, both elapsed and CPU time."
    )


class ConversionSettings(Section):
    """The image_conversion plugin and the limits of its qemu-img processes."""

    output_format: Literal["raw", "qcow2", "vmdk"] = Field("raw", description="Disk format of converted images.")
    qemu_img: str = Field("qemu-img", description="The qemu-img command, found in PATH.")
    info_cpu_s: int = Field(2, ge=1, description="CPU seconds for one qemu-img info.")
    convert_cpu_s: int = Field(3600, ge=1, description="CPU seconds for one conversion.")
    memory_bytes: int = Field(1 * GIB, ge=64 * MIB, description="Address space for each qemu-img process.")
    timeout_s: Seconds = Field(4 * 3600.0, description="Time limit for one conversion.")
    coroutines: int = Field(16, ge=1, le=16, description="Parallel requests of qemu-img convert.")


class InjectSettings(Section):
    """The inject_image_metadata plugin."""

    properties: Mapping[str, str] = Field(
        {}, description="Properties to set on imported images; existing values are overwritten."
    )
    ignore_user_roles: tuple[str, ...] = Field(
        ("admin",), description="Images of callers with one of these roles are not changed."
    )
