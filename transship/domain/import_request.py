"""The body of ``POST /v2/images/{id}/import`` as a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from transship.domain.errors import BadRequest
from transship.domain.locations import ValidationData
from transship.domain.methods import OFFERED, ImportMethod
from transship.domain.remote import RemoteImage, parse_remote
from transship.domain.uri_filter import display_uri


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A well-formed import request.

    Attributes:
        method: the import method.
        uri: source of a web-download, or the location of data that stay where they are; empty for the other methods.
            May hold secrets.
        remote: source of a glance-download; None for the other methods.
        expected: digest of the data at a location; None: it is not known.
        stores: requested store ids, in order; None when the caller named none.
        all_stores: every writable store is a target.
        all_stores_must_succeed: the image becomes active only when every target was written.
        sent: the options above that the body contains; None: there was no body.
        unknown_keys: unknown keys of the body, for the log.
    """

    method: ImportMethod
    uri: str = ""
    remote: RemoteImage | None = None
    expected: ValidationData | None = None
    stores: tuple[str, ...] | None = None
    all_stores: bool = False
    all_stores_must_succeed: bool = True
    sent: tuple[str, ...] | None = None
    unknown_keys: tuple[str, ...] = ()


def parse_import_request(body: object, enabled: Collection[ImportMethod]) -> ImportRequest:
    """Parse a JSON body.

    Args:
        body: the decoded JSON.
        enabled: methods that this site offers.

    Raises:
        BadRequest: the body does not have the form that the API requires, or the method is not offered.

    Source: Images API v2, "Interoperable image import"; texts are Glance's where Glance has one.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("Import request body must be a JSON object.")
    method_part = body.get("method")
    if "method" not in body:
        raise BadRequest("Import request requires a 'method' field.")
    if not isinstance(method_part, Mapping):
        raise BadRequest("'method' must be an object with a 'name' field.")
    method = _method(method_part, enabled)
    uri = method_part.get("uri", "")
    if not isinstance(uri, str):
        raise BadRequest("'uri' must be a string.")
    if method.facts.by_uri and not uri:
        raise BadRequest(f"'uri' is required for the {method} import method.")
    if uri and not method.facts.by_uri:
        theirs = ", ".join(other for other in OFFERED if other.facts.by_uri)
        raise BadRequest(f"'uri' belongs to the {theirs} method, not to {method}.")
    unknown = [str(key) for key in body if key not in ("method", *_OPTIONS)]
    unknown += [f"method.{key}" for key in method_part if key not in _METHOD_KEYS]
    return ImportRequest(
        method=method,
        uri=uri,
        remote=parse_remote(method_part) if method.facts.from_remote else None,
        stores=_stores(body),
        all_stores=_flag(body, "all_stores", default=False),
        all_stores_must_succeed=_flag(body, "all_stores_must_succeed", default=True),
        sent=tuple(option for option in _OPTIONS if option in body),
        unknown_keys=tuple(unknown),
    )


def described(request: ImportRequest) -> dict[str, str]:
    """Return the ``method`` of a request for later display, without secrets."""
    shown = {"name": str(request.method)}
    if request.uri:
        shown["uri"] = display_uri(request.uri)
    return {**shown, **(request.remote.named() if request.remote else {})}


def task_input(image_id: str, request: ImportRequest, targets: Sequence[str]) -> dict[str, object]:
    """Return a request as its task shows it: what we know of it, and nothing secret.

    Args:
        targets: store ids to write, in order.
    """
    if request.method.facts.in_place:
        shown = {"validation_data": request.expected.named()} if request.expected else {}
        return {"image_id": image_id, "loc_url": display_uri(request.uri), **shown, "backend": list(targets)}
    options: dict[str, object] = {
        "stores": list(request.stores or targets),
        "all_stores": request.all_stores,
        "all_stores_must_succeed": request.all_stores_must_succeed,
    }
    named = ("stores", "all_stores_must_succeed") if request.sent is None else request.sent
    import_req = {"method": described(request), **{option: options[option] for option in named}}
    return {"image_id": image_id, "import_req": import_req, "backend": list(targets)}


_SHOWN: Final = 10
"""Most names in an error text."""

_OPTIONS: Final = ("stores", "all_stores", "all_stores_must_succeed")
_METHOD_KEYS = frozenset({"name"}.union(*(method.facts.body_keys for method in OFFERED)))


def _method(method_part: Mapping[object, object], enabled: Collection[ImportMethod]) -> ImportMethod:
    if "name" not in method_part:
        raise BadRequest("Import request requires a 'name' field.")
    name = method_part["name"]
    refuse_other_methods(name, enabled)
    return ImportMethod(str(name))


def refuse_other_methods(name: object, enabled: Collection[ImportMethod]) -> None:
    """Refuse a method that this site does not offer.

    Raises:
        BadRequest: the text names the methods that the site offers.
    """
    if not isinstance(name, str) or name not in enabled:
        offered = ", ".join(enabled) or "none"
        raise BadRequest(f"Unknown import method name '{name}'. This site offers: {offered}.")


def refuse_named_twice(stores: Sequence[str]) -> None:
    """Refuse a list of stores that names one of them more than once.

    Raises:
        BadRequest: the text names them.
    """
    twice = sorted(store for store, times in Counter(stores).items() if times > 1)
    if twice:
        raise BadRequest(f"'stores' names {', '.join(twice[:_SHOWN])} more than once.")


def _flag(body: Mapping[object, object], name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be boolean value only")
    return value


def _stores(body: Mapping[object, object]) -> tuple[str, ...] | None:
    if "stores" not in body:
        return None
    stores = body["stores"]
    if not isinstance(stores, list) or not all(isinstance(store, str) for store in stores):
        raise BadRequest("'stores' must be a list of store ids.")
    if not stores:
        raise BadRequest("'stores' is empty", "leave it out to use the default store")
    refuse_named_twice(stores)
    return tuple(stores)
