from __future__ import annotations

import json
from hashlib import sha512
from pathlib import Path

import pytest

from config.settings import StagingSettings
from tests.cli.conftest import Site
from tests.fakes.images_api import SOURCE
from transship.api.app import build_app
from transship.commands.images import list_images
from transship.commands.import_image import ImportOptions, import_image, parse_properties, record_of, request_of
from transship.domain.errors import CommandRefused, ServiceRefused, ServiceUnreachable

DATA = bytes(range(256)) * 5000


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk of mine.img"
    path.write_bytes(DATA)
    return path


def test_a_local_file_is_uploaded_for_its_import_and_compared(
    site: Site, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_image(site.invocation, ImportOptions(source=str(disk))) == 0
    shown = capsys.readouterr().out
    (image,) = site.api.client.get("/v2/images").json()["images"]
    assert image["status"] == "active"
    assert image["name"] == "disk of mine.img"
    assert sha512(DATA).hexdigest() in shown
    assert "sha512 matches the source" in shown
    assert f"fast: file://{site.api.stores['fast']}/{image['id']}" in shown
    assert f"uploading {disk}" in shown
    assert "upload, 100% of 1.2 MiB" in shown
    assert site.worker.fetched == []


def test_an_upload_that_is_refused_leaves_no_record(site: Site, disk: Path) -> None:
    api = site.api.settings.model_copy(update={"staging": StagingSettings(free_floor_bytes=1 << 60)})
    site.worker.app = build_app(api, site.api.catalog)
    with pytest.raises(ServiceRefused, match="staging is full"):
        import_image(site.invocation, ImportOptions(source=str(disk)))
    assert site.api.client.get("/v2/images").json()["images"] == []


def test_data_that_were_unpacked_are_not_compared(site: Site, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.worker.changed = b"another length"
    assert import_image(site.invocation, ImportOptions(source=str(disk))) == 0
    assert "unpacked or converted" in capsys.readouterr().out


def test_data_of_the_same_size_that_differ_are_an_error(
    site: Site, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.worker.changed = DATA[::-1]
    assert import_image(site.invocation, ImportOptions(source=str(disk))) == 1
    assert "sha512 does not match the source" in capsys.readouterr().out


def test_the_message_of_a_failure_is_shown(site: Site, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.worker.failure = "staging is full: 5 GiB needed"
    assert import_image(site.invocation, ImportOptions(source=str(disk))) == 1
    shown = capsys.readouterr().out
    assert "error: staging is full: 5 GiB needed" in shown
    assert "is removed; with --keep it stays" in shown
    assert site.api.client.get("/v2/images").json()["images"] == []


def test_the_image_of_a_failed_import_can_be_kept(site: Site, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.worker.failure = "staging is full: 5 GiB needed"
    assert import_image(site.invocation, ImportOptions(source=str(disk), keep=True)) == 1
    (image,) = site.api.client.get("/v2/images").json()["images"]
    assert image["status"] == "queued"
    shown = capsys.readouterr().out
    assert f"image {image['id']} is queued; 'transship rerun {image['id']}' tries again" in shown
    assert "/runs/flow-run/run-of-" in shown


@pytest.mark.parametrize(("answer", "left"), [("", 0), ("y", 0), ("n", 1)])
def test_whoever_sits_at_a_terminal_is_asked_whether_to_remove_the_image(
    site: Site, disk: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    asked = []

    def at_terminal(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", at_terminal)
    site.worker.failure = "no luck"
    assert import_image(site.invocation, ImportOptions(source=str(disk))) == 1
    assert ["which is in no store? [Y/n]" in question for question in asked] == [True]
    assert len(site.api.client.get("/v2/images").json()["images"]) == left


def test_an_import_in_part_names_the_command_for_the_rest(
    site: Site, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.worker.missing = {"archive": "store archive is full"}
    assert (
        import_image(site.invocation, ImportOptions(source=str(disk), stores=("fast", "archive"), allow_failure=True))
        == 0
    )
    (image,) = site.api.client.get("/v2/images").json()["images"]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["the", "rest", "transship", "rerun", image["id"], "--store", "archive"] in lines
    assert [words[1].partition("/run-of-")[0] for words in lines if words[0] == "run"] == [
        f"{site.invocation.settings.prefect_api_url.removesuffix('/api')}/runs/flow-run"
    ]
    assert list_images(site.invocation) == 0
    assert capsys.readouterr().out.rstrip().endswith("fast    not written to archive")


def test_a_refused_import_leaves_no_record(site: Site) -> None:
    with pytest.raises(ServiceRefused, match="does not pass filtering"):
        import_image(site.invocation, ImportOptions(source="http://127.0.0.1:1/a.img", disk_format="raw"))
    assert site.api.client.get("/v2/images").json()["images"] == []


def test_an_unknown_store_leaves_no_record(site: Site) -> None:
    with pytest.raises(CommandRefused, match=r"there is no store nowhere; the stores are: .*fast"):
        import_image(site.invocation, ImportOptions(source=SOURCE, stores=("nowhere",), disk_format="qcow2"))
    assert site.api.client.get("/v2/images").json()["images"] == []


def test_an_api_that_does_not_run_is_named(tmp_path: Path, disk: Path) -> None:
    from transship.commands.context import Invocation  # noqa: PLC0415 - only this test needs one of its own

    nobody = Invocation(overrides={"home": str(tmp_path), "api.port": "9"})
    with pytest.raises(ServiceUnreachable, match=r"nothing listens at http://127\.0\.0\.1:9 \(Images API\)"):
        import_image(nobody, ImportOptions(source=str(disk)))


@pytest.mark.parametrize(
    "options",
    [
        ImportOptions(),
        ImportOptions(source=SOURCE, stores=("a",), all_stores=True),
        ImportOptions(source=SOURCE, image_id="abc"),
        ImportOptions(source="/no/such/file.img"),
        ImportOptions(source="/"),
        ImportOptions(source="/etc/hostname"),
    ],
    ids=["nothing", "two store choices", "no UUID", "no such file", "directory", "format unknown"],
)
def test_a_command_line_that_makes_no_sense_changes_nothing(site: Site, options: ImportOptions) -> None:
    with pytest.raises(CommandRefused):
        import_image(site.invocation, options)
    assert site.api.client.get("/v2/images").json()["images"] == []


def test_all_options_reach_the_requests() -> None:
    options = ImportOptions(
        source="http://u:p@example.org/a%20b.qcow2?token=x",
        disk_format="raw",
        stores=("s1", "s2"),
        allow_failure=True,
        properties={"os_type": "linux"},
        image_id="11111111-1111-1111-1111-111111111111",
    )
    assert record_of(options, options.source, "raw") == {
        "id": "11111111-1111-1111-1111-111111111111",
        "name": "a b.qcow2",
        "disk_format": "raw",
        "container_format": "bare",
        "os_type": "linux",
    }
    assert request_of(options, options.source) == {
        "method": {"name": "web-download", "uri": options.source},
        "all_stores_must_succeed": False,
        "stores": ["s1", "s2"],
    }


NAMES = {
    "https://example.org/noble.img;jsessionid=s3cret": "noble.img",
    "https://example.org/noble.img%3Ftoken=s3cret": "noble.img",
    "https://example.org/noble.img\uff1ftoken=s3cret": "noble.img",
    "https://example.org/noble.img?token=s3cret#s3cret": "noble.img",
    "https://us\uff1as3cret\uff20example.org/noble.img": "(not shown)",
    "file:///images/odd%3B%20name%23%3F.img": "odd; name#?.img",
}


@pytest.mark.parametrize(("source", "name"), NAMES.items())
def test_an_image_is_named_by_its_file_and_not_by_a_secret(source: str, name: str) -> None:
    assert record_of(ImportOptions(source=source), source, "raw")["name"] == name


def test_uploaded_data_are_asked_for_without_a_uri() -> None:
    assert request_of(ImportOptions(source="disk.raw"), "")["method"] == {"name": "glance-direct"}


def test_without_a_choice_of_stores_the_service_chooses() -> None:
    assert "stores" not in request_of(ImportOptions(), SOURCE)
    assert request_of(ImportOptions(all_stores=True), SOURCE)["all_stores"] is True


@pytest.mark.parametrize("assignment", ["os_type", "=linux"])
def test_a_property_without_name_or_value_is_refused(assignment: str) -> None:
    with pytest.raises(CommandRefused, match="NAME=VALUE"):
        parse_properties([assignment])


def test_a_property_with_an_option_of_its_own_is_refused() -> None:
    with pytest.raises(CommandRefused, match="disk_format is a field of every image; use --disk-format"):
        parse_properties(["disk_format=raw"])


def test_images_are_listed_with_their_stores(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    image_id = site.api.active(b"12345", name="five")
    site.api.create(name="empty")
    assert list_images(site.invocation) == 0
    lines = {line.split()[1]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["five"] == [image_id, "five", "active", "qcow2", "5", "bytes", "fast", "-"]
    assert lines["empty"][2:] == ["queued", "-", "-", "-", "-"]


def test_images_are_listed_as_json(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    image_id = site.api.active(b"12345", name="five")
    capsys.readouterr()
    assert list_images(site.invocation, as_json=True) == 0
    shown = capsys.readouterr().out
    (image,) = json.loads(shown[shown.index("[\n") :])
    assert (image["id"], image["name"], image["size"], image["stores"]) == (image_id, "five", 5, ["fast"])
