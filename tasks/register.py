"""Give an image the location of data that stay where they are."""

from __future__ import annotations

from tasks.check_quota import check_size
from tasks.retrying import as_copies
from tasks.session import current
from tasks.steps import step
from tasks.stores import using_store
from transship.catalog.copies import DataFacts
from transship.catalog.endings import finish_import
from transship.catalog.imports import Begun
from transship.catalog.locations import show_registered
from transship.domain.clock import utc_now
from transship.domain.errors import ObjectMissing, StoredDiffers
from transship.domain.import_data import Digests, Done, Outcome, SealedFile, Skipped
from transship.domain.locations import FoundLocation


@step("locate", "locate", as_copies)
def locate(begun: Begun) -> Done[SealedFile]:
    """Return the data at the location, with the size that the store says.

    Raises:
        ObjectMissing, StoredDiffers, StoreDenied, StoreMisconfigured, StoreUnavailable: the data cannot be read, or are
            not those of the active image.
        ProjectOverQuota: the project may not store as much.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    (store,) = begun.targets
    url = next((each.url for each in begun.image.locations if each.store == store), begun.uri)
    with using_store(store, session.settings, session.catalog) as driver:
        # The settings of the store may have changed since the request.
        if driver.own_url(url) is None:
            raise ObjectMissing(store, url)
        size, local = driver.size(url), driver.local_file(url)
    if begun.image.size not in (None, size):
        raise StoredDiffers(store, f"{begun.image.size} bytes", f"{size} bytes")
    if not begun.has_data:
        check_size(session, size)
    session.board.enter("place", size)
    name = f"{store}/{begun.image.id}"
    file = SealedFile(name, size, store, str(local)) if local else SealedFile(name, size, store, url=url)
    return Done(file)


@step("register", "register")
def register(begun: Begun, file: SealedFile, digests: Digests | None) -> Outcome[bool]:
    """Make the image active with the data, or write the digests of one that is active.

    Return whether digests are known.

    Args:
        digests: None: they are computed later, or never.

    Raises:
        LocationTaken, CopyBeingRemoved: the data cannot be this image's; nothing was written.
        LockLost, ImportStopped: the import must end; nothing was written.
    """
    session = current()
    session.stop.check()
    if begun.has_data and digests is None:
        return Skipped(False, "an earlier attempt did it")
    with using_store(file.store, session.settings, session.catalog) as driver:
        found = FoundLocation(file.store, begun.uri, file.size, exclusive=not driver.read_only)
    show_registered(session.catalog, session.lease, found, _facts(begun, file, digests), utc_now())
    session.board.store(file.store, "done", file.size, file.size)
    return Done(digests is not None)


@step("finish", "finish")
def finish_registered(begun: Begun, file: SealedFile, *, hashed: bool) -> Done[str]:
    """Complete the task, and return one line for display.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    session = current()
    session.stop.check()
    message = f"registered in {file.store}, {'with' if hashed else 'without'} digests"
    finish_import(
        session.catalog,
        session.lease,
        _facts(begun, file, None),  # the image is active, and keeps what it has
        {},
        message=message,
        now=utc_now(),
        time_to_live_h=session.settings.imports.task_time_to_live_h,
        progress=session.board.at_end(),
    )
    return Done(message)


def _facts(begun: Begun, file: SealedFile, digests: Digests | None) -> DataFacts:
    return DataFacts(
        size=file.size,
        virtual_size=None,
        checksum=digests.checksum if digests else None,
        os_hash_algo=digests.algorithm if digests else None,
        os_hash_value=digests.value if digests else None,
        disk_format=begun.image.disk_format or "",
        container_format=begun.image.container_format or "",
    )
