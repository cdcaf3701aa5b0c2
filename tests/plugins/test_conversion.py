"""The image_conversion plugin with the real qemu-img."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.fakes import disk_images as images
from tests.fakes.plugin_workspace import FakeWorkspace, settings_with, work_on
from transship.domain.errors import (
    ConfigurationRefused,
    ConversionFailed,
    FormatMismatch,
    FormatUnsafe,
    ImageTooLarge,
    ImportCancelled,
    StagingFull,
)
from transship.domain.stop import StopToken
from transship.plugins.base import PluginOutcome
from transship.plugins.conversion import PLUGIN
from transship.plugins.format_gate import inspect_file
from transship.plugins.qemu_img import QemuImg

MIB = images.MIB
DISK_BYTES = 8 * MIB


def convert(
    path: Path, declared: str, container: str = "bare", room: int = 1 << 50, **sections: object
) -> PluginOutcome:
    settings = settings_with(path.parent, **sections)
    work, workspace = work_on(path, settings, disk_format=declared, container_format=container, room_bytes=room)
    try:
        return PLUGIN.run(work)
    except BaseException:
        assert_nothing_left(workspace)
        raise


def assert_nothing_left(workspace: FakeWorkspace) -> None:
    assert [path for path in workspace.directory.iterdir() if path.is_file()] == []


@pytest.mark.parametrize(
    ("declared", "qemu_format", "options"),
    [
        ("qcow2", "qcow2", ""),
        ("qcow2", "qcow2", "compression_type=zstd"),
        ("vmdk", "vmdk", "subformat=monolithicSparse"),
        ("vmdk", "vmdk", "subformat=streamOptimized"),
        ("vdi", "vdi", ""),
        ("vhd", "vpc", "force_size=on"),
        ("vhdx", "vhdx", ""),
    ],
)
def test_every_disk_format_becomes_the_same_raw_disk(
    declared: str, qemu_format: str, options: str, tmp_path: Path
) -> None:
    disk = images.raw_disk(tmp_path / "disk", partitioned=True)
    outcome = convert(images.converted(disk, tmp_path / "staged", qemu_format, options), declared)
    assert outcome.path is not None
    assert outcome.path.read_bytes() == disk.read_bytes()
    assert outcome.path.stat().st_blocks * 512 <= 2 * MIB
    assert (outcome.disk_format, outcome.container_format, outcome.virtual_size) == ("raw", "bare", DISK_BYTES)
    assert outcome.summary == f"converted from {declared} to raw"


@pytest.mark.parametrize("creator", [b"win ", b"vpc ", b"vs  ", b"qemu", b"d2v ", b"tap\0", b"wa\0\0", b"\0\0\0\0"])
def test_a_vhd_keeps_its_last_bytes_whatever_program_made_it(creator: bytes, tmp_path: Path) -> None:
    # Its geometry has fewer sectors than its current size, and its original size is that before it was grown.
    disk = images.patched(images.raw_disk(tmp_path / "disk"), DISK_BYTES - 7, b"the end")
    staged = images.converted(disk, tmp_path / "staged", "vpc", "force_size=on")
    images.with_vhd_footers(staged, DISK_BYTES, creator=creator, original=DISK_BYTES // 2)
    outcome = convert(staged, "vhd")
    assert outcome.path is not None
    assert outcome.path.read_bytes() == disk.read_bytes()
    assert outcome.virtual_size == DISK_BYTES


@pytest.mark.parametrize("creator", [b"win ", b"vpc "])
@pytest.mark.parametrize("partitioned", [False, True])
def test_a_fixed_vhd_becomes_the_disk_before_its_footer(creator: bytes, partitioned: bool, tmp_path: Path) -> None:
    disk = images.raw_disk(tmp_path / "staged", partitioned=partitioned)
    content = disk.read_bytes()
    outcome = convert(images.fixed_vhd(disk, creator=creator), "vhd")
    assert outcome.path is not None
    assert outcome.path.read_bytes() == content
    assert outcome.virtual_size == DISK_BYTES


@pytest.mark.parametrize("target", ["raw", "qcow2", "vmdk"])
@pytest.mark.parametrize(
    ("declared", "qemu_format", "options"),
    [
        ("raw", "raw", ""),
        ("qcow2", "qcow2", ""),
        ("vmdk", "vmdk", "subformat=monolithicSparse"),
        ("vmdk", "vmdk", "subformat=streamOptimized"),
        ("vdi", "vdi", ""),
        ("vhd", "vpc", "force_size=on"),
        ("vhd", "vpc", ""),
        ("vhd", "vpc", "force_size=on,subformat=fixed"),
        ("vhdx", "vhdx", ""),
    ],
)
def test_a_conversion_has_the_virtual_size_that_the_gate_read(
    declared: str, qemu_format: str, options: str, target: str, tmp_path: Path
) -> None:
    disk = images.raw_disk(tmp_path / "disk", DISK_BYTES + 1000)
    staged = images.converted(disk, tmp_path / "staged", qemu_format, options)
    settings = settings_with(tmp_path, conversion={"output_format": target})
    work, _ = work_on(staged, settings, disk_format=declared)
    read = inspect_file(
        staged,
        declared,
        "bare",
        settings.formats,
        size_cap_bytes=1 << 40,
        stop=work.stop,
        progress=lambda _done, _total: None,
    ).virtual_size
    outcome = PLUGIN.run(work)
    made = QemuImg(settings.conversion).info(outcome.path or staged, target, target, work.stop)
    assert read is not None
    assert outcome.virtual_size in {read, -(-read // 512) * 512}
    assert made.virtual_size == -(-read // 512) * 512
    images.qemu_img("compare", "-f", target, "-F", "raw", outcome.path or staged, disk)


@pytest.mark.parametrize("target", ["raw", "qcow2", "vmdk"])
def test_an_image_whose_size_qemu_img_reads_otherwise_is_refused(target: str, tmp_path: Path) -> None:
    # qemu-img leaves out the last bytes of a disk that is no multiple of a sector.
    staged = images.converted(images.raw_disk(tmp_path / "disk"), tmp_path / "staged", "qcow2")
    images.patched(staged, 24, struct.pack(">Q", DISK_BYTES - 200))
    with pytest.raises(ConversionFailed, match=f"states a virtual size of {DISK_BYTES} bytes.*{DISK_BYTES - 512}"):
        convert(staged, "qcow2", conversion={"output_format": target})


@pytest.mark.parametrize("short_by", [512, 12 * 1024, DISK_BYTES])
def test_a_result_of_another_size_is_refused(short_by: int, tmp_path: Path) -> None:
    disk = images.raw_disk(tmp_path / "disk")
    staged = images.converted(disk, tmp_path / "staged", "qcow2")
    forgetful = tmp_path / "qemu-img"
    forgetful.write_text(
        '#!/bin/sh\nqemu-img "$@" || exit\nfor last; do :; done\n'
        f'if [ $1 = convert ]; then truncate -s {DISK_BYTES - short_by} "$last"; fi\n'
    )
    forgetful.chmod(0o755)
    with pytest.raises(ConversionFailed, match=f"qemu-img reads {DISK_BYTES - short_by}"):
        convert(staged, "qcow2", conversion={"qemu_img": str(forgetful)})


@pytest.mark.parametrize("target", ["qcow2", "vmdk"])
def test_a_raw_disk_becomes_the_format_of_the_site(target: str, tmp_path: Path) -> None:
    disk = images.raw_disk(tmp_path / "disk")
    outcome = convert(disk, "raw", conversion={"output_format": target})
    assert outcome.path is not None
    assert (outcome.disk_format, outcome.virtual_size) == (target, DISK_BYTES)
    images.qemu_img("compare", "-f", target, "-F", "raw", outcome.path, disk)


@pytest.mark.parametrize("declared", ["raw", "qcow2", "vmdk"])
def test_an_image_in_the_format_of_the_site_only_gets_its_virtual_size(declared: str, tmp_path: Path) -> None:
    disk = images.raw_disk(tmp_path / "disk")
    staged = disk if declared == "raw" else images.converted(disk, tmp_path / "staged", declared)
    outcome = convert(staged, declared, conversion={"output_format": declared})
    assert outcome == PluginOutcome(virtual_size=DISK_BYTES, summary=f"not converted: it is {declared} already")


@pytest.mark.parametrize("hybrid", [True, False])
def test_an_iso_passes_unchanged(hybrid: bool, tmp_path: Path) -> None:
    outcome = convert(images.iso(tmp_path / "staged", hybrid=hybrid), "iso")
    assert outcome == PluginOutcome(summary="not converted: an ISO image stays as it is")


@pytest.mark.parametrize("declared", ["ami", "aki", "ari", "ploop"])
def test_kernels_and_their_kin_pass_unchanged(declared: str, tmp_path: Path) -> None:
    outcome = convert(images.raw_disk(tmp_path / "staged"), declared)
    assert outcome == PluginOutcome(summary=f"not converted: {declared} images stay as they are")


@pytest.mark.parametrize("container", ["compressed", "ova", "docker"])
def test_data_in_another_container_pass_unchanged(container: str, tmp_path: Path) -> None:
    outcome = convert(images.raw_disk(tmp_path / "staged"), "qcow2", container)
    assert outcome == PluginOutcome(summary=f"not converted: container_format is {container}, not bare")


@pytest.mark.parametrize(
    ("declared", "made", "options"),
    [
        pytest.param("raw", "qcow2", {}, id="raw in disguise"),
        pytest.param("raw", "vmdk", {"formats": {"require_match": False}}, id="raw in disguise, no match asked"),
        pytest.param("qcow2", "vdi", {"formats": {"require_match": False}}, id="another format, no match asked"),
    ],
)
def test_nothing_is_read_in_another_format_than_it_is_in(
    declared: str, made: str, options: dict[str, object], tmp_path: Path
) -> None:
    staged = images.converted(images.raw_disk(tmp_path / "disk"), tmp_path / "staged", made)
    with pytest.raises(FormatMismatch) as refused:
        convert(staged, declared, **options)  # type: ignore[arg-type] # sections are keywords of settings
    assert (refused.value.declared, refused.value.detected) == (declared, made)


def test_other_files_named_by_a_header_are_never_opened(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    os.mkfifo(trap)  # opening it would never return
    staged = tmp_path / "staged"
    images.qemu_img("create", "-u", "-f", "qcow2", "-F", "raw", "-b", trap, staged, "8M")
    with pytest.raises(FormatUnsafe, match="backing file"):
        convert(staged, "qcow2")


def test_a_data_file_is_refused(tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    images.qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", staged, "8M")
    with pytest.raises(FormatUnsafe, match="data_file"):
        convert(staged, "qcow2")


def test_an_image_inside_an_image_is_refused(tmp_path: Path) -> None:
    inner = images.converted(images.raw_disk(tmp_path / "disk"), tmp_path / "inner", "qcow2")
    staged = images.converted(inner, tmp_path / "staged", "vdi")
    with pytest.raises(FormatUnsafe, match="nested inside a vdi image") as refused:
        convert(staged, "vdi")
    assert refused.value.detected == "qcow2"


def test_an_encrypted_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatUnsafe, match="encrypted"):
        convert(images.encrypted(tmp_path / "staged"), "qcow2")


def test_only_listed_vmdk_types_are_converted(tmp_path: Path) -> None:
    staged = images.converted(images.raw_disk(tmp_path / "disk"), tmp_path / "staged", "vmdk")
    with pytest.raises(FormatUnsafe, match=r"monolithicSparse; .*vmdk_allowed_types accepts: streamOptimized"):
        convert(staged, "vmdk", formats={"vmdk_allowed_types": ["streamOptimized"]})


def test_a_virtual_size_above_the_cap_is_refused(tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    images.qemu_img("create", "-f", "qcow2", staged, "2G")
    with pytest.raises(ImageTooLarge) as refused:
        convert(staged, "qcow2", imports={"image_size_cap_bytes": 1024 * MIB})
    assert (refused.value.what, refused.value.size_bytes) == ("virtual size", 2048 * MIB)


def test_a_damaged_image_is_refused_without_naming_paths(tmp_path: Path) -> None:
    disk = images.raw_disk(tmp_path / "disk")
    staged = images.patched(images.converted(disk, tmp_path / "staged", "qcow2"), 96, struct.pack(">I", 9))
    with pytest.raises(ConversionFailed) as refused:
        convert(staged, "qcow2")
    assert str(tmp_path) not in str(refused.value)
    assert "eference count" in refused.value.reason


def test_room_is_asked_for_the_data_and_not_for_the_holes(tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    images.qemu_img("create", "-f", "qcow2", staged, "20G")
    outcome = convert(staged, "qcow2", room=16 * MIB)
    assert outcome.path is not None
    assert outcome.path.stat().st_size == 20 * 1024 * MIB


def test_no_room_leaves_nothing(tmp_path: Path) -> None:
    staged = images.converted(images.raw_disk(tmp_path / "disk"), tmp_path / "staged", "qcow2")
    with pytest.raises(StagingFull):
        convert(staged, "qcow2", room=4096)


def test_the_time_limit_ends_qemu_img(tmp_path: Path) -> None:
    staged = images.converted(images.raw_disk(tmp_path / "disk"), tmp_path / "staged", "qcow2")
    with pytest.raises(ConversionFailed, match="took longer than"):
        convert(staged, "qcow2", conversion={"timeout_s": 0.0001})


def test_a_stopped_import_ends_qemu_img_and_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as data:
        for _ in range(64):
            data.write(os.urandom(MIB))
    staged = images.converted(disk, tmp_path / "staged", "qcow2")
    stop = StopToken()
    work, workspace = work_on(
        staged,
        settings_with(tmp_path),
        disk_format="qcow2",
        stop=stop,
        progress=lambda _done, _total: stop.stop(ImportCancelled("by the test")),
    )
    with pytest.raises(ImportCancelled):
        PLUGIN.run(work)
    assert_nothing_left(workspace)


def test_progress_ends_with_the_virtual_size(tmp_path: Path) -> None:
    staged = images.converted(images.raw_disk(tmp_path / "disk"), tmp_path / "staged", "qcow2")
    seen: list[tuple[int, int]] = []
    work, _ = work_on(
        staged,
        settings_with(tmp_path),
        disk_format="qcow2",
        progress=lambda done, total: seen.append((done, total)),
    )
    PLUGIN.run(work)
    assert seen[-1] == (DISK_BYTES, DISK_BYTES)


def test_the_check_passes_with_the_installed_qemu_img(tmp_path: Path) -> None:
    PLUGIN.check(settings_with(tmp_path))


@pytest.mark.parametrize(
    ("command", "reason"),
    [("qemu-img-of-nobody", "not in PATH; install qemu-utils"), ("/bin/true", "does not tell its version")],
)
def test_the_check_refuses_to_start_without_a_working_qemu_img(command: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match=reason) as refused:
        PLUGIN.check(settings_with(tmp_path, conversion={"qemu_img": command}))
    assert refused.value.option == "conversion.qemu_img"
