"""The product's environment on a host: a shell full of variables, a restrictive umask, an unmounted store."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.proxy_server import ProxyServer
from tests.fakes.system import System
from tests.fakes.umasks import umask
from tests.fakes.web_server import WebServer
from transship.host.directories import MARK

pytestmark = pytest.mark.real

BODY = b"a disk" * 50_000


@pytest.fixture(scope="module")
def proxy() -> Iterator[ProxyServer]:
    """A proxy that reaches nothing, and notes what it is asked for."""
    with ProxyServer({}) as started:
        yield started


@pytest.fixture(scope="module")
def system(source: WebServer, proxy: ProxyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Started from the shell of somebody else, whose variables would lead our processes astray."""
    home = tmp_path_factory.mktemp("home")
    stores = {"near": {"dir": str(home / "stores" / "near")}, "far": {"dir": str(home / "mount" / "far")}}
    options = {"stores": stores, "default_store": "near", "imports.store_retries": 0}
    made = System(home, {**options, "uri.internal_hosts": [f"127.0.0.1:{source.port}"]})
    proxies = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "ws_proxy")
    made.environment |= {
        **dict.fromkeys(proxies, proxy.url),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_API_KEY": "somebody else's",
        "PREFECT_PROFILE": "none such",
        "PREFECT_SERVER_API_BASE_PATH": "/elsewhere",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nonexistent/prefect.db",
        "OS_DEFAULT__DEBUG": "no boolean",
        "PGHOST": "nonexistent.example",
        "SSL_CERT_FILE": "/nonexistent/authorities.pem",
        "REQUESTS_CA_BUNDLE": "/nonexistent/authorities.pem",
        "SSLKEYLOGFILE": str(home / "keys of connections"),
        "FORWARDED_ALLOW_IPS": "*",
        "TMPDIR": "/nonexistent",
        "LC_ALL": "tr_TR.ISO-8859-9",
        "LANG": "tr_TR.ISO-8859-9",
    }
    made.environment.pop("NO_PROXY", None)
    made.environment.pop("no_proxy", None)
    with umask(0o077), made:
        yield made


def modes(*paths: Path) -> list[str]:
    return [f"{stat.S_IMODE(path.stat().st_mode):04o}" for path in paths]


def test_our_own_traffic_asks_no_proxy_of_the_environment(
    system: System, proxy: ProxyServer, source: WebServer
) -> None:
    image_id = system.create(name="plain")
    asked = system.ask(image_id, source.serve("/plain.img", BODY), all_stores=True)
    assert asked.status_code == 202, asked.text
    assert system.ended(image_id)["status"] == "success", system.logs()
    for command in ("status", "doctor", "deploy", "images"):
        done = system.command(command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert proxy.asked == []
    assert not (system.home / "keys of connections").exists()


def test_promised_modes_do_not_depend_on_the_umask(system: System) -> None:
    near, far = (system.settings.all_stores[store].dir for store in ("near", "far"))
    assert modes(near, far, near.parent, far.parent) == ["0750"] * 4
    assert modes(near / MARK) == ["0640"]
    stored = [path for path in near.iterdir() if path.name != MARK]
    assert set(modes(*stored)) == {"0640"}
    assert modes(system.home, system.settings.staging_dir, system.settings.run_dir) == ["0700"] * 3


def test_a_store_that_is_not_mounted_is_named_and_never_made_again(system: System, source: WebServer) -> None:
    far = system.settings.all_stores["far"].dir
    elsewhere = far.rename(system.home / "elsewhere")
    uri = source.serve("/late.img", BODY)
    image_id = system.create(name="late")
    assert system.ask(image_id, uri, all_stores=True).status_code == 202
    task = system.ended(image_id)
    assert task["status"] == "failure"
    assert "store far is unavailable: its directory is not mounted" in task["message"]
    assert str(system.home) not in task["message"]
    for command in ("status", "doctor"):
        done = system.command(command)
        assert done.returncode == 1
        assert f"Mount {far} and run 'transship deploy'" in done.stdout

    system.down()
    again = system.command("up", "--detach", timeout_s=600.0)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "warning: store far is unavailable: its directory is not mounted" in again.stdout
    assert f"Mount {far} and run 'transship deploy'" in again.stdout
    assert system.ask(image_id, uri, stores=["near"]).status_code == 202
    assert system.ended(image_id)["status"] == "success", system.logs()
    assert list(far.parent.iterdir()) == []

    elsewhere.rename(far)
    asked = {"method": {"name": "copy-image"}, "stores": ["far"]}
    copied = system.api("POST", f"/v2/images/{image_id}/import", json=asked)
    assert copied.status_code == 202, copied.text
    assert system.ended(image_id)["status"] == "success", system.logs()
    assert (far / image_id).read_bytes() == BODY
    assert system.command("status").returncode == 0
