"""Property protections applied to the callers of the API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from config.settings import ApiSettings
from transship.api.policy import Policy
from transship.api.protection_file import protections_in, read_protection_file, refuse_unknown_policies
from transship.domain.image import Image
from transship.domain.protections import Operation, Protection, permits
from transship.domain.visibility import Viewer


@dataclass(frozen=True, slots=True)
class PropertyProtection:
    """Decides what callers may do with extra properties.

    Attributes:
        protections: None: there is no file, and everything is permitted that the policies permit.
        policy: judges by the policies that the file names; None: it names roles.
    """

    protections: tuple[Protection, ...] | None = None
    policy: Policy | None = None

    @classmethod
    def of(cls, settings: ApiSettings, policy: Policy, text: str | None) -> Self:
        """Return the protections of a site.

        Args:
            text: of the file, as in the settings in force; None: read it now.

        Raises:
            ConfigurationRefused: the file cannot be read or used, or names a policy that does not exist.
        """
        file = settings.property_protection_file
        if file is None:
            return cls()
        by_policy = settings.property_protection_rule_format == "policies"
        text = read_protection_file(file) if text is None else text
        protections = protections_in(text, file, by_policy=by_policy)
        if not by_policy:
            return cls(protections)
        refuse_unknown_policies(protections, file, policy.knows)
        return cls(protections, policy)

    def readable(self, viewer: Viewer, image: Image) -> Image:
        """Return an image with those of its extra properties that the caller may read."""
        if self.protections is None:
            return image
        shown = {
            name: value for name, value in image.properties.items() if self.allows(Operation.READ, name, viewer, image)
        }
        return replace(image, properties=shown)

    def allows(self, operation: Operation, name: str, viewer: Viewer, image: Image) -> bool:
        """Whether the caller may do something with an extra property of an image."""
        if self.protections is None:
            return True
        if (policy := self.policy) is not None:
            return permits(self.protections, operation, name, lambda rule: policy.allows(rule, viewer, image))
        roles = {*viewer.roles, *viewer.service_roles}
        return permits(self.protections, operation, name, lambda role: role.lower() in roles)
