"""``transship deploy``: bring Prefect to what the settings ask for."""

from __future__ import annotations

import os

from transship.commands.context import Invocation, print_table
from transship.supervisor.environment import base_environment, client_environment


def deploy(invocation: Invocation, *, overwrite: bool) -> int:
    """Apply pool, queues, blocks and deployments, and print what was done.

    Args:
        invocation: names the settings.
        overwrite: also replace what was edited in the Prefect UI.

    Raises:
        ConfigurationRefused, ServiceUnreachable, ServiceRefused: as `deployments.apply.apply`.
    """
    settings = invocation.settings
    # Prefect reads environment and working directory once, when it is first imported: that must be after these lines.
    os.environ.update(client_environment(settings, base_environment(settings, {})))
    if settings.home.is_dir():
        # Prefect would take options from files of the directory that the caller stands in.
        os.chdir(settings.home)
    from deployments.apply import apply  # noqa: PLC0415 - as said above

    changes = apply(settings, overwrite=overwrite)
    print_table(("KIND", "NAME", "", ""), [(one.kind, one.name, one.action, one.detail) for one in changes])
    return 0
