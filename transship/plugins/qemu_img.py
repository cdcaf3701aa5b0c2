"""Runs qemu-img with explicit formats and under limits, and translates its errors.

qemu-img follows references in headers, so it only gets data that the format gate has accepted.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.settings import ConversionSettings
from transship.domain.errors import ConfigurationRefused, ConversionFailed, StagingFull
from transship.domain.stop import StopToken
from transship.host.staging_faults import free_bytes
from transship.plugins.limited_command import Finished, Limits, missing_tools, run_limited

MIB: Final = 1024 * 1024
OPTION: Final = "conversion.qemu_img"
INFO_WALL_S: Final = 30.0
"""Reading a header takes milliseconds; this allows for a slow disk."""

_QEMU_NAMES: Final = {"vhd": "vpc"}
_PROGRESS: Final = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")
_PATHS: Final = re.compile(r"'driver=[^']*'|'?/[^\s':]+'?")
_LONGEST_REASON: Final = 300


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What ``qemu-img info`` reports about an image.

    Attributes:
        disk_format: the Images API's name, e.g. ``vhd``.
        virtual_size: bytes that a guest sees.
        refers_to: other files that the image refers to: ``backing file``, ``data file``.
        encrypted: whether its data need a key.
        vmdk_type: subformat of a vmdk, e.g. ``streamOptimized``; None for other formats.
    """

    disk_format: str
    virtual_size: int
    refers_to: tuple[str, ...] = ()
    encrypted: bool = False
    vmdk_type: str | None = None


class QemuImg:
    """The qemu-img command of this machine."""

    def __init__(self, settings: ConversionSettings) -> None:
        self._settings = settings

    def check(self) -> str:
        """Return its version.

        Raises:
            ConfigurationRefused: it, or a program that limits it, is not installed or does not run.
        """
        missing = missing_tools()
        if missing:
            reason = f"image_conversion needs {', '.join(missing)}"
            raise ConfigurationRefused("settings", "imports.plugins", reason, "install util-linux")
        command = self._settings.qemu_img
        if shutil.which(command) is None:
            reason = f"image_conversion needs {command}, which is not in PATH"
            raise ConfigurationRefused("settings", OPTION, reason, "install qemu-utils, or name its path")
        try:
            finished = self._run(["--version"], self._look_limits, StopToken())
        except OSError as error:
            raise ConfigurationRefused("settings", OPTION, f"{command} cannot be run: {error.strerror}") from error
        version = re.search(rb"qemu-img version (\S+)", finished.stdout)
        if finished.code != 0 or version is None:
            reason = f"{command} does not tell its version: {self._why(finished)}"
            raise ConfigurationRefused("settings", OPTION, reason)
        return version[1].decode("ascii", "replace")

    def info(self, path: Path, disk_format: str, target_format: str, stop: StopToken) -> ImageFacts:
        """Read an image's header in its declared format.

        Args:
            path: sealed staged file; only read.
            disk_format: the Images API's name.
            target_format: of the conversion, for error messages.
            stop: checked ten times a second.

        Raises:
            ConversionFailed: it cannot be read, or a limit was exceeded.
        """
        arguments = ["info", "--output=json", *_source(path, disk_format)]
        finished = self._run_or_fail(arguments, self._look_limits, stop, (disk_format, target_format))
        try:
            return _facts(json.loads(finished.stdout))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConversionFailed(disk_format, target_format, "qemu-img does not describe it") from error

    def measure(self, path: Path, disk_format: str, virtual_size: int, stop: StopToken) -> int:
        """Return an upper bound on the converted size in bytes, without holes.

        Measured as qcow2, because qemu-img excludes holes only for that format; if it cannot be measured,
        ``virtual_size`` with some room for tables.
        """
        arguments = ["measure", "-O", "qcow2", "--output=json", *_source(path, disk_format)]
        upper_bytes = file_limit_bytes(virtual_size)
        try:
            finished = self._run(arguments, self._convert_limits(0), stop)
            required = json.loads(finished.stdout)["required"] if finished.code == 0 else upper_bytes
        except (OSError, ValueError, KeyError, TypeError):
            return upper_bytes
        return min(required, upper_bytes) if isinstance(required, int) and required > 0 else upper_bytes

    def convert(
        self,
        source: Path,
        source_format: str,
        target: Path,
        target_format: str,
        *,
        virtual_size: int,
        stop: StopToken,
        progress: Callable[[int, int], None],
    ) -> None:
        """Write ``source`` to ``target`` in another format; holes stay holes.

        Args:
            source: sealed staged file; only read.
            source_format, target_format: the Images API's names.
            target: file to create; not removed when this raises.
            virtual_size: bytes that a guest sees; bounds the target's length.
            stop: checked ten times a second; qemu-img has ended when this raises.
            progress: called with bytes done and the virtual size.

        Raises:
            ConversionFailed: qemu-img failed, or a limit was exceeded.
            StagingFull: no room.
        """
        arguments = ["convert", "-p", "-W", "-m", str(self._settings.coroutines)]
        arguments += ["-O", _qemu_name(target_format), *_source(source, source_format), str(target)]
        self._run_or_fail(
            arguments,
            self._convert_limits(file_limit_bytes(virtual_size)),
            stop,
            (source_format, target_format),
            _ProgressReader(virtual_size, progress),
            target,
        )

    @property
    def _look_limits(self) -> Limits:
        return Limits(self._settings.info_cpu_s, self._settings.memory_bytes, 0, INFO_WALL_S)

    def _convert_limits(self, file_bytes: int) -> Limits:
        settings = self._settings
        return Limits(settings.convert_cpu_s, settings.memory_bytes, file_bytes, settings.timeout_s)

    def _run(
        self,
        arguments: Sequence[str],
        limits: Limits,
        stop: StopToken,
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Finished:
        command = shutil.which(self._settings.qemu_img) or self._settings.qemu_img
        return run_limited([command, *arguments], limits, stop, on_stdout)

    def _run_or_fail(
        self,
        arguments: Sequence[str],
        limits: Limits,
        stop: StopToken,
        formats: tuple[str, str],
        on_stdout: Callable[[bytes], None] | None = None,
        target: Path | None = None,
    ) -> Finished:
        try:
            finished = self._run(arguments, limits, stop, on_stdout)
        except OSError as error:
            raise ConversionFailed(*formats, f"qemu-img cannot be started: {error.strerror}") from error
        if target is not None and b"No space left on device" in finished.stderr:
            raise StagingFull(limits.file_bytes, free_bytes(target.parent))
        if finished.code != 0 or finished.cut_short:
            raise ConversionFailed(*formats, self._why(finished))
        return finished

    def _why(self, finished: Finished) -> str:
        if finished.cut_short:
            return f"qemu-img was ended: {finished.cut_short}"
        if finished.code == -signal.SIGXCPU:
            return "qemu-img used more CPU time than conversion.info_cpu_s or conversion.convert_cpu_s allows"
        if finished.code == -signal.SIGXFSZ:
            return "the result grew beyond the virtual size that the image states"
        if finished.code < 0:
            name = signal.Signals(-finished.code).name
            return f"qemu-img died of {name}; conversion.memory_bytes may be too small"
        lines = [line for line in finished.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        if not lines:
            return f"qemu-img ended with code {finished.code}"
        text = _PATHS.sub("the file", lines[-1].strip().removeprefix("qemu-img: "))
        return "".join(each for each in text if each.isprintable())[:_LONGEST_REASON]


def file_limit_bytes(virtual_size: int) -> int:
    """Return the largest file that an image of this virtual size can need, tables included."""
    return virtual_size + virtual_size // 128 + 4 * MIB


class _ProgressReader:
    """Converts qemu-img's percentages to bytes; accepts its output in pieces of any length."""

    def __init__(self, total_bytes: int, progress: Callable[[int, int], None]) -> None:
        self._total_bytes, self._progress = total_bytes, progress
        self._rest = b""

    def __call__(self, text: bytes) -> None:
        found = _PROGRESS.findall(self._rest + text)
        self._rest = (self._rest + text).rpartition(b"\r")[2][-64:]
        if found:
            self._progress(int(self._total_bytes * min(100.0, float(found[-1])) / 100), self._total_bytes)


def _source(path: Path, disk_format: str) -> list[str]:
    """Return the arguments for an input file and its format."""
    if disk_format != "vhd":
        return ["-f", _qemu_name(disk_format), str(path)]
    # By default qemu-img takes the size from the geometry if it does not know the program that created the image.
    filename = str(path).replace(",", ",,")
    return ["--image-opts", f"driver=vpc,force_size_calc=current_size,file.driver=file,file.filename={filename}"]


def _qemu_name(disk_format: str) -> str:
    return _QEMU_NAMES.get(disk_format, disk_format)


def _facts(described: dict[str, object]) -> ImageFacts:
    specific = described.get("format-specific")
    details = specific.get("data", {}) if isinstance(specific, dict) else {}
    if not isinstance(details, dict):
        raise TypeError("format-specific data are not an object")
    api_names = {qemu: api for api, qemu in _QEMU_NAMES.items()}
    qemu_format, virtual_size = str(described["format"]), described["virtual-size"]
    if not isinstance(virtual_size, int):
        raise TypeError("virtual-size is not a number")
    refers_to = ["backing file"] if "backing-filename" in described else []
    refers_to += ["data file"] if "data-file" in details else []
    create_type = details.get("create-type")
    return ImageFacts(
        disk_format=api_names.get(qemu_format, qemu_format),
        virtual_size=virtual_size,
        refers_to=tuple(refers_to),
        encrypted=bool(described.get("encrypted")) or "encrypt" in details,
        vmdk_type=create_type if isinstance(create_type, str) else None,
    )
