from __future__ import annotations

import pytest

from transship.domain.errors import BadRequest, RequestRefused, StoreReadOnly, StoreUnknown
from transship.domain.image import Location
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.domain.placement import StoreFacts, best_first, choose_targets

STORES = (
    StoreFacts("fast", "file", weight=1, default=True),
    StoreFacts("cheap", "file", weight=5),
    StoreFacts("mirror", "http", read_only=True),
)


def request(**changes: object) -> ImportRequest:
    return ImportRequest(ImportMethod.WEB_DOWNLOAD, uri="http://h/x", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "header", "targets"),
    [
        pytest.param({}, None, ("fast",), id="nothing named: the default"),
        pytest.param({}, "cheap", ("cheap",), id="header"),
        pytest.param({"stores": ("cheap", "fast")}, None, ("cheap", "fast"), id="in the order asked for"),
        pytest.param({"all_stores": True}, None, ("fast", "cheap"), id="all but read-only ones"),
    ],
)
def test_targets(asked: dict[str, object], header: str | None, targets: tuple[str, ...]) -> None:
    assert choose_targets(request(**asked), header, STORES) == targets


@pytest.mark.parametrize(
    ("asked", "header", "error"),
    [
        pytest.param({"stores": ("fast",), "all_stores": True}, None, BadRequest, id="stores and all_stores"),
        pytest.param({"stores": ("fast",)}, "cheap", BadRequest, id="stores and header"),
        pytest.param({"all_stores": True}, "cheap", BadRequest, id="all_stores and header"),
        pytest.param({"stores": ("fast", "cheap", "fast")}, None, BadRequest, id="named twice"),
        pytest.param({"stores": ("nowhere",)}, None, StoreUnknown, id="unknown"),
        pytest.param({"stores": ("os_glance_tasks_store",)}, None, StoreUnknown, id="reserved"),
        pytest.param({"stores": ("mirror",)}, None, StoreReadOnly, id="read-only"),
        pytest.param({}, "mirror", StoreReadOnly, id="read-only by header"),
    ],
)
def test_selectors_that_cannot_be_met_are_refused(
    asked: dict[str, object], header: str | None, error: type[RequestRefused]
) -> None:
    with pytest.raises(error):
        choose_targets(request(**asked), header, STORES)


def test_a_site_without_a_writable_store_says_so() -> None:
    with pytest.raises(BadRequest, match="read-only"):
        choose_targets(request(all_stores=True), None, STORES[2:])


def test_locations_stand_best_store_first_and_stable() -> None:
    locations = [Location(store, f"file:///{store}", 1) for store in ("gone", "fast", "mirror", "cheap")]
    assert [location.store for location in best_first(locations, STORES)] == ["cheap", "fast", "gone", "mirror"]
