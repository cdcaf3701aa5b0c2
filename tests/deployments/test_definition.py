"""prefect.yaml: what it says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.definition import definition_file, read_definitions
from transship.domain.errors import ConfigurationRefused

GOOD = """
name: transship
pull: []
deployments:
  - name: web-download
    entrypoint: flows.web_download.web_download
    version_type: prefect:simple
    tags: [transship]
    enforce_parameter_schema: true
    work_pool: {name: imports, work_queue_name: default}
"""


def test_the_products_own_file_is_understood() -> None:
    definitions = {one.entrypoint: one for one in read_definitions(definition_file())}

    assert set(definitions) == {
        "flows.glance_direct.glance_direct",
        "flows.web_download.web_download",
        "flows.glance_download.glance_download",
        "flows.copy_image.copy_image",
        "flows.location_import.location_import",
        "flows.housekeeping.housekeeping",
        "flows.store_trial.test_store",
        "flows.verify_images.verify_images",
    }
    names = {entrypoint.rpartition(".")[2]: one.name for entrypoint, one in definitions.items()}
    assert all(name == flow.replace("_", "-") for flow, name in names.items())


@pytest.mark.parametrize(
    ("old", "new", "option"),
    [
        ("pull: []", "pull: [{git_clone: {}}]", "pull"),
        ("enforce_parameter_schema: true", "enforce_parameter_schema: false", "enforce_parameter_schema"),
        ("tags: [transship]", "tags: [transship]\n    concurrency_limit: 1", "concurrency_limit"),
        ("flows.web_download.web_download", "flows/web_download.py:web_download", "entrypoint"),
        ("version_type: prefect:simple", "", "version_type"),
        ("deployments:", "deployments: [", "prefect.yaml"),
    ],
)
def test_what_would_not_be_applied_is_refused(tmp_path: Path, old: str, new: str, option: str) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(GOOD.replace(old, new))

    with pytest.raises(ConfigurationRefused) as refused:
        read_definitions(path)

    assert option in refused.value.option
    assert refused.value.source == str(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="No such file"):
        read_definitions(tmp_path / "prefect.yaml")
