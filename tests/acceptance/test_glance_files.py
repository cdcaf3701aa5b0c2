"""The Images API and an import under the configuration file of a real Glance, as its deployment wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.loading import load_settings
from tests.fakes.asked_imports import AskedImports
from tests.fakes.keystone import SERVICE_PASSWORD, SERVICE_USER, Keystone
from tests.fakes.web_server import WebServer
from transship.commands.configuration import refuse_what_cannot_start

pytestmark = pytest.mark.real

GLANCE_API_CONF = """
[DEFAULT]
debug = false
log_file = {home}/log/glance2-api.log
enabled_backends = cheap:file, fast:file
enabled_import_methods = ['glance-direct','web-download','copy-image','glance-download']
worker_self_reference_url = http://127.0.0.1:9293
do_secure_hash = true
show_image_direct_url = false
show_multiple_locations = false

[database]
connection = mysql+pymysql://glance2:hush@127.0.0.1:3307/glance2?charset=utf8
[glance_store]
default_backend = fast
[fast]
filesystem_store_datadir = {home}/stores/fast
store_description = fast file store

[cheap]
filesystem_store_datadir = {home}/stores/cheap
store_description = cheap file store

[os_glance_staging_store]
filesystem_store_datadir = {home}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {home}/tasks
[s3]
store_description = radosgw
s3_store_host = http://127.0.0.1:7480
s3_store_access_key = hush
s3_store_secret_key = hush
s3_store_bucket = glance
s3_store_bucket_url_format = path

[ceph]
store_description = RBD

rbd_store_pool = images
rbd_store_user = glance
rbd_store_ceph_conf = {home}/ceph.conf
rbd_store_chunk_size = 8
rados_connect_timeout = 10
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = {user}
password = {password}
project_name = service
user_domain_id = default
project_domain_id = default
service_token_roles_required = true
memcached_servers = 127.0.0.1:11211
[paste_deploy]
flavor = keystone
config_file = {home}/etc/glance-api-paste.ini
[task]
task_executor = taskflow
work_dir = {home}/work
[taskflow_executor]
engine_mode = parallel
[image_format]
require_image_format_match = true
[image_import_opts]
image_import_plugins = []
max_parallel_stores = 1
[image_conversion]
output_format = raw
[wsgi]
# under uWSGI sys.executable is uwsgi, and image_conversion's qemu-img limits need a real Python
python_interpreter = {home}/venv/bin/python3
task_pool_threads = 16
[import_filtering_opts]
allowed_schemes = [http,https]
# Glance 33 refuses loopback sources unless the host is named here; no other host can then be used
allowed_hosts = [127.0.0.1]
allowed_ports = [80,443,{port},9292,9293]
[oslo_concurrency]
lock_path = {home}/work
[oslo_messaging_notifications]
driver = noop
[oslo_policy]
policy_dirs = {home}/etc/policy.d
"""
"""What a deployment of Glance 33 on file stores wrote, its directories, ports and secrets replaced."""


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


@pytest.fixture
def deployed(imports: AskedImports, keystone: Keystone, server: WebServer, tmp_path: Path) -> AskedImports:
    """The site with nothing but this file, and a home directory of its own."""
    home = tmp_path / "glance"
    (home / "etc").mkdir(parents=True)
    values = {"home": home, "keystone": keystone.url, "user": SERVICE_USER, "password": SERVICE_PASSWORD}
    (home / "etc" / "glance-api.conf").write_text(GLANCE_API_CONF.format(**values, port=server.port))
    for option in ("ALLOWED_HOSTS", "ALLOWED_PORTS"):
        imports.site.environment.delenv(f"TRANSSHIP_URI__{option}")
    imports.site.set(glance_config=str(home / "etc"))
    imports.token = keystone.token("demo")
    return imports


def test_a_file_of_a_real_glance_starts_the_service_and_its_imports_as_it_stands(
    deployed: AskedImports, server: WebServer, tmp_path: Path
) -> None:
    refuse_what_cannot_start(load_settings())
    stores = deployed.api("GET", "/v2/info/stores").json()["stores"]
    assert [(store["id"], store.get("default")) for store in stores] == [("cheap", None), ("fast", "true")]

    data = b"an image" * 1000
    state, image_id = deployed.bring(server.serve("/image.raw", data))
    assert state.is_completed(), state.message
    shown = deployed.shown(image_id)
    assert (shown["status"], shown["stores"], shown["owner"]) == ("active", "fast", "demo")
    assert (tmp_path / "glance" / "stores" / "fast" / image_id).read_bytes() == data
    assert deployed.api("GET", f"/v2/images/{image_id}/file").content == data


def test_the_rules_of_the_file_hold_for_sources_and_callers(deployed: AskedImports, server: WebServer) -> None:
    image_id = deployed.create()
    refused = deployed.ask(image_id, server.serve("/image.raw", b"x").replace("127.0.0.1", "localhost"))
    assert refused.status_code == 400
    deployed.token = ""
    assert deployed.api("GET", "/v2/images").status_code == 401


def rewrite(tmp_path: Path, *changes: tuple[str, str]) -> None:
    """Change the deployment's file as an administrator would."""
    file = tmp_path / "glance" / "etc" / "glance-api.conf"
    text = file.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    file.write_text(text)


def test_stores_of_every_type_in_a_file_start_the_service_as_they_stand(
    deployed: AskedImports, server: WebServer, tmp_path: Path
) -> None:
    home = tmp_path / "glance"
    one = f"[cheap]\nfilesystem_store_datadir = {home}/stores/cheap\n"
    two = f"[cheap]\nfilesystem_store_datadirs = {home}/a:10\nfilesystem_store_datadirs = {home}/b\n"
    web = "[web]\nstore_description = mirrors\nhttps_insecure = false\n"
    listed = "enabled_backends = cheap:file, fast:file, ceph:rbd, s3:s3, web:http"
    rewrite(tmp_path, ("enabled_backends = cheap:file, fast:file", listed), (one, web + two))
    assert [(each.id, each.kind, each.read_only) for each in load_settings().settings.store_facts] == [
        ("cheap", "file", False),
        ("fast", "file", False),
        ("ceph", "rbd", False),
        ("s3", "s3", False),
        ("web", "http", True),
    ]
    rewrite(tmp_path, (listed, listed.replace("ceph:rbd, s3:s3, ", "")))  # neither is served here
    refuse_what_cannot_start(load_settings())
    stores = deployed.api("GET", "/v2/info/stores").json()["stores"]
    assert stores[2] == {"id": "web", "description": "mirrors", "read-only": "true"}

    image_id = deployed.create()
    assert deployed.ask(image_id, server.serve("/image.raw", b"image"), all_stores=True).status_code == 202
    state = deployed.carry(image_id)
    assert state.is_completed(), state.message
    assert deployed.shown(image_id)["stores"] == "cheap,fast"
    assert (home / "a" / image_id).read_bytes() == b"image"


def test_a_single_store_and_http_in_a_file_start_the_service_as_they_stand(
    deployed: AskedImports, server: WebServer, tmp_path: Path
) -> None:
    rewrite(
        tmp_path,
        ("enabled_backends = cheap:file, fast:file\n", f"node_staging_uri = file://{tmp_path}/glance/staging\n"),
        (
            "default_backend = fast\n",
            f"stores = file,http\ndefault_store = file\nfilesystem_store_datadir = {tmp_path}/single\n",
        ),
    )
    refuse_what_cannot_start(load_settings())
    stores = deployed.api("GET", "/v2/info/stores").json()["stores"]
    assert stores == [{"id": "file", "default": "true"}, {"id": "http", "read-only": "true"}]
    state, image_id = deployed.bring(server.serve("/image.raw", b"image"))
    assert state.is_completed(), state.message
    assert (tmp_path / "single" / image_id).read_bytes() == b"image"
