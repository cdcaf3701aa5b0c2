"""The deployments as ``prefect.yaml`` defines them.

Unknown entries are refused, so `transship deploy` never silently omits what `prefect deploy --all`
would do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transship.domain.errors import ConfigurationRefused

FILE_NAME: Final = "prefect.yaml"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Place(_Part):
    """Where runs wait.

    Attributes:
        name: work pool for ``prefect deploy``; `transship deploy` takes it from the settings.
        work_queue_name: default queue of runs.
    """

    name: str
    work_queue_name: str


class Schedule(_Part):
    """When runs of a deployment begin. An operator's change of it in Prefect is kept.

    Attributes:
        cron: times, as cron writes them.
        timezone: in which they are meant.
        active: whether it is switched on at first.
    """

    cron: str
    timezone: str
    active: bool


class Definition(_Part):
    """One deployment.

    Attributes:
        name: of the deployment; ``<flow name>/<name>`` is unique.
        entrypoint: module path of the flow function.
        version_type: the version is the flow's own, regardless of the working directory.
        tags: shown in the UI.
        enforce_parameter_schema: whether Prefect refuses parameters that do not match the flow's.
        work_pool: where its runs wait.
        schedules: of a new deployment.
    """

    name: str
    entrypoint: str = Field(pattern=r"^[a-z_.]+$")
    version_type: Literal["prefect:simple"]
    tags: tuple[str, ...]
    enforce_parameter_schema: Literal[True]
    work_pool: Place
    schedules: tuple[Schedule, ...] = ()


class _File(_Part):
    name: str
    pull: tuple[()]
    definitions: dict[str, Place] = {}
    deployments: tuple[Definition, ...]


def definition_file() -> Path:
    """Return the path of ``prefect.yaml``: in this package when installed, beside it in a checkout.

    Raises:
        ConfigurationRefused: the file is in neither place.
    """
    package = Path(__file__).parent
    for directory in (package, package.parent):
        path = directory / FILE_NAME
        if path.is_file():
            return path
    raise ConfigurationRefused(str(package), FILE_NAME, "the file is missing", "install Transship again")


def read_definitions(path: Path) -> tuple[Definition, ...]:
    """Return the deployments of a ``prefect.yaml``, in its order.

    Raises:
        ConfigurationRefused: the file cannot be read, or has entries that this version does not support.
    """
    try:
        return _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).deployments
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        option = ".".join(str(part) for part in first["loc"])
        raise ConfigurationRefused(str(path), option, first["msg"]) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationRefused(str(path), FILE_NAME, str(error)) from error
