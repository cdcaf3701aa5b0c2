"""Handling of qemu-img's output and failures; a script replaces it where the real one cannot be made to fail."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from config.settings import ConversionSettings
from tests.fakes import disk_images as images
from tests.fakes.plugin_workspace import settings_with
from transship.domain.errors import (
    ConversionFailed,
    FormatMismatch,
    FormatUnsafe,
    ImageTooLarge,
    StagingBroken,
    StagingFull,
    TransferFailed,
)
from transship.domain.stop import StopToken
from transship.host.staging_faults import staging_faults
from transship.plugins.conversion import refuse_unfit
from transship.plugins.qemu_img import ImageFacts, QemuImg, file_limit_bytes

GIB = 1 << 30


def script(folder: Path, body: str) -> QemuImg:
    path = folder / "qemu-img"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return QemuImg(ConversionSettings(qemu_img=str(path)))


def convert(qemu_img: QemuImg, folder: Path, disk_format: str = "vhd") -> None:
    qemu_img.convert(
        folder / "in",
        disk_format,
        folder / "out",
        "raw",
        virtual_size=GIB,
        stop=StopToken(),
        progress=lambda _done, _total: None,
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("exit 5", "qemu-img ended with code 5"),
        ("kill -XCPU $$", "more CPU time"),
        ("kill -XFSZ $$", "grew beyond the virtual size"),
        ("kill -ABRT $$", "died of SIGABRT; conversion.memory_bytes may be too small"),
        (
            "echo \"qemu-img: Could not open '/srv/staging/x.1': No such file\" >&2; exit 1",
            "Could not open the file: No",
        ),
        ("printf 'first\\nlast \\033[31mword\\n\\n' >&2; exit 1", "last [31mword"),
    ],
)
def test_an_unhappy_end_says_why_without_paths(body: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed) as failed:
        convert(script(tmp_path, body), tmp_path)
    assert reason in failed.value.reason
    assert "/" not in failed.value.reason
    assert (failed.value.source_format, failed.value.target_format) == ("vhd", "raw")


def test_a_full_disk_is_staging_full(tmp_path: Path) -> None:
    with pytest.raises(StagingFull):
        convert(script(tmp_path, "echo 'error while writing: No space left on device' >&2; exit 1"), tmp_path)


@pytest.mark.parametrize(
    ("disk_format", "named"),
    [
        ("vmdk", "-O raw -f vmdk the file the file"),
        ("vhd", "-O raw --image-opts driver=vpc,force_size_calc=current_size,file.driver=file,file.filename=the file"),
    ],
)
def test_formats_are_always_named_in_the_words_of_qemu(disk_format: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed) as failed:
        convert(script(tmp_path, "echo said: $* >&2; exit 1"), tmp_path, disk_format)
    assert failed.value.reason.startswith(f"said: convert -p -W -m 16 {named}")


@pytest.mark.parametrize("folder", ["plain", "with, comma", "with,file.driver=nbd"])
def test_a_path_is_never_taken_for_options(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    image = images.converted(images.raw_disk(tmp_path / "disk"), tmp_path / folder / "made", "vpc", "force_size=on")
    assert QemuImg(ConversionSettings()).info(image, "vhd", "raw", StopToken()).virtual_size == 8 * images.MIB


def test_a_qemu_img_that_went_away_is_a_failed_conversion(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match=r"ended with code|cannot be started|failed to execute"):
        convert(QemuImg(ConversionSettings(qemu_img=str(tmp_path / "gone"))), tmp_path)


@pytest.mark.parametrize(
    "answer", ["", "[]", "{}", '{"format": "qcow2", "virtual-size": "7"}', '{"format": "qcow2"}', "nonsense"]
)
def test_an_answer_that_makes_no_sense_is_a_failed_conversion(answer: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="does not describe it"):
        script(tmp_path, f"echo '{answer}'").info(tmp_path / "in", "qcow2", "raw", StopToken())


def test_info_tells_what_the_header_says(tmp_path: Path) -> None:
    answer = {
        "format": "vpc",
        "virtual-size": 7,
        "backing-filename": "x",
        "format-specific": {"data": {"data-file": "y", "create-type": "custom", "encrypt": {}}},
    }
    facts = script(tmp_path, f"echo '{json.dumps(answer)}'").info(tmp_path / "in", "vhd", "raw", StopToken())
    assert facts == ImageFacts("vhd", 7, ("backing file", "data file"), True, "custom")


@pytest.mark.parametrize("body", ["exit 1", "echo nonsense", "echo '{}'", "echo '{\"required\": -1}'"])
def test_what_cannot_be_measured_is_taken_at_its_virtual_size(body: str, tmp_path: Path) -> None:
    measured = script(tmp_path, body).measure(tmp_path / "in", "qcow2", GIB, StopToken())
    assert measured == file_limit_bytes(GIB)


def test_holes_are_not_measured(tmp_path: Path) -> None:
    disk = images.raw_disk(tmp_path / "disk", GIB)
    measured = QemuImg(ConversionSettings()).measure(disk, "raw", GIB, StopToken())
    assert images.MIB <= measured < 4 * images.MIB


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        (ImageFacts("vdi", 1), FormatMismatch),
        (ImageFacts("qcow2", 1, ("backing file",)), FormatUnsafe),
        (ImageFacts("qcow2", 1, ("data file",)), FormatUnsafe),
        (ImageFacts("qcow2", 1, encrypted=True), FormatUnsafe),
        (ImageFacts("qcow2", 1 << 60), ImageTooLarge),
    ],
)
def test_what_qemu_img_sees_is_judged_as_well(facts: ImageFacts, error: type[TransferFailed], tmp_path: Path) -> None:
    with pytest.raises(error):
        refuse_unfit(facts, "qcow2", settings_with(tmp_path))


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StagingFull), (errno.EDQUOT, StagingFull), (errno.EIO, StagingBroken)]
)
def test_faults_of_the_disk_are_faults_of_staging(number: int, error: type[TransferFailed], tmp_path: Path) -> None:
    with pytest.raises(error), staging_faults(tmp_path / "file"):
        raise OSError(number, "as the test says", str(tmp_path))
