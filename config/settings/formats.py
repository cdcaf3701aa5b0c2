"""Image formats, and the plugins that check and change image data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from config.settings.section import GIB, MIB, Bytes, Seconds, Section
from transship.domain.image import CONTAINER_FORMATS, DISK_FORMATS


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
