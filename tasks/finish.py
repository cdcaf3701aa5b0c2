"""Make the image active."""

from __future__ import annotations

from collections.abc import Mapping

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.digest import Digests
from tasks.session import current, utc_now
from tasks.staged_files import Staged
from transship.catalog.endings import Arriving, DataFacts, finish_import


@task(name="finish", task_run_name="finish", cache_policy=NO_CACHE, retries=0)
def finish(staged: Staged, digests: Digests, failed: Mapping[str, str]) -> str:
    """Write image, locations, task and lease in one transaction, and return one line for people.

    Args:
        staged: the file that the stores hold now.
        digests: its digests.
        failed: reason by store id, for stores that were allowed to fail.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    session = current()
    session.stop.check()
    image, targets = session.image, session.begun.targets
    written = [store for store in targets if store not in failed]
    done = f"imported to {', '.join(written)}"
    message = "; ".join((done, *(["failed: " + "; ".join(failed.values())] if failed else []), *session.remarks))
    finish_import(
        session.catalog,
        session.lease,
        DataFacts(
            size=staged.size,
            virtual_size=image.virtual_size,
            checksum=digests.checksum,
            os_hash_algo=digests.algorithm,
            os_hash_value=digests.value,
            disk_format=image.disk_format or "",
            container_format=image.container_format or "",
        ),
        failed,
        message=message,
        now=utc_now(),
        time_to_live_h=session.settings.imports.task_time_to_live_h,
        arriving=Arriving(session.arriving, session.begun.image.properties),
    )
    return message
