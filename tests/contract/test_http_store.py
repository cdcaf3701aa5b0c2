"""Features of the http store alone, and how it translates errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from config.settings.stores import kind_named
from config.settings.stores.http import HttpStoreSettings
from tests.fakes.certificates import Authority
from tests.fakes.web_server import Behaviour, WebServer, answer, cut, redirect
from transship.domain.errors import ObjectMissing, StoreDenied, StoreUnavailable, TransferFailed
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.stores.http import HttpStore

IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"
BODY = bytes(range(256)) * 4096
LOOPBACK = {"allowed_hosts": ("127.0.0.1",), "allowed_ports": ()}


def store_of(settings: HttpStoreSettings | None = None, **uri: object) -> HttpStore:
    site = Settings.model_validate({"uri": {**LOOPBACK, **uri}})
    return HttpStore("web", settings or HttpStoreSettings(), lambda: site)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as running:
        yield running


def size(store: HttpStore, url: str) -> object:
    return store.size(url)


def read(store: HttpStore, url: str) -> object:
    return store.read(url)


def put(store: HttpStore) -> object:
    return store.put(IMAGE, StagedFile(Path(__file__), 1, 1), lambda _done: None, StopToken())


WRITES: dict[str, Callable[[HttpStore], object]] = {
    "put": put,
    "delete": lambda store: store.delete("http://images.example.org/x.img"),
    "discard_temporaries": lambda store: store.discard_temporaries(IMAGE, 9),
    "url_of": lambda store: store.url_of(IMAGE),
}


@pytest.mark.spec("ST-025")
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_it_refuses_to_write(write: Callable[[HttpStore], object]) -> None:
    with pytest.raises(StoreDenied, match="it is read-only"):
        write(store_of())


USES = pytest.mark.parametrize("use", [size, read])


@USES
@pytest.mark.spec("ST-025")
@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "s3://images/x", "memory://elsewhere/x"])
def test_urls_of_other_schemes_name_none_of_its_objects(use: Callable[[HttpStore, str], object], url: str) -> None:
    with pytest.raises(ObjectMissing):
        use(store_of(), url)


@USES
@pytest.mark.spec("ST-018")
@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (answer(404), ObjectMissing),
        (answer(410), ObjectMissing),
        (answer(401), StoreDenied),
        (answer(403), StoreDenied),
        (answer(451), StoreUnavailable),
        (answer(503), StoreUnavailable),
        (redirect("http://10.0.0.1/x.img"), StoreDenied),
        (redirect("/x.img"), StoreDenied),
        (answer(200, {"Content-Encoding": "gzip"}, b"image"), StoreUnavailable),
    ],
    ids=["404", "410", "401", "403", "451", "503", "redirect to a private address", "redirect to itself", "encoded"],
)
def test_errors_of_the_server_are_the_stores_errors(
    behaviour: Behaviour,
    expected: type[TransferFailed],
    use: Callable[[HttpStore, str], object],
    server: WebServer,
) -> None:
    with pytest.raises(expected) as raised:
        use(store_of(), server.on("/x.img", behaviour))
    assert type(raised.value) is expected
    assert "store web" in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)
    assert "10.0.0.1" not in str(raised.value)


@USES
@pytest.mark.spec("ST-018")
def test_a_url_that_the_sites_rules_refuse_is_denied(
    use: Callable[[HttpStore, str], object], server: WebServer
) -> None:
    url = server.serve("/x.img", BODY)
    with pytest.raises(StoreDenied, match=r"the rules for URLs refuse x.img \(allowed_hosts\)"):
        use(store_of(allowed_hosts=("images.example.org",)), url)
    assert server.requests("/x.img") == []


@USES
@pytest.mark.spec("ST-018")
def test_a_server_that_does_not_answer_is_unavailable(use: Callable[[HttpStore, str], object]) -> None:
    with WebServer() as gone:
        url = gone.url("/x.img")
    with pytest.raises(StoreUnavailable, match=r"x.img cannot be reached"):
        use(store_of(), url)


@pytest.mark.spec("ST-018")
def test_a_response_that_breaks_off_is_unavailable_after_its_pieces(server: WebServer) -> None:
    pieces = store_of().read(server.on("/x.img", cut(BODY * 3, len(BODY) * 2, etag="")))
    with pytest.raises(StoreUnavailable):
        list(pieces)


@pytest.mark.parametrize("url", ["http://[", "http://", "https://user:secret@127.0.0.1/x.img"])
def test_a_malformed_url_is_denied_without_its_secrets(url: str) -> None:
    with pytest.raises(StoreDenied) as denied:
        store_of().size(url)
    assert "secret" not in str(denied.value)


def test_a_missing_object_is_named_without_its_signature(server: WebServer) -> None:
    with pytest.raises(ObjectMissing) as missing:
        store_of().size(server.url("/x.img") + "?signature=secret")
    assert "secret" not in missing.value.location


def test_its_own_authority_is_trusted(tmp_path: Path) -> None:
    authority = Authority()
    file = tmp_path / "ca.pem"
    file.write_text(authority.pem)
    with WebServer(tls=authority.server_context("127.0.0.1")) as server:
        url = server.serve("/x.img", BODY)
        store = store_of(HttpStoreSettings(ca_file=file))
        store.check()
        assert b"".join(store.read(url)) == BODY
        with pytest.raises(StoreUnavailable, match="certificate"):
            store_of().size(url)


def test_authorities_that_cannot_be_read_are_unavailable(server: WebServer, tmp_path: Path) -> None:
    store = store_of(HttpStoreSettings(ca_file=tmp_path / "missing.pem"))
    for use in (store.check, lambda: store.size(server.serve("/x.img", BODY))):
        with pytest.raises(StoreUnavailable, match="ca_file"):
            use()


def test_it_is_as_read_only_as_its_kind() -> None:
    kind = kind_named("http")
    assert kind is not None
    assert kind.read_only
    assert HttpStore.read_only
