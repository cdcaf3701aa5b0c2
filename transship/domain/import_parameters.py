"""The parameters of an import's flow run: written once when the import is requested, and read only by its flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from transship.domain.image import CONTAINER_FORMATS, DISK_FORMATS, Image
from transship.domain.import_request import ImportRequest
from transship.domain.locations import ValidationData
from transship.domain.methods import ImportMethod
from transship.domain.remote import RemoteImage
from transship.domain.uri_filter import display_uri

VERSION: Final = 1
"""Version of the parameters in this release; increased when a field changes its meaning or is removed."""


@dataclass(frozen=True, slots=True)
class ImportParameters:
    """The parameters of one import. Everyone who can reach Prefect can read them, so they hold no secrets.

    Attributes:
        method: names the flow.
        image_id: canonical UUID; empty: the run creates an image.
        task_id: the task created by the service; empty: the run was started by hand, with the parameters below.
        stores: store ids to write, in order; None: the default store.
        name: of the image.
        project_id: its owner.
        uri: source of a web-download, or location of the data, for display; empty for the other methods.
        disk_format, container_format: of a web-download; None: detected from the data, and ``bare``.
        remote: source of a glance-download; None for the other methods.
        expected: digest of the data at a location; None: it is not known.
        version: of these parameters.
    """

    method: ImportMethod
    image_id: str = ""
    task_id: str = ""
    stores: tuple[str, ...] | None = None
    all_stores: bool = False
    all_stores_must_succeed: bool = True
    name: str | None = None
    project_id: str = ""
    uri: str = ""
    disk_format: str | None = None
    container_format: str | None = None
    remote: RemoteImage | None = None
    expected: ValidationData | None = None
    version: int = VERSION

    @classmethod
    def of(cls, request: ImportRequest, targets: Sequence[str], image: Image, task_id: str) -> Self:
        """Return the parameters for the run of a task.

        Args:
            targets: store ids to write, in order.
            image: the record when the import was requested.
        """
        return cls(
            request.method,
            image.id,
            task_id,
            tuple(targets),
            all_stores_must_succeed=request.all_stores_must_succeed,
            name=image.name,
            project_id=image.owner,
            uri=display_uri(request.uri) if request.uri else "",
            disk_format=image.disk_format if image.disk_format in DISK_FORMATS else None,
            container_format=image.container_format if image.container_format in CONTAINER_FORMATS else None,
            remote=request.remote,
            expected=request.expected,
        )

    def for_flow(self) -> dict[str, object]:
        """Return the arguments of the method's flow as JSON values."""
        told: dict[str, object] = {
            "image_id": self.image_id,
            "task_id": self.task_id,
            "stores": None if self.stores is None else list(self.stores),
            "all_stores_must_succeed": self.all_stores_must_succeed,
            "parameters_version": self.version,
        }
        of_methods = {
            "uri": self.uri,
            **(self.remote.named() if self.remote else {}),
            **(self.expected.named() if self.expected else {"os_hash_algo": None, "os_hash_value": None}),
            "disk_format": self.disk_format,
            "container_format": self.container_format,
            "name": self.name,
            "project_id": self.project_id,
        }
        facts = self.method.facts
        own = {name: of_methods[name] for name in (*facts.body_keys, *facts.form_keys)}
        return told | {name: value for name, value in own.items() if value is not None}
