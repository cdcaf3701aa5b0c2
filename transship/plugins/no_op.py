"""The no_op plugin: does nothing; for testing the order of plugins."""

from __future__ import annotations

from typing import Final

from config.settings import Settings
from transship.plugins.base import PluginOutcome, PluginWork


class NoOp:
    """Leaves every image as it is."""

    name = "no_op"
    label = "no-op"

    def check(self, settings: Settings) -> None:
        """Accept all settings."""

    def run(self, work: PluginWork) -> PluginOutcome:
        """Change nothing."""
        return PluginOutcome(summary="nothing to do")


PLUGIN: Final = NoOp()
