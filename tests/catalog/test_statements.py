"""How many statements each step of an import sends: bounds, which hold for any number of earlier imports."""

from __future__ import annotations

from tests.fakes.databases import DATABASES, POSTGRESQL
from tests.fakes.images import NOW, asked, new_image, queued_image
from tests.fakes.statements import Statements
from transship.catalog.copies import DataFacts
from transship.catalog.endings import finish_import
from transship.catalog.engine import Catalog
from transship.catalog.images import insert_image, load_images
from transship.catalog.imports import begin_import
from transship.catalog.leases import renew_lease

FACTS = DataFacts(3, 3, None, "sha512", "0" * 128, "raw", "bare")


def notified() -> int:
    """Additional statements on PostgreSQL to wake the keeper."""
    return 1 if DATABASES.kind == POSTGRESQL else 0


def test_any_number_of_images_is_loaded_in_one_statement(catalog: Catalog) -> None:
    images = [queued_image(catalog, properties={"a": "b"}, tags=frozenset({"c"})) for _ in range(3)]
    with catalog.read() as connection, Statements(catalog.engine) as sent:
        found = load_images(connection, [image.id for image in images])
    assert [image.id for image in found] == [image.id for image in images]
    assert len(sent.made) == 1


def test_each_step_of_an_import_sends_few_statements(catalog: Catalog) -> None:
    def count(step: str, work: Statements) -> None:
        counted[step] = len(work.made)

    counted: dict[str, int] = {}
    image = new_image()
    with Statements(catalog.engine) as sent, catalog.write() as connection:
        insert_image(connection, image)
    count("create", sent)
    with Statements(catalog.engine) as sent:
        task = asked(catalog, image)
    count("ask", sent)
    with Statements(catalog.engine) as sent:
        lease = begin_import(catalog, task.id, "run", "here pid 1 x", ttl_s=60.0, now=NOW).lease
    count("begin", sent)
    with Statements(catalog.engine) as sent:
        renew_lease(catalog, lease, 60.0)
    count("renew", sent)
    with Statements(catalog.engine) as sent:
        finish_import(catalog, lease, FACTS, {}, message="", now=NOW, time_to_live_h=1)
    count("finish", sent)
    more = notified()
    assert counted == {"create": 2, "ask": 7 + more, "begin": 5 + more, "renew": 1, "finish": 7 + more}
