"""Check what an import uses of its project's quota, before its data arrive and before they are copied to stores.

While data arrive, every reservation of room in staging is checked too (`tasks.staged_files.reserve`).
"""

from __future__ import annotations

from tasks.retrying import as_downloads
from tasks.session import ImportSession, current
from tasks.steps import step
from transship.catalog.imports import Begun
from transship.catalog.quotas import refuse_claim
from transship.domain.import_data import Done
from transship.domain.methods import ImportMethod
from transship.domain.quota import Claim, ImportQuota
from transship.identity.quotas import Quotas


@step("check-quota", "check quota", as_downloads)
def check_quota(begun: Begun) -> Done[None]:
    """Read the quota of the image's project for this import, and refuse the import if it is used up.

    Raises:
        ProjectOverQuota: the project may not use what is known of the import.
        IdentityUnavailable: Keystone cannot be asked for the limits now.
    """
    session, image = current(), begun.image
    quota = Quotas(session.settings).of(image.owner)
    if quota is not None:
        method = ImportMethod(begun.task.method).facts
        session.quota = ImportQuota(quota, method, image, len(begun.to_write))
        _refuse(session, session.quota.at_start)
    return Done(None)


def check_size(session: ImportSession, size: int) -> None:
    """Refuse final data that the project may not store.

    Args:
        size: bytes.

    Raises:
        ProjectOverQuota: names the limit.
    """
    if session.quota is not None:
        _refuse(session, session.quota.final(size))


def _refuse(session: ImportSession, claim: Claim) -> None:
    with session.catalog.write() as connection:
        refuse_claim(connection, claim)
