"""The roots of the tree, and what is neither the caller's nor a transfer's."""

from __future__ import annotations

from collections.abc import Sequence


def human_size(size_bytes: int) -> str:
    """Return a size as people write it: ``1536`` becomes ``1.5 KiB``."""
    value = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable: the loop ends at TiB")


class TransshipError(Exception):
    """Base of all errors raised on purpose."""


class ConfigurationRefused(TransshipError):
    """A setting cannot be used; nothing was started.

    Args:
        source: where the value stands: a file, ``environment`` or ``default``.
        option: dotted name of the option, e.g. ``staging.free_floor_bytes``.
        reason: what is wrong with it and what would be right.
    """

    def __init__(self, source: str, option: str, reason: str) -> None:
        super().__init__(source, option, reason)
        self.source, self.option, self.reason = source, option, reason

    def __str__(self) -> str:
        return f"{self.source}: {self.option}: {self.reason}"

    @property
    def for_users(self) -> str:
        """What users of the service may read: no path of the server, which concerns its operator alone."""
        if "/" in self.reason:
            return f"{self.option} cannot be used; the operator finds the reason in the log"
        return f"{self.option}: {self.reason}"


class SeveralRefused(ConfigurationRefused):
    """Several settings cannot be used; all are named, so that one look mends them.

    Args:
        source, option, reason: the first one, as in `ConfigurationRefused`.
        others: ``source: option: reason`` of each further one.
    """

    def __init__(self, source: str, option: str, reason: str, others: Sequence[str]) -> None:
        super().__init__(source, option, reason)
        self.args = (source, option, reason, others)
        self.others = others

    def __str__(self) -> str:
        return "\n".join((super().__str__(), *self.others))


class LockLost(TransshipError):
    """Another worker holds the image's lease, or the image is gone; this one must not touch it."""

    def __init__(self, image_id: str, epoch: int) -> None:
        super().__init__(image_id, epoch)
        self.image_id, self.epoch = image_id, epoch

    def __str__(self) -> str:
        return f"image {self.image_id} is no longer ours (lease epoch {self.epoch} was superseded)"


class Superseded(TransshipError):
    """A flow run has nothing to do: its import is over, or another process carries it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
