"""location-import: give an image the location of its data, and compute their digests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State

from flows import beginning
from tasks.digest import digest
from tasks.register import finish_registered, locate, register
from tasks.session import current
from transship.catalog.imports import Begun
from transship.domain.errors import ImportStopped, LocationDiffers, LocationUnhashed, TransferFailed
from transship.domain.import_data import Digests, FinalData, SealedFile
from transship.domain.import_parameters import VERSION, ImportParameters
from transship.domain.locations import ValidationData
from transship.domain.methods import ImportMethod


def run_name() -> str:
    """Return the run's display name."""
    return beginning.run_name("location-import")


@beginning.import_flow("location-import", run_name)
def location_import(
    image_id: UUID,
    task_id: UUID,
    uri: str,
    stores: list[str],
    os_hash_algo: str = "",
    os_hash_value: str = "",
    all_stores_must_succeed: bool = True,
    parameters_version: int = VERSION,
) -> State[Any]:
    """Register the location of an image's data.

    The service starts this for POST /v2/images/{id}/locations; it cannot be started by hand. If the digest of the data
    is given, they are read, and the image becomes active if it is right. Otherwise the image becomes active at once,
    and its digests are computed afterwards.

    Args:
        image_id: Id of the image.
        task_id: The service's task.
        uri: Location of the data, for display; the service keeps the whole URL encrypted.
        stores: Id of the store that has the data.
        os_hash_algo: Algorithm of the digest that the request gives.
        os_hash_value: That digest.
        all_stores_must_succeed: Leave unchanged.
        parameters_version: Leave unchanged. Identifies the release of the service that wrote the parameters.
    """
    params = ImportParameters(
        ImportMethod.LOCATION_IMPORT,
        str(image_id),
        str(task_id),
        tuple(stores),
        all_stores_must_succeed=all_stores_must_succeed,
        uri=uri,
        version=parameters_version,
    )
    expected = ValidationData(os_hash_algo, os_hash_value) if os_hash_value else None
    return beginning.run_import(params, lambda begun, _undo: _steps(begun, expected))


def _steps(begun: Begun, expected: ValidationData | None) -> str:
    file = locate(begun)
    if begun.has_data and begun.image.os_hash_value:
        return finish_registered(begun, file, hashed=True)
    if not current().settings.imports.do_secure_hash:
        given = Digests(expected.checksum, expected.os_hash_algo, expected.os_hash_value) if expected else None
        return finish_registered(begun, file, hashed=register(begun, file, given))
    if expected is None:
        register(begun, file, None)
        digests = _computed(begun, file)
    else:
        digests = _proven(begun, file, expected)
    return finish_registered(begun, file, hashed=register(begun, file, digests))


def _proven(begun: Begun, file: SealedFile, expected: ValidationData) -> Digests:
    """Return the digests of the data.

    Raises:
        LocationDiffers: they are not the expected ones.
    """
    found = digest(FinalData(file, replace(begun.image, os_hash_algo=expected.os_hash_algo)))
    if found.value != expected.os_hash_value:
        raise LocationDiffers(file.store, found.algorithm, expected.os_hash_value, found.value)
    return found


def _computed(begun: Begun, file: SealedFile) -> Digests:
    """Return the digests of the data of an image that is active.

    Raises:
        LocationUnhashed: the data cannot be read; the image stays active.
    """
    try:
        return digest(FinalData(file, begun.image))
    except ImportStopped:
        raise
    except TransferFailed as failed:
        raise LocationUnhashed(file.store, str(failed)) from failed
