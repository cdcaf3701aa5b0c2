"""``transship import`` without ``--disk-format``: the format is detected from the data, and raw never by name alone."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import UriSettings
from tests.cli.conftest import Site
from tests.fakes.disk_images import MIB, converted, fixed_vhd, iso, raw_disk
from tests.fakes.ports import free_port
from tests.fakes.web_server import WebServer, answer, redirect, whole
from transship.api.app import build_app
from transship.commands.import_image import ImportOptions, import_image
from transship.domain.errors import CommandRefused, RedirectRefused, SourceNotAccepted


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as made:
        yield made


def at(site: Site, server: WebServer, **more: str) -> Site:
    """Allow command and service to import from the server."""
    uri = UriSettings.model_validate({"allowed_hosts": ["127.0.0.1"], "allowed_ports": [server.port]})
    site.worker.app = build_app(site.api.settings.model_copy(update={"uri": uri}), site.api.catalog)
    hosts = {"uri.allowed_hosts": '["127.0.0.1"]', "uri.allowed_ports": f"[{server.port}]"}
    overrides = {**site.invocation.overrides, **hosts, **more}
    return replace(site, invocation=replace(site.invocation, overrides=overrides))


def formats(site: Site) -> list[str]:
    """Return the disk formats of all images."""
    return [image["disk_format"] for image in site.api.client.get("/v2/images").json()["images"]]


@pytest.fixture
def qcow2(tmp_path: Path) -> bytes:
    return converted(raw_disk(tmp_path / "source", 3 * MIB), tmp_path / "made", "qcow2").read_bytes()


# --- local files -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["noble-server-cloudimg-amd64.img", "disk.raw", "disk.iso", "disk.vhd", "disk"])
def test_a_local_qcow2_is_one_whatever_its_name_says(site: Site, tmp_path: Path, qcow2: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(qcow2)
    assert import_image(site.invocation, ImportOptions(source=str(path))) == 0
    assert formats(site) == ["qcow2"]


def test_a_fixed_vhd_is_no_raw_disk(site: Site, tmp_path: Path) -> None:
    path = fixed_vhd(raw_disk(tmp_path / "disk.img", partitioned=True))
    assert import_image(site.invocation, ImportOptions(source=str(path))) == 0
    assert formats(site) == ["vhd"]


@pytest.mark.parametrize("name", ["disk.qcow2", "disk.iso", "disk", "disk.vmdk.gz"])
def test_a_local_file_that_tells_no_format_leaves_no_record(site: Site, tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandRefused, match=r"no mark of a format, .*; add --disk-format"):
        import_image(site.invocation, ImportOptions(source=str(raw_disk(tmp_path / name))))
    assert formats(site) == []


def test_a_format_that_is_stated_is_taken_as_it_is(site: Site, tmp_path: Path, qcow2: bytes) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(qcow2)
    assert import_image(site.invocation, ImportOptions(source=str(path), disk_format="raw")) == 0
    assert formats(site) == ["raw"]


# --- URLs --------------------------------------------------------------------------------------


def _zipped(data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.img", data)
    return made.getvalue()


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("path", ["/noble-server-cloudimg-amd64.img", "/x.raw", "/x.iso", "/x", "/x.img?a=.iso", "/"])
def test_what_lies_at_a_url_is_asked(site: Site, server: WebServer, qcow2: bytes, path: str, *, ranges: bool) -> None:
    target, mark, query = path.partition("?")
    uri = server.on(target, whole(qcow2, ranges=ranges)) + mark + query
    assert import_image(at(site, server).invocation, ImportOptions(source=uri)) == 0
    assert formats(site) == ["qcow2"]


PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zip": _zipped}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("path", ["/x.img", "/x.img.gz", "/x.raw.zip", "/x"])
def test_what_will_be_unpacked_is_looked_into(
    site: Site, server: WebServer, qcow2: bytes, kind: str, path: str
) -> None:
    uri = server.serve(path, PACKED[kind](qcow2))
    plugins = {"imports.plugins": "image_decompression"}
    assert import_image(at(site, server, **plugins).invocation, ImportOptions(source=uri)) == 0
    assert formats(site) == ["qcow2"]


@pytest.mark.parametrize("kind", PACKED)
def test_an_archive_that_is_not_unpacked_here_is_refused(
    site: Site, server: WebServer, qcow2: bytes, kind: str
) -> None:
    uri = server.serve("/x.img", PACKED[kind](qcow2))
    with pytest.raises(CommandRefused, match=rf"packed by {kind}.*add --disk-format"):
        import_image(at(site, server, **{"imports.plugins": ""}).invocation, ImportOptions(source=uri))
    assert formats(site) == []


@pytest.mark.parametrize("kind", PACKED)
def test_an_archive_that_stays_one_has_the_format_of_its_content(
    site: Site, server: WebServer, qcow2: bytes, kind: str
) -> None:
    uri = server.serve("/x.img", PACKED[kind](qcow2))
    options = ImportOptions(source=uri, container_format="compressed")
    assert import_image(at(site, server, **{"imports.plugins": ""}).invocation, options) == 0
    assert formats(site) == ["qcow2"]


def test_the_end_of_a_url_is_asked_where_the_server_serves_it(site: Site, server: WebServer, tmp_path: Path) -> None:
    data = fixed_vhd(raw_disk(tmp_path / "disk", partitioned=True)).read_bytes()
    assert import_image(at(site, server).invocation, ImportOptions(source=server.serve("/azure.img", data))) == 0
    assert formats(site) == ["vhd"]
    uri = server.on("/azure.vhd", whole(data, ranges=False))
    with pytest.raises(CommandRefused, match=r"could not be read; add --disk-format"):
        import_image(at(site, server).invocation, ImportOptions(source=uri))
    assert formats(site) == ["vhd"]


def test_no_more_than_the_two_ends_of_a_large_source_are_asked_for(
    site: Site, server: WebServer, tmp_path: Path
) -> None:
    data = iso(tmp_path / "x").read_bytes() + bytes(4 * MIB)
    uri = server.serve("/x.img", data)
    import_image(at(site, server).invocation, ImportOptions(source=uri))
    assert formats(site) == ["iso"]
    first, end = server.requests("/x.img")[:2]
    assert "range" not in first.headers
    assert end.headers["range"] == f"bytes={len(data) - 128 * 1024}-{len(data) - 1}"


@pytest.mark.parametrize("name", ["x.img", "X.IMG", "x%2Eraw", "x.img?signed=a.qcow2#b.iso"])
def test_data_without_a_mark_are_raw_where_the_url_names_them_so(site: Site, server: WebServer, name: str) -> None:
    server.serve("/" + name.partition("?")[0], bytes(MIB))
    assert import_image(at(site, server).invocation, ImportOptions(source=server.url(f"/{name}"))) == 0
    assert formats(site) == ["raw"]


@pytest.mark.parametrize("name", ["x.qcow2", "x.iso", "x"])
def test_a_url_that_tells_no_format_leaves_no_record(site: Site, server: WebServer, name: str) -> None:
    with pytest.raises(CommandRefused, match="add --disk-format"):
        import_image(at(site, server).invocation, ImportOptions(source=server.serve(f"/{name}", bytes(MIB))))
    assert formats(site) == []


def test_a_source_that_cannot_be_looked_at_is_refused_with_the_remedy(site: Site, server: WebServer) -> None:
    uri = server.on("/x.img", answer(503))
    with pytest.raises(CommandRefused, match=r"disk format of .* cannot be detected: .*503.*; add --disk-format"):
        import_image(at(site, server).invocation, ImportOptions(source=uri))
    assert formats(site) == []


# --- the gate ----------------------------------------------------------------------------------


def test_a_url_that_the_gate_refuses_is_not_dialled(site: Site, server: WebServer, qcow2: bytes) -> None:
    uri = server.serve("/x.img", qcow2)
    with pytest.raises(SourceNotAccepted):
        import_image(site.invocation, ImportOptions(source=uri))
    assert server.requests("/x.img") == []
    assert formats(site) == []


def test_a_redirect_that_the_gate_refuses_is_not_followed(site: Site, server: WebServer, qcow2: bytes) -> None:
    with WebServer() as inner:
        secret = inner.serve("/secret.img", qcow2)
        with pytest.raises(RedirectRefused):
            import_image(at(site, server).invocation, ImportOptions(source=server.on("/x.img", redirect(secret))))
        assert inner.requests("/secret.img") == []
    assert formats(site) == []


def test_a_redirect_that_the_gate_accepts_is_followed(site: Site, server: WebServer, qcow2: bytes) -> None:
    uri = server.on("/x.img", redirect(server.serve("/elsewhere", qcow2)))
    assert import_image(at(site, server).invocation, ImportOptions(source=uri)) == 0
    assert formats(site) == ["qcow2"]


def test_secrets_of_a_url_stand_in_no_error(site: Site, server: WebServer) -> None:
    uri = server.on("/x.img?token=hush", answer(404)).replace("http://", "http://user:hush@")
    with pytest.raises((CommandRefused, SourceNotAccepted)) as refused:
        import_image(at(site, server).invocation, ImportOptions(source=uri))
    assert "hush" not in str(refused.value)
    assert formats(site) == []


def test_a_source_that_cannot_be_reached_is_not_blamed_on_its_format(site: Site, server: WebServer) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    reaching = at(site, server, **{"uri.internal_hosts": nobody}).invocation
    with pytest.raises(CommandRefused, match=r"cannot be reached: .*; check the address, or try again later$"):
        import_image(reaching, ImportOptions(source=f"http://{nobody}/x.img"))
    assert formats(site) == []
