"""The inject_image_metadata plugin: sets the site's properties on imported images.

It runs as the service, not as the caller, so it can inject properties that only admins may set.

Source: Glance, "The Inject Metadata" plugin.
"""

from __future__ import annotations

from typing import Final

from config.settings import Settings
from transship.domain.errors import ConfigurationRefused
from transship.domain.image import RESERVED_PREFIX
from transship.plugins.base import PluginOutcome, PluginWork

LONGEST_NAME: Final = 255

BASE_PROPERTIES: Final = frozenset(
    {
        *("id", "name", "status", "visibility", "protected", "os_hidden", "disk_format", "container_format"),
        *("size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "min_disk", "min_ram", "owner"),
        *("tags", "locations", "direct_url", "created_at", "updated_at", "self", "file", "schema", "stores"),
    }
)
"""Names that are not extra properties. Source: Images API v2, image schema."""


class InjectImageMetadata:
    """Injects ``inject.properties``; the stateless object behind `PLUGIN`."""

    name = "inject_image_metadata"
    label = "inject"

    def check(self, settings: Settings) -> None:
        """Refuse names that cannot be extra properties.

        Raises:
            ConfigurationRefused: a name is empty, too long, or one of the image's own.
        """
        for name in settings.inject.properties:
            if not name or len(name) > LONGEST_NAME:
                reason, remedy = f"'{name[:40]}' has {len(name)} characters", f"property names have 1 to {LONGEST_NAME}"
            elif name in BASE_PROPERTIES:
                reason, remedy = f"{name} is a field of every image, not an extra property", "choose another name"
            else:
                continue
            raise ConfigurationRefused("settings", "inject.properties", reason, remedy)

    def run(self, work: PluginWork) -> PluginOutcome:
        """Return the properties to set; none for callers with a role of ``inject.ignore_user_roles``."""
        settings = work.settings.inject
        if not settings.properties:
            return PluginOutcome(summary="nothing to inject: inject.properties is empty")
        ignored = {role.lower() for role in settings.ignore_user_roles}
        exempt = sorted(ignored.intersection(role.lower() for role in work.roles))
        if exempt:
            return PluginOutcome(summary=f"nothing injected: callers with role {exempt[0]} are left alone")
        dropped = sorted(name for name in settings.properties if name.startswith(RESERVED_PREFIX))
        properties = {name: text for name, text in settings.properties.items() if name not in dropped}
        summary = f"injected {', '.join(sorted(properties)) or 'nothing'}"
        if dropped:
            summary += f"; left out, being names of the service: {', '.join(dropped)}"
        return PluginOutcome(properties=properties, summary=summary)


PLUGIN: Final = InjectImageMetadata()
