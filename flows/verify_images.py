"""verify-images: read the copies of images again, report damaged ones, and replace them if allowed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from config.snapshot import settings_in_force
from flows.reporting import rename_run, show_table
from tasks.verify_copies import Verified, verify_copies
from transship.domain.errors import StoreUnknown, human_size
from transship.host.logs import configure_flow_logs


@flow(name="verify-images", flow_run_name="verify images", retries=0, persist_result=False)
def verify_images(
    stores: list[str] | None = None,
    mib_per_s: Annotated[float, Field(gt=0)] = 50.0,
    hours: Annotated[float, Field(gt=0)] = 6.0,
    repair: bool = False,
) -> State[Any]:
    """Read the copies of all images, and compare them with the images' digests.

    The copy that was verified the longest ago comes first, so a run that is out of time is continued by the next one.

    Args:
        stores: Ids of the stores to read. None: all that can be written.
        mib_per_s: Most MiB that are read in a second.
        hours: No further copy is begun after this time.
        repair: Replace a damaged copy, if the image has a good one in another store.
    """
    settings = settings_in_force().settings
    configure_flow_logs(settings.log.level)
    chosen = [each.id for each in settings.store_facts if not each.read_only] if stores is None else stores
    unknown = [store for store in chosen if store not in settings.all_stores]
    if unknown:
        return Failed(message=str(StoreUnknown(unknown[0], list(settings.all_stores))))
    # It stays the same when the run is retried, which then continues.
    since = flow_run.scheduled_start_time or datetime.now(UTC)
    found = verify_copies(chosen, since, mib_per_s, hours * 3600, repair=repair)
    rows = [
        {"image": copy.image_id, "store": copy.store, "damage": copy.damage, "repair": repair_text}
        for copies, repair_text in ((found.damaged, "none"), (found.replaced, "copied again by an import of its own"))
        for copy in copies
    ]
    message = _message(found)
    if rows:
        show_table("damaged-copies", rows, f"{len(rows)} copies are damaged")
    rename_run(f"verify images: {message}")
    return Failed(message=message) if found.damaged or found.unread else Completed(message=message)


def _message(found: Verified) -> str:
    parts = [f"{found.copies} {'copy' if found.copies == 1 else 'copies'} verified ({human_size(found.size)})"]
    if found.damaged:
        parts.append(f"{len(found.damaged)} damaged")
    if found.replaced:
        parts.append(f"{len(found.replaced)} damaged, and copied again")
    parts += [f"not all of store {store} was read: {reason}" for store, reason in found.unread.items()]
    if not found.complete:
        parts.append("out of time; the next run continues")
    return "; ".join(parts)
