"""The same requests to a real Glance and to our Images API: the same answers, except where the docs say why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes.compared import Pair, Request, two_stores
from tests.fakes.images_api import ApiServer, ImagesApi
from tests.fakes.openstack_peers import OpenStack
from tests.peers.requests import changes, data, lists, reasons, records

pytestmark = [
    # openstacksdk warns about its own future whenever it connects.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

REQUESTS: list[Request] = [
    request
    for table in (lists, records, changes, data)
    for name, requests in vars(table).items()
    if name.isupper() and isinstance(requests, list)
    for request in requests
]
ROWS = re.findall(
    r"^\| (.+?) \| ", (Path(__file__).parents[2] / "docs" / "glance-differences.md").read_text(), re.MULTILINE
)


@pytest.fixture(scope="module")
def pair(cloud: OpenStack, api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("ours")
    with two_stores(cloud, tmp_path_factory.mktemp("glance")) as glance, ExitStack() as stack:
        ours = ImagesApi(home, api_server, {"api": {"auth": "keystone"}, "auth": cloud.service_login})
        stack.callback(ours.close)
        pair = Pair(cloud, glance, ours)
        stack.callback(pair.close)
        yield pair


@pytest.mark.real
@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_both_answer_alike(pair: Pair, request_: Request) -> None:
    glance, ours = pair.answers(request_)
    if request_.differs:
        assert ours != glance, f"{request_.differs!r} is no difference any more"
    else:
        assert ours == glance


@pytest.mark.real
def test_only_glance_lists_its_reserved_stores(pair: Pair) -> None:
    glance, ours = pair.store_ids()
    assert set(glance) - set(ours) == {"os_glance_staging_store", "os_glance_tasks_store"}
    assert set(ours) < set(glance)


@pytest.mark.parametrize("reason", sorted({request.differs for request in REQUESTS if request.differs}))
def test_each_difference_is_a_row_of_the_docs(reason: str) -> None:
    assert reason in ROWS


def test_each_reason_has_a_request() -> None:
    given = {text for name, text in vars(reasons).items() if name.isupper()}
    assert given == {request.differs for request in REQUESTS if request.differs}
