"""Import plugins: unpacking, conversion, injected properties, on data from a real web server."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from config.loading import load_settings
from tests.fakes import disk_images
from tests.fakes.asked_imports import ADMIN, MEMBER, AskedImports
from tests.fakes.disk_images import MIB
from tests.fakes.images import NOW, web_order
from tests.fakes.web_imports import assert_nothing_left
from tests.fakes.web_server import WebServer
from tests.flows.conftest import Site
from transship.catalog.imports import Caller, ask_import
from transship.commands.configuration import refuse_what_fails_imports
from transship.domain.errors import ConfigurationRefused
from transship.domain.image import Image, ImageStatus

pytestmark = pytest.mark.real
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is missing; make bootstrap")

BOTH = "image_decompression,image_conversion"


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    return disk_images.raw_disk(tmp_path / "disk.raw", 4 * MIB, partitioned=True).read_bytes()


@pytest.fixture
def qcow2(disk: bytes, tmp_path: Path) -> bytes:
    return disk_images.converted(tmp_path / "disk.raw", tmp_path / "disk.qcow2", "qcow2").read_bytes()


def assert_holds(imports: AskedImports, image_id: str, body: bytes) -> Image:
    image = imports.image(image_id)
    assert (image.status, image.import_message) == (ImageStatus.ACTIVE, None)
    assert (image.size, image.os_hash_value) == (len(body), hashlib.sha512(body).hexdigest())
    assert image.checksum == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert imports.site.stored() == {image_id: body}
    return image


def in_our_settings(site: Site) -> None:
    site.set(imports__plugins="inject_image_metadata", inject__properties='{"property1": "value1"}')


def in_a_quoted_file_of_a_glance(site: Site) -> None:
    path = site.home / "glance-image-import.conf"
    path.write_text(
        "[image_import_opts]\nimage_import_plugins = [inject_image_metadata]\n"
        '[inject_metadata_properties]\nignore_user_roles = admin\ninject = "property1":"value1"\n'
    )
    site.set(glance_config=str(path))


@pytest.mark.parametrize(
    ("caller", "expected"), [(MEMBER, {"property1": "value1"}), (ADMIN, {})], ids=["member", "admin"]
)
@pytest.mark.parametrize("configure", [in_our_settings, in_a_quoted_file_of_a_glance])
def test_case_51_properties_are_injected_for_members_and_not_for_admins(
    imports: AskedImports,
    server: WebServer,
    disk: bytes,
    configure: Callable[[Site], None],
    caller: Caller,
    expected: dict[str, str],
) -> None:
    configure(imports.site)
    image_id = imports.create()
    ask_import(imports.site.catalog, image_id, web_order(server.serve("/x.img", disk)), caller, NOW)
    imports.carry(image_id)
    assert assert_holds(imports, image_id, disk).properties == expected


@needs_qemu
def test_case_53_a_packed_qcow2_is_unpacked_and_described_by_what_was_in_it(
    imports: AskedImports, server: WebServer, disk: bytes, qcow2: bytes
) -> None:
    imports.site.set(imports__plugins="image_decompression")
    _, image_id = imports.bring(server.serve("/x.qcow2.gz", gzip.compress(qcow2)), disk_format="qcow2")
    image = assert_holds(imports, image_id, qcow2)
    assert (image.disk_format, image.container_format, image.virtual_size) == ("qcow2", "bare", len(disk))


def zip_of(*contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.raw", content)
    return buffer.getvalue()


def test_case_54_a_zip_of_two_files_fails_the_import(imports: AskedImports, server: WebServer, disk: bytes) -> None:
    imports.site.set(imports__plugins="image_decompression")
    state, image_id = imports.bring(server.serve("/x.zip", zip_of(disk, b"readme")))
    assert "has 2 members" in str(state.message)
    assert_nothing_left(imports.site, image_id, str(state.message))


def test_case_54_an_image_that_is_to_stay_compressed_is_stored_as_it_is(
    imports: AskedImports, server: WebServer, disk: bytes
) -> None:
    imports.site.set(imports__plugins=BOTH)
    packed = zip_of(disk)
    _, image_id = imports.bring(server.serve("/x.zip", packed), container_format="compressed")
    assert assert_holds(imports, image_id, packed).container_format == "compressed"


@needs_qemu
def test_case_56_a_qcow2_is_converted_and_described_by_what_became_of_it(
    imports: AskedImports, server: WebServer, disk: bytes, qcow2: bytes
) -> None:
    imports.site.set(imports__plugins="image_conversion")
    _, image_id = imports.bring(server.serve("/x.qcow2", qcow2), disk_format="qcow2")
    image = assert_holds(imports, image_id, disk)
    assert (image.disk_format, image.container_format, image.virtual_size) == ("raw", "bare", len(disk))


def with_backing_file(path: Path) -> str:
    disk_images.qemu_img("create", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path, "8M")
    return "qcow2"


def with_data_file(path: Path) -> str:
    disk_images.qemu_img("create", "-f", "qcow2", "-o", f"data_file={path}.data", path, "8M")
    return "qcow2"


def with_flat_extents(path: Path) -> str:
    disk_images.qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", path, "8M")
    return "vmdk"


@needs_qemu
@pytest.mark.parametrize("make", [with_backing_file, with_data_file, with_flat_extents])
def test_case_57_an_image_that_names_other_files_is_refused_and_nothing_is_stored(
    imports: AskedImports, server: WebServer, tmp_path: Path, make: Callable[[Path], str]
) -> None:
    imports.site.set(imports__plugins="image_conversion")
    disk_format = make(tmp_path / "trap")
    state, image_id = imports.bring(server.serve("/x", (tmp_path / "trap").read_bytes()), disk_format=disk_format)
    assert state.is_failed()
    assert_nothing_left(imports.site, image_id, str(state.message))


@needs_qemu
def test_case_58_a_qcow2_that_is_declared_raw_is_refused(
    imports: AskedImports, server: WebServer, qcow2: bytes
) -> None:
    imports.site.set(imports__plugins="image_conversion")
    state, image_id = imports.bring(server.serve("/x.img", qcow2), disk_format="raw")
    assert "declares disk_format raw but its data are qcow2" in str(state.message)
    assert_nothing_left(imports.site, image_id, str(state.message))


def test_case_58_an_iso_stays_as_it_is(imports: AskedImports, server: WebServer, tmp_path: Path) -> None:
    imports.site.set(imports__plugins="image_conversion")
    data = disk_images.iso(tmp_path / "x.iso").read_bytes()
    _, image_id = imports.bring(server.serve("/x.iso", data), disk_format="iso")
    assert assert_holds(imports, image_id, data).disk_format == "iso"


@needs_qemu
def test_case_59_a_packed_qcow2_becomes_raw(
    imports: AskedImports, server: WebServer, disk: bytes, qcow2: bytes
) -> None:
    imports.site.set(imports__plugins=BOTH)
    _, image_id = imports.bring(server.serve("/x.qcow2.gz", gzip.compress(qcow2)), disk_format="qcow2")
    assert assert_holds(imports, image_id, disk).disk_format == "raw"


def test_case_60_a_plugin_that_nobody_has_stops_the_start(imports: AskedImports) -> None:
    imports.site.set(imports__plugins="image_unpacking")
    with pytest.raises(ConfigurationRefused, match="no import plugin is called image_unpacking; known are: "):
        refuse_what_fails_imports(load_settings())
