"""Commands use this host's own Images API; `api.public_endpoint` is for clients, and may lead elsewhere."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from config.settings import PrefectSettings, Settings
from tests.cli.conftest import Site
from tests.fakes.images_api import FORMATS
from tests.fakes.ports import free_port
from transship.commands.context import Invocation
from transship.commands.doctor import Level, check_api, check_public_endpoint
from transship.commands.images import list_images
from transship.commands.import_image import ImportOptions, import_image
from transship.commands.keystone_login import images_api
from transship.commands.rerun import rerun
from transship.commands.run import address_rows
from transship.commands.status import status
from transship.domain.errors import CommandRefused, ServiceUnreachable
from transship.host.processes import start_time
from transship.host.runner_status import RunnerStatus, runner_status_path, write_runner_status
from transship.supervisor.home import HomeLock, first_start


class _Glance(BaseHTTPRequestHandler):
    """Answers every request like a Glance without images."""

    def do_GET(self) -> None:
        self._answer(200, {"images": [], "detailed": False, "reasons": ["OK"]})

    def do_POST(self) -> None:
        self._answer(201, {"id": "of-glance", "status": "queued"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
        """Log nothing."""

    def _answer(self, code: int, body: dict[str, object]) -> None:
        cast("Glance", self.server).asked.append(f"{self.command} {self.path}")
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


class Glance(ThreadingHTTPServer):
    """Another image service, at the address that clients are told.

    Attributes:
        asked: what it was asked.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Glance)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def glance() -> Iterator[Glance]:
    with Glance() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sent_to(site: Site, public_endpoint: str, **more: str) -> Invocation:
    """Return an invocation whose settings give clients another address."""
    return replace(
        site.invocation, overrides={**site.invocation.overrides, "api.public_endpoint": public_endpoint, **more}
    )


@pytest.fixture
def lock(site: Site) -> Iterator[None]:
    """Hold the home directory as a supervisor does that runs in it."""
    first_start(site.api.settings)
    held = HomeLock.take(site.api.settings)
    yield
    held.release()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(range(256)) * 10)
    return path


def test_an_import_goes_to_this_service(site: Site, glance: Glance, disk: Path) -> None:
    assert import_image(sent_to(site, glance.url), ImportOptions(source=str(disk), disk_format="raw")) == 0
    (image,) = site.api.client.get("/v2/images").json()["images"]
    assert (image["name"], image["status"]) == ("disk.raw", "active")
    assert glance.asked == []


def test_images_are_those_of_this_service(site: Site, glance: Glance, capsys: pytest.CaptureFixture[str]) -> None:
    image_id = site.api.create(name="ours")
    assert list_images(sent_to(site, glance.url)) == 0
    assert image_id in capsys.readouterr().out
    assert glance.asked == []


def test_a_rerun_goes_to_this_service(site: Site, glance: Glance) -> None:
    image_id = site.api.create(**FORMATS)
    site.api.activate(image_id, b"data", failed={"archive": "store archive is full"})
    site.worker.failure = "still full"
    assert rerun(sent_to(site, glance.url), image_id, "") == 1
    assert len(site.api.client.get(f"/v2/images/{image_id}/tasks").json()["tasks"]) == 2
    assert glance.asked == []


def test_status_is_that_of_this_service(site: Site, glance: Glance, capsys: pytest.CaptureFixture[str]) -> None:
    site.api.create(name="ours")
    status(sent_to(site, glance.url))
    shown = capsys.readouterr().out
    assert "1 queued" in shown
    assert glance.asked == []
    rows = [line.split() for line in shown.splitlines()]
    assert ["for", "clients", glance.url] in rows
    assert ["Images", "API", str(site.api.client.base_url).rstrip("/")] in rows


def test_an_address_that_this_host_cannot_reach_hinders_no_command(site: Site, disk: Path) -> None:
    invocation = sent_to(site, f"http://127.0.0.1:{free_port()}")
    assert list_images(invocation) == 0
    assert import_image(invocation, ImportOptions(source=str(disk), disk_format="raw")) == 0


def test_without_an_address_for_clients_none_is_shown(site: Site) -> None:
    assert "for clients" not in dict(address_rows(site.invocation.settings))


def test_the_log_in_of_prefect_says_what_to_paste(site: Site) -> None:
    settings = site.invocation.settings

    def shown(**prefect: str) -> str:
        changed = settings.model_copy(update={"prefect": PrefectSettings.model_validate(prefect)})
        return dict(address_rows(changed)).get("Prefect log-in", "")

    end = "into its one field, user name and colon included"
    assert shown() == f"paste the line in {settings.home / 'prefect-auth'} {end}"
    assert shown(auth_string="admin:hush") == f"paste the value of prefect.auth_string {end}"
    assert shown(api_url="http://elsewhere.test/api") == ""


# --- doctor ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lock")
def test_doctor_warns_of_an_address_that_leads_to_another_service(site: Site, glance: Glance) -> None:
    settings = sent_to(site, glance.url).settings
    (found,) = check_public_endpoint(settings)
    assert (found.level, found.text.partition(";")[0]) == (
        Level.WARN,
        f"{glance.url} does not lead to this service, but clients are sent there",
    )
    (own,) = check_api(settings)
    assert (own.level, own.text) == (Level.OK, settings.api_url)


@pytest.mark.usefixtures("lock")
def test_doctor_warns_of_an_address_that_is_not_reached_from_here(site: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    (found,) = check_public_endpoint(sent_to(site, url).settings)
    assert found.level is Level.WARN
    assert f"{url} cannot be reached from here" in found.text


@pytest.mark.usefixtures("lock")
def test_doctor_accepts_an_address_that_leads_back_to_this_service(site: Site) -> None:
    settings = sent_to(site, str(site.api.client.base_url)).settings
    (found,) = check_public_endpoint(settings)
    assert (found.level, found.text) == (Level.OK, settings.api.public_endpoint)


@pytest.mark.usefixtures("lock")
def test_doctor_says_nothing_of_an_address_that_is_taken_from_each_request(site: Site) -> None:
    assert list(check_public_endpoint(site.invocation.settings)) == []


# --- a host with a worker alone ----------------------------------------------------------------


def serve_others(settings: Settings) -> None:
    """Make a home directory that of a host where a worker runs, and nothing else."""
    first_start(settings)
    started = start_time(os.getpid())
    assert started is not None
    alone = RunnerStatus(os.getpid(), started, "serving", "warm", "", 4, 0, 0, ("host-here",), ())
    write_runner_status(runner_status_path(settings), alone)


@pytest.fixture
def elsewhere(site: Site) -> Callable[[str], Settings]:
    """Return the settings of a host with a worker alone, which is told where the Images API is."""

    def make(public_endpoint: str) -> Settings:
        nobody = str(free_port())
        settings = sent_to(
            site, public_endpoint, **{"api.port": nobody, "prefect.api_url": f"http://127.0.0.1:{free_port()}/api"}
        ).settings
        serve_others(settings)
        return settings

    return make


def test_a_worker_alone_asks_the_service_that_it_belongs_to(site: Site, elsewhere: Callable[[str], Settings]) -> None:
    image_id = site.api.create(name="theirs")
    settings = elsewhere(str(site.api.client.base_url))
    assert [image.id for image in images_api(settings).images()] == [image_id]
    (found,) = check_public_endpoint(settings)
    assert found.level is Level.OK


def test_a_worker_alone_asks_no_other_service(elsewhere: Callable[[str], Settings], glance: Glance) -> None:
    with pytest.raises(CommandRefused, match="which is not the service that this worker belongs to"):
        images_api(elsewhere(glance.url))
    assert glance.asked == ["GET /healthcheck"]


def test_a_worker_alone_that_is_told_no_address_asks_its_own_host(elsewhere: Callable[[str], Settings]) -> None:
    settings = elsewhere("")
    with pytest.raises(ServiceUnreachable, match=settings.api_url):
        list(images_api(settings).images())
