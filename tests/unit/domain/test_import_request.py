from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.domain.errors import BadRequest
from transship.domain.import_request import ImportRequest, parse_import_request, task_input
from transship.domain.methods import ImportMethod

ENABLED = (ImportMethod.WEB_DOWNLOAD, ImportMethod.GLANCE_DIRECT)
WEB = {"name": "web-download", "uri": "http://h/x"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param([], "JSON object", id="a list"),
        pytest.param({}, "'method' field", id="no method"),
        pytest.param({"method": "web-download"}, "must be an object", id="method is text"),
        pytest.param({"method": {}}, "'name' field", id="no name"),
        pytest.param({"method": {"name": "no-such"}}, "Unknown import method", id="unknown method"),
        pytest.param({"method": {"name": "copy-image"}}, "This site offers", id="not enabled"),
        pytest.param({"method": {"name": ["web-download"]}}, "Unknown import method", id="name is a list"),
        pytest.param({"method": {"name": "web-download"}}, "'uri' is required", id="no uri"),
        pytest.param({"method": {**WEB, "uri": 1}}, "must be a string", id="uri is a number"),
        pytest.param({"method": {**WEB, "name": "glance-direct"}}, "belongs to", id="uri of another method"),
        pytest.param({"method": WEB, "all_stores": "yes"}, "boolean", id="flag is text"),
        pytest.param({"method": WEB, "all_stores_must_succeed": None}, "boolean", id="flag is null"),
        pytest.param({"method": WEB, "stores": None}, "list of store ids", id="stores is null"),
        pytest.param({"method": WEB, "stores": "fast"}, "list of store ids", id="stores is text"),
        pytest.param({"method": WEB, "stores": [1]}, "list of store ids", id="store is a number"),
        pytest.param({"method": WEB, "stores": []}, "empty", id="no store"),
        pytest.param({"method": WEB, "stores": ["a", "b", "a"]}, "more than once", id="store twice"),
    ],
)
def test_a_malformed_body_is_refused_with_what_is_wrong(body: object, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse_import_request(body, ENABLED)


def test_a_well_formed_body_becomes_a_value() -> None:
    body = {"method": WEB, "stores": ["a", "b"], "all_stores_must_succeed": False}
    request = parse_import_request(body, ENABLED)
    assert (request.method, request.uri, request.stores) == (ImportMethod.WEB_DOWNLOAD, "http://h/x", ("a", "b"))
    assert not request.all_stores_must_succeed
    assert request.unknown_keys == ()


def test_unknown_keys_are_named_and_not_refused() -> None:
    request = parse_import_request({"method": {**WEB, "x": 1}, "y": 2}, ENABLED)
    assert request.unknown_keys == ("y", "method.x")


@pytest.mark.parametrize(
    "sent",
    [{}, {"stores": ["b", "a"]}, {"all_stores": True}, {"stores": ["a"], "all_stores_must_succeed": False}],
    ids=["nothing", "stores", "all stores", "two options"],
)
def test_a_task_shows_the_options_that_the_caller_sent(sent: dict[str, object]) -> None:
    request = parse_import_request({"method": WEB, "hidden": "x", **sent}, ENABLED)
    shown = {"image_id": "an image", "import_req": {"method": WEB, **sent}, "backend": ["a", "b"]}
    assert task_input("an image", request, ("a", "b")) == shown


def test_a_task_that_nobody_sent_a_body_for_shows_what_is_done() -> None:
    request = ImportRequest(ImportMethod.COPY_IMAGE, all_stores=True)
    assert task_input("an image", request, ("a",))["import_req"] == {
        "method": {"name": "copy-image"},
        "stores": ["a"],
        "all_stores_must_succeed": True,
    }


@given(JSON)
def test_no_body_breaks_the_parser(body: object) -> None:
    with suppress(BadRequest):
        parse_import_request(body, ENABLED)
