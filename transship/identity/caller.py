"""The caller as authenticated by an identity service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from transship.domain.service_catalogue import ServiceCatalogue


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller authenticated by Keystone.

    Attributes:
        project_id, user_id: ids; the project is empty for tokens without a project.
        roles: in the project, lower case; roles in a domain or the system do not apply to images.
        catalogue: the caller's service catalogue.
        token: the caller's own.
        service_user_id, service_roles: of the service that sends the request for the caller, as ``X-Service-Token``
            proves; empty if there is none.
    """

    project_id: str = ""
    user_id: str = ""
    roles: tuple[str, ...] = ()
    catalogue: ServiceCatalogue = field(default_factory=ServiceCatalogue, repr=False)
    token: str = field(default="", repr=False)
    service_user_id: str = ""
    service_roles: tuple[str, ...] = ()


EVERYBODY: Final = Identity(roles=("admin",))
"""Every caller when no identity service is configured."""
