"""The address at which commands on this machine reach the Images API: its own listener, not the clients' address.

`api.public_endpoint` is for clients. It may lead through a proxy, be unreachable from this machine, or belong to a
Glance whose configuration files are in use. Only a host that runs nothing but a worker has no listener of its own.
"""

from __future__ import annotations

from contextlib import closing

from config.settings import Settings
from transship.domain.errors import CommandRefused
from transship.host.runner_status import lone_worker
from transship.supervisor.home import is_locked


def serves_others(settings: Settings) -> bool:
    """Return whether only a worker runs here, for services on another host."""
    return not is_locked(settings) and lone_worker(settings) is not None


def api_address(settings: Settings) -> str:
    """Return the URL of the Images API for commands; on a host with only a worker it is `api.public_endpoint`."""
    if settings.api.public_endpoint and serves_others(settings):
        return settings.api.public_endpoint
    return settings.api_url


def leads_here(settings: Settings, url: str) -> bool:
    """Return whether an address leads to this service: its health check returns the id of the catalogue in use here.

    Raises:
        ServiceUnreachable: nothing answers there.
        ConfigurationRefused: the catalogue cannot be opened.
        CatalogUnavailable: the catalogue does not answer now.
    """
    # A supervisor, which asks for the address alone, does without these.
    from transship.catalog.engine import Catalog  # noqa: PLC0415
    from transship.commands.images_api import ImagesApi  # noqa: PLC0415

    catalog = Catalog.as_it_is(settings)
    if catalog is None:
        return False
    with closing(catalog):
        return ImagesApi(url).catalog_id() == catalog.id()


def require_this_service(settings: Settings, url: str) -> None:
    """Refuse an address that leads to another service, before sending it requests.

    Raises:
        CommandRefused: it leads to another service.
        ServiceUnreachable, ConfigurationRefused, CatalogUnavailable: as `leads_here`.
    """
    if not leads_here(settings, url):
        raise CommandRefused(
            f"api.public_endpoint is {url}, which is not the service that this worker belongs to",
            "set it to the address of the Images API that uses this catalogue",
        )
