"""Show the copies that are proven, and end the import well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.session import ImportSession, current
from transship.catalog.copies import Arriving, DataFacts, activate_copies
from transship.catalog.endings import finish_import
from transship.domain.clock import utc_now
from transship.domain.errors import CopyDiffers
from transship.domain.import_data import Digests, SealedFile


def prove(session: ImportSession, staged: SealedFile, digests: Digests) -> None:
    """Make sure, before anybody sees a copy, that the bytes are those that the image is known by, if it is.

    Raises:
        CopyDiffers: they are others.
    """
    image = session.image
    found = {"size": staged.size, "checksum": digests.checksum, digests.algorithm: digests.value}
    known = {"size": image.size, "checksum": image.checksum, digests.algorithm: image.os_hash_value}
    if session.begun.has_data:
        for what, value in known.items():
            if value is not None and found[what] not in (None, value):
                raise CopyDiffers(staged.store or staged.name, what, str(value), str(found[what]))


def show(session: ImportSession, staged: SealedFile, digests: Digests, stores: Sequence[str]) -> None:
    """Show copies that may be there without the others; the image becomes active with the first.

    Args:
        staged: the file that the stores hold now.
        digests: its digests, proven.
        stores: stores that were written.

    Raises:
        LockLost, ImportStopped: the import must end; nothing was written.
    """
    session.stop.check()
    facts = _facts(session, staged, digests)
    activate_copies(session.catalog, session.lease, stores, facts, _arriving(session), utc_now())


@task(name="finish", task_run_name="finish", cache_policy=NO_CACHE, retries=0)
def finish(staged: SealedFile, digests: Digests, failed: Mapping[str, str]) -> str:
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
    verb = "copied" if session.begun.has_data else "imported"
    written = [store for store in session.begun.targets if store not in failed]
    done = f"{verb} to {', '.join(written) or 'no store'}"
    message = "; ".join((done, *(["failed: " + "; ".join(failed.values())] if failed else []), *session.remarks))
    finish_import(
        session.catalog,
        session.lease,
        _facts(session, staged, digests),
        failed,
        message=message,
        now=utc_now(),
        time_to_live_h=session.settings.imports.task_time_to_live_h,
        arriving=_arriving(session),
    )
    return message


def _facts(session: ImportSession, staged: SealedFile, digests: Digests) -> DataFacts:
    image = session.image
    return DataFacts(
        size=staged.size,
        virtual_size=image.virtual_size,
        checksum=digests.checksum,
        os_hash_algo=digests.algorithm,
        os_hash_value=digests.value,
        disk_format=image.disk_format or "",
        container_format=image.container_format or "",
    )


def _arriving(session: ImportSession) -> Arriving:
    return Arriving(session.arriving, session.begun.image.properties)
