"""Show verified copies, and complete the import."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.session import ImportSession, current
from tasks.steps import step
from transship.catalog.copies import Arriving, DataFacts, activate_copies
from transship.catalog.endings import finish_import
from transship.catalog.imports import Begun
from transship.domain.clock import utc_now
from transship.domain.errors import CopyDiffers
from transship.domain.import_data import Copies, Digests, Done, FinalData


def prove(begun: Begun, final: FinalData, digests: Digests) -> None:
    """Make sure, before a copy is shown, that the digests match those of the image, if it has any.

    Raises:
        CopyDiffers: they differ.
    """
    image, file = begun.image, final.file
    found = {"size": file.size, "checksum": digests.checksum, digests.algorithm: digests.value}
    known = {"size": image.size, "checksum": image.checksum, digests.algorithm: image.os_hash_value}
    if begun.has_data:
        for what, value in known.items():
            if value is not None and found[what] not in (None, value):
                raise CopyDiffers(file.store or file.name, what, str(value), str(found[what]))


def show(session: ImportSession, begun: Begun, final: FinalData, digests: Digests, stores: Sequence[str]) -> None:
    """Show copies before all stores are written; the first one makes the image active.

    Args:
        final: the data that the stores hold now.
        digests: their verified digests.
        stores: the written stores.

    Raises:
        LockLost, ImportStopped: the import must end; nothing was written.
    """
    session.stop.check()
    facts = _facts(final, digests)
    activate_copies(session.catalog, session.lease, stores, facts, _arriving(begun, final), utc_now())


@step("finish", "finish")
def finish(begun: Begun, final: FinalData, copies: Copies) -> Done[str]:
    """Write image, locations, task and lease in one transaction, and return one line for display.

    Args:
        final: the data that the stores hold now.
        copies: the result for each store.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    session = current()
    session.stop.check()
    verb = "copied" if begun.has_data else "imported"
    written = [store for store in begun.targets if store not in copies.failed]
    done = f"{verb} to {', '.join(written) or 'no store'}"
    failed = ["failed: " + "; ".join(copies.failed.values())] if copies.failed else []
    message = "; ".join((done, *failed, *final.remarks))
    finish_import(
        session.catalog,
        session.lease,
        _facts(final, copies.digests),
        copies.failed,
        message=message,
        now=utc_now(),
        time_to_live_h=session.settings.imports.task_time_to_live_h,
        arriving=_arriving(begun, final),
        progress=session.board.at_end(),
    )
    return Done(message)


def _facts(final: FinalData, digests: Digests) -> DataFacts:
    image = final.image
    return DataFacts(
        size=final.file.size,
        virtual_size=image.virtual_size,
        checksum=digests.checksum,
        os_hash_algo=digests.algorithm,
        os_hash_value=digests.value,
        disk_format=image.disk_format or "",
        container_format=image.container_format or "",
    )


def _arriving(begun: Begun, final: FinalData) -> Arriving:
    return Arriving(final.arriving, begun.image.properties)
