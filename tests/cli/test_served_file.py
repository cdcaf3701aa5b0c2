from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from transship.commands.served_file import LocalFile, parse_range, served
from transship.domain.errors import CommandRefused

DATA = b"0123456789"


@pytest.fixture
def file(tmp_path: Path) -> LocalFile:
    path = tmp_path / "a disk.img"
    path.write_bytes(DATA)
    return LocalFile.at(path)


@pytest.fixture
def url(file: LocalFile) -> Iterator[str]:
    with served(file) as (url, _):
        yield url


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        # Closed after each answer, so that no idle connection outlives its server.
        session.headers["Connection"] = "close"
        yield session


def get(session: requests.Session, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
    return session.get(url, headers=headers, timeout=120)


def test_the_whole_file_comes_with_its_length_and_tag(session: requests.Session, url: str, file: LocalFile) -> None:
    answer = get(session, url)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["ETag"] == file.tag
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_head_sends_the_headers_alone(session: requests.Session, url: str) -> None:
    answer = session.head(url, timeout=120)
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, "10", b"")


@pytest.mark.parametrize(
    ("asked", "content", "content_range"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=4-400", b"456789", "bytes 4-9/10"),
    ],
)
def test_a_range_sends_that_part(
    session: requests.Session, url: str, asked: str, content: bytes, content_range: str
) -> None:
    answer = get(session, url, {"Range": asked})
    assert (answer.status_code, answer.content) == (206, content)
    assert answer.headers["Content-Range"] == content_range


def test_a_range_beyond_the_end_is_refused(session: requests.Session, url: str) -> None:
    answer = get(session, url, {"Range": "bytes=10-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */10")


@pytest.mark.parametrize(("tag", "status"), [("", 206), ("another", 200)])
def test_a_range_of_another_version_sends_the_whole(
    session: requests.Session, url: str, file: LocalFile, tag: str, status: int
) -> None:
    headers = {"Range": "bytes=5-", "If-Range": f'"{tag}"' if tag else file.tag}
    assert get(session, url, headers).status_code == status


def test_no_other_path_answers(session: requests.Session, url: str) -> None:
    parts = urlsplit(url)
    name = parts.path.rpartition("/")[2]
    for path in ("/", "/etc/hostname", f"/{name}", f"/another/{name}", f"{parts.path}/", f"{parts.path}?x"):
        assert get(session, f"{parts.scheme}://{parts.netloc}{path}").status_code == 404


def test_nothing_listens_when_the_block_has_ended(session: requests.Session, file: LocalFile) -> None:
    with served(file) as (url, port):
        assert f":{port}/" in url
    with pytest.raises(requests.ConnectionError):
        get(session, url)


def test_a_file_that_changes_has_another_tag(file: LocalFile) -> None:
    file.path.write_bytes(DATA + DATA)
    assert LocalFile.at(file.path).tag != file.tag


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandRefused):
        LocalFile.at(tmp_path / name)


@pytest.mark.parametrize("header", ["", "bytes=-", "bytes=0-1,3-4", "items=0-1", "bytes=5-2", "bytes=a-b"])
def test_what_is_no_single_range_means_the_whole_file(header: str) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_without_a_byte_is_an_error(header: str, size: int) -> None:
    with pytest.raises(ValueError, match="no byte"):
        parse_range(header, size)
