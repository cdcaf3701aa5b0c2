"""The root of the tree, how errors are declared, and errors outside of requests and transfers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from string import Formatter
from typing import Any, ClassVar, Final, dataclass_transform


def human_size(size_bytes: int) -> str:
    """Format a size for display: ``1536`` becomes ``1.5 KiB``."""
    value = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable: the loop ends at TiB")


def with_remedy(cause: str, remedy: str) -> str:
    """Return what happened and, where there is a remedy, what to do about it."""
    return f"{cause}; {remedy}" if remedy else cause


class _Template(Formatter):
    """``str.format`` over an error's attributes, with four more formats: ``size``, ``list``, ``clauses``, ``lines``."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return getattr(args[0], str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        match format_spec:
            case "size":
                return human_size(max(0, value))
            case "list":
                return ", ".join(value) or "none"
            case "clauses":
                return "; ".join(value)
            case "lines":
                return "".join(f"\n{each}" for each in value)
        return str(super().format_field(value, format_spec))


_TEMPLATE: Final = _Template()


@dataclass_transform(eq_default=False)
@dataclass(eq=False, repr=False, match_args=False)
class TransshipError(Exception):
    """Base of all errors raised on purpose.

    Subclasses are made dataclasses automatically: a subclass declares its facts as fields, in the order of its
    constructor, and its texts as two templates over them. Like all exceptions, errors compare by identity.

    Attributes:
        BRIEF: what happened, and to what: a clause without a full stop.
        REMEDY: what the reader can do about it: a clause in the imperative; empty if there is nothing to do.
    """

    BRIEF: ClassVar[str] = ""
    REMEDY: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(eq=False, repr=False, match_args=False)(cls)
        for _, name, _, _ in _TEMPLATE.parse(cls.BRIEF + cls.REMEDY):
            if name is not None and name not in cls.__dataclass_fields__ and not hasattr(cls, name):
                raise TypeError(f"{cls.__name__}: its words name {name!r}, which it does not have")

    def __post_init__(self) -> None:
        # Pickling and copying call the class with these arguments.
        self.args = tuple(getattr(self, each.name) for each in fields(self))

    def __str__(self) -> str:
        return with_remedy(self.brief, self.remedy)

    @property
    def brief(self) -> str:
        """What happened, and to what."""
        return _TEMPLATE.vformat(self.BRIEF, (self,), {})

    @property
    def remedy(self) -> str:
        """What the reader can do about it; empty if there is nothing to do, or the brief says it."""
        return _TEMPLATE.vformat(self.REMEDY, (self,), {})


class ConfigurationRefused(TransshipError):
    """A setting cannot be used; nothing was started.

    Attributes:
        source: where the value comes from: a file, ``environment`` or ``default``.
        option: dotted name of the option, e.g. ``staging.free_floor_bytes``.
        reason: what is wrong with it.
        remedy: what is valid; empty if the reason says it.
    """

    source: str
    option: str
    reason: str
    remedy: str = ""

    BRIEF = "{source}: {option}: {reason}"

    @property
    def told(self) -> str:
        """Reason and remedy."""
        return with_remedy(self.reason, self.remedy)

    @property
    def for_users(self) -> str:
        """The text for users of the service, without paths of the server, which only concern the operator."""
        if "/" in self.told:
            return f"{self.option} cannot be used; the operator finds the reason in the log"
        return f"{self.option}: {self.told}"


class ValueRefused(TransshipError, ValueError):
    """The value of a setting cannot be used; `ConfigurationRefused` adds the source and the option."""

    reason: str
    remedy: str = ""

    BRIEF = "{reason}"


class SeveralRefused(ConfigurationRefused):
    """Several settings cannot be used; all are named, so they can be fixed together.

    Attributes:
        source, option, reason: the first one, as in `ConfigurationRefused`; its remedy is part of the reason.
        others: the text of each further one.
    """

    others: Sequence[str] = ()

    BRIEF = "{source}: {option}: {reason}{others:lines}"


class LockLost(TransshipError):
    """Another worker holds the image's lease, or the image is gone; this one must not touch it."""

    image_id: str
    epoch: int

    BRIEF = "image {image_id} is no longer ours (lease epoch {epoch} was superseded)"


class ParametersUnknown(TransshipError):
    """Another release wrote a flow run's parameters; this one cannot interpret them."""

    found: int
    known: int

    BRIEF = "the parameters of this run are of version {found}, and this release reads version {known}"
    REMEDY = "run the service and all workers in one release, and import again"


class Superseded(TransshipError):
    """A flow run has nothing to do: its import has ended, or another process carries it out."""

    reason: str

    BRIEF = "{reason}"
