"""``transship rerun``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Site
from tests.fakes.images_api import FORMATS
from transship.commands.rerun import rerun
from transship.domain.errors import CommandRefused


def active_with_failed(site: Site) -> str:
    image_id = site.api.create(**FORMATS)
    site.api.activate(image_id, b"data", failed={"archive": "store archive is full"})
    return image_id


def test_an_active_image_is_copied_to_the_stores_that_failed(site: Site) -> None:
    image_id = active_with_failed(site)
    site.worker.failure = "still full"
    assert rerun(site.invocation, image_id, "") == 0
    task = site.api.client.get(f"/v2/images/{image_id}/tasks").json()["tasks"][0]
    assert task["input"]["import_req"]["method"] == {"name": "copy-image"}
    assert task["input"]["backend"] == ["archive"]


@pytest.mark.parametrize(("store", "words"), [("", "no store failed"), ("fast", "already present")])
def test_what_did_not_fail_is_not_done_again(site: Site, store: str, words: str) -> None:
    image_id = site.api.active(b"data")
    with pytest.raises(Exception, match=words):
        rerun(site.invocation, image_id, store)


def test_an_image_that_was_never_imported_has_nothing_to_do_again(site: Site) -> None:
    with pytest.raises(CommandRefused, match="no import of it has failed"):
        rerun(site.invocation, site.api.create(**FORMATS), "")
