"""Lists of images: pages, order, filters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from config.settings import ApiSettings
from tests.fakes.images_api import FORMATS, ApiMaker, ImagesApi
from transship.api.query import parse_query
from transship.catalog.images import insert_image
from transship.catalog.schema import MEMBERS
from transship.catalog.search import ImageQuery, find_images
from transship.domain.errors import BadRequest
from transship.domain.image import Image, ImageStatus, Visibility
from transship.domain.visibility import Viewer

NOON = datetime(2026, 3, 4, 12, 0, 0, 500_000, tzinfo=UTC)
ADMIN = Viewer(is_admin=True)


def _names(api: ImagesApi, query: str) -> list[str]:
    answer = api.client.get(f"/v2/images?{query}")
    assert answer.status_code == 200, answer.text
    return [image["name"] for image in answer.json()["images"]]


def _insert(api: ImagesApi, name: str | None, n: int, **changes: object) -> str:
    moment = NOON + timedelta(seconds=n)
    image = Image(f"00000000-0000-4000-8000-{n:012d}", ImageStatus.QUEUED, moment, moment, name, **changes)  # type: ignore[arg-type]  # tests choose
    with api.catalog.write() as connection:
        insert_image(connection, image)
    return image.id


def _many(api: ImagesApi) -> None:
    _insert(api, "one", 1, disk_format="raw", min_disk=1, properties={"os_distro": "debian"}, tags=frozenset("ab"))
    _insert(api, "two", 2, disk_format="qcow2", min_disk=2, protected=True, tags=frozenset("a"))
    _insert(api, "three, again", 3, visibility=Visibility.PUBLIC, owner="project-7", properties={"os_distro": "x"})
    _insert(api, "four", 4, os_hidden=True)
    _insert(api, None, 5, container_format="bare")


def test_a_list_begins_with_the_newest_and_hides_the_hidden(api: ImagesApi) -> None:
    _many(api)
    assert _names(api, "") == [None, "three, again", "two", "one"]


def test_pages_follow_each_other_by_marker_whatever_the_order(api: ImagesApi) -> None:
    for n in range(7):
        _insert(api, None if n % 3 == 0 else f"name-{n % 2}", n, min_disk=n % 2)
    for sort in ("", "&sort=name:asc", "&sort=name:desc,size:asc", "&sort=size", "&sort_key=disk_format&sort_dir=asc"):
        whole = [image["id"] for image in api.client.get(f"/v2/images?limit=100{sort}").json()["images"]]
        assert len(whole) == 7
        found: list[str] = []
        url = f"/v2/images?limit=2{sort}"
        while url:
            page = api.client.get(url).json()
            found += [image["id"] for image in page["images"]]
            url = page.get("next", "")
        assert found == whole, sort


def test_names_are_sorted_by_their_bytes_on_every_database(api: ImagesApi) -> None:
    for n, name in enumerate(["b", "A", "a-b", "ab", "\u00e4", "B", "Z", "a"]):
        _insert(api, name, n)
    assert _names(api, "sort=name:asc") == ["A", "B", "Z", "a", "a-b", "ab", "b", "\u00e4"]
    marker = "00000000-0000-4000-8000-000000000006"
    assert _names(api, f"sort=name:asc&limit=2&marker={marker}") == ["a", "a-b"]


def test_next_is_there_only_after_a_full_page_and_keeps_the_query(api: ImagesApi) -> None:
    _many(api)
    page = api.client.get("/v2/images?limit=1&tag=a&sort=name").json()
    assert page["first"] == "/v2/images?limit=1&tag=a&sort=name"
    assert page["next"] == f"/v2/images?limit=1&tag=a&sort=name&marker={page['images'][0]['id']}"
    assert page["schema"] == "/v2/schemas/images"
    rest = api.client.get("/v2/images?limit=50&marker=" + page["images"][0]["id"]).json()
    assert "next" not in rest
    assert "marker" not in rest["first"]
    assert api.client.get("/v2/images").json()["first"] == "/v2/images"


def test_the_site_bounds_the_page(make_api: ApiMaker) -> None:
    api = make_api(api=ApiSettings(limit_param_default=2, api_limit_max=3))
    _many(api)
    assert (len(_names(api, "")), len(_names(api, "limit=100")), len(_names(api, "limit=0"))) == (2, 3, 0)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name=one", ["one"]),
        ("name=in:one,two", ["two", "one"]),
        ('name=in:"three, again",one', ["three, again", "one"]),
        ("disk_format=in:raw,qcow2", ["two", "one"]),
        ("id=in:00000000-0000-4000-8000-000000000001", ["one"]),
        ("status=queued&name=two", ["two"]),
        ("status=active", []),
        ("owner=project-7", ["three, again"]),
        ("container_format=bare", [None]),
        ("min_disk=2", ["two"]),
        ("min_disk_min=1", ["two", "one"]),
        ("min_disk_min=1&min_disk_max=1", ["one"]),
        ("size_min=0", []),
        ("min_disk=999999999999", []),
        ("min_ram_max=999999999999&name=one", ["one"]),
        ("os_distro=debian", ["one"]),
        ("os_distro=debian&name=two", []),
        ("os_distro_min=3", []),
        ("tag=a", ["two", "one"]),
        ("tag=a&tag=b", ["one"]),
        ("protected=true", ["two"]),
        ("protected=false", [None, "three, again", "one"]),
        ("name=eq:one", ["one"]),
        ("tag=%20a%20", ["two", "one"]),
        ("deleted=true&name=one", ["one"]),
        ("os_hidden=TRUE", ["four"]),
        ("os_hidden=true", ["four"]),
        ("visibility=public", ["three, again"]),
        ("visibility=shared&name=one", ["one"]),
        ("visibility=all", [None, "three, again", "two", "one"]),
        ("member_status=all&name=one", ["one"]),
        ("created_at=2026-03-04T12:00:02Z", ["two"]),
        ("created_at=eq:2026-03-04T12:00:02", ["two"]),
        ("created_at=neq:2026-03-04T12:00:02Z", [None, "three, again", "one"]),
        ("created_at=gt:2026-03-04T12:00:02Z", [None, "three, again"]),
        ("created_at=gte:2026-03-04T12:00:02Z", [None, "three, again", "two"]),
        ("created_at=lt:2026-03-04T13:00:02%2B01:00", ["one"]),
        ("updated_at=lte:2026-03-04T12:00:02.9Z", ["two", "one"]),
        ("created_at=gt:9999-12-31T23:59:59Z", []),
        ("created_at=gt:0001-01-01T00:00:00Z&name=one", ["one"]),
        ("sort=name:asc&name=in:one,two", ["one", "two"]),
        ("sort=min_disk", 400),
        ("sort=name:up", 400),
        ("sort=name&sort_key=id", 400),
        ("sort=", 400),
        ("sort_key=name&sort_dir=asc&sort_dir=desc", 400),
        ("sort_key=name&sort_key=id&sort_dir=asc&name=in:one,two", ["one", "two"]),
        ("sort_dir=asc&name=in:one,two", ["one", "two"]),
        ("sort=name:asc,name:desc&name=in:one,two", ["one", "two"]),
        ("limit=-1", 400),
        ("limit=two", 400),
        ("limit=", 400),
        ("limit=" + "9" * 30, 400),
        ("marker=nothing", 400),
        ("marker=", 400),
        ("protected=False", 400),
        ("visibility=Public", 400),
        ("member_status=ALL", 400),
        ("marker=00000000-0000-4000-8000-00000000000f", 400),
        ('name=in:"three', 400),
        ('name=in:"three"x', 400),
        ('name=in:th"ree', 400),
        ("created_at=yesterday", 400),
        ("created_at=gt:", 400),
        ("size_min=large", 400),
        ("min_disk=1.5", 400),
        ("visibility=secret", 400),
        ("member_status=maybe", 400),
        ("os_hidden=perhaps", 400),
        ("protected=1", 400),
        ("changes-since=2026-01-01T00:00:00Z", 400),
        ("name=a%00b", 400),
    ],
)
def test_a_query_finds_what_it_names_or_is_refused(api: ImagesApi, query: str, names: list[str] | int) -> None:
    _many(api)
    if isinstance(names, int):
        assert api.client.get(f"/v2/images?{query}").status_code == names
    else:
        assert _names(api, query) == names


def test_quotes_in_a_list_can_be_escaped() -> None:
    query = parse_query([("name", r'in:"a \"b\", c",,d')], ADMIN, ApiSettings())
    assert query.texts == {"name": ('a "b", c', "", "d")}


def test_deleted_images_are_in_no_list_and_only_administrators_go_on_after_one(api: ImagesApi) -> None:
    api.create(name="older")
    image_id = api.create(name="gone", visibility="public")
    api.client.delete(f"/v2/images/{image_id}")
    assert _names(api, "") == ["older"]
    assert _names(api, f"marker={image_id}") == ["older"]
    query = ImageQuery(Viewer("p1", ("member",)), marker=image_id)
    with api.catalog.read() as connection, pytest.raises(BadRequest, match="Invalid marker"):
        find_images(connection, query)


def test_sizes_are_compared_with_what_is_stored(api: ImagesApi) -> None:
    api.active(b"x" * 10, name="ten")
    api.create(name="none", **FORMATS)
    assert _names(api, "size_min=10") == ["ten"]
    assert _names(api, "size_max=9") == []
    assert _names(api, "size=10") == ["ten"]
    assert _names(api, "sort=size:asc") == ["none", "ten"]


# --- whose images ------------------------------------------------------------------------------


@pytest.fixture
def crowded(api: ImagesApi) -> ImagesApi:
    for n, (name, visibility, owner) in enumerate(
        [
            ("mine", Visibility.PRIVATE, "me"),
            ("public", Visibility.PUBLIC, "you"),
            ("community", Visibility.COMMUNITY, "you"),
            ("private", Visibility.PRIVATE, "you"),
            ("accepted", Visibility.SHARED, "you"),
            ("pending", Visibility.SHARED, "you"),
            ("nobody's", Visibility.PRIVATE, ""),
        ]
    ):
        image_id = _insert(api, name, n, visibility=visibility, owner=owner)
        if name in ("accepted", "pending"):
            row = {"image_id": image_id, "member": "me", "status": name, "created_at": NOON, "updated_at": NOON}
            with api.catalog.write() as connection:
                connection.execute(MEMBERS.insert().values(**row))
    return api


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, {"mine", "public", "accepted"}),
        ({"visibility": "community"}, {"community"}),
        ({"visibility": "all"}, {"mine", "public", "accepted", "community"}),
        ({"visibility": "shared"}, {"accepted"}),
        ({"visibility": "shared", "member_status": "pending"}, {"pending"}),
        ({"visibility": "shared", "member_status": "all"}, {"accepted", "pending"}),
        ({"visibility": "private"}, {"mine"}),
    ],
)
def test_a_project_finds_its_own_and_what_is_open_to_it(
    crowded: ImagesApi, query: dict[str, str], names: set[str]
) -> None:
    wanted = parse_query(list(query.items()), Viewer("me", ("member", "reader")), ApiSettings())
    with crowded.catalog.read() as connection:
        assert {image.name for image in find_images(connection, wanted)} == names


def test_an_admin_finds_all_but_community_images_and_a_caller_without_project_what_is_public(
    crowded: ImagesApi,
) -> None:
    with crowded.catalog.read() as connection:
        assert len(find_images(connection, ImageQuery(ADMIN, whole_community=True))) == 7
        default = {image.name for image in find_images(connection, ImageQuery(ADMIN))}
        assert default == {"mine", "public", "private", "accepted", "pending", "nobody's"}
        of_owner = find_images(connection, ImageQuery(Viewer("you", ("admin",), is_admin=True)))
        assert {image.name for image in of_owner} == {*default, "community"}
        assert [image.name for image in find_images(connection, ImageQuery(Viewer()))] == ["public"]
