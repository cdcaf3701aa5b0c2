"""Who calls, as an identity service vouches for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from transship.domain.service_catalogue import ServiceCatalogue


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that Keystone vouches for.

    Attributes:
        project_id, user_id: ids; the project is empty for tokens that belong to none.
        roles: in the project, lower case; those in a domain or the whole system say nothing of images.
        catalogue: what services the caller was told of.
        token: the caller's own.
    """

    project_id: str = ""
    user_id: str = ""
    roles: tuple[str, ...] = ()
    catalogue: ServiceCatalogue = field(default_factory=ServiceCatalogue, repr=False)
    token: str = field(default="", repr=False)


EVERYBODY: Final = Identity(roles=("admin",))
"""Whoever calls where no identity service is asked."""
