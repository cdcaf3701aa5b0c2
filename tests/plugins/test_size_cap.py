"""The largest disk that a header may claim: one cap for everyone, others for some projects."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import ImportSettings
from tasks.inspect import inspect
from tests.fakes import disk_images
from tests.fakes.images import read_image
from tests.fakes.running_import import begin, easy_settings, session_of, staged_data
from transship.catalog.engine import Catalog
from transship.domain.errors import ImageTooLarge
from transship.plugins.format_gate import Inspected
from transship.plugins.size_cap import refuse_beyond_cap

GIB = 1 << 30
CAPS = ImportSettings(virtual_size_cap_bytes=100 * GIB, virtual_size_caps={"small": 10 * GIB, "large": 600 * GIB})


@pytest.mark.parametrize("detected", ["qcow2", "vmdk", "vhd", "vhdx", "vdi", "qed", "iso"])
@pytest.mark.parametrize(
    ("project", "cap_gib", "option"),
    [
        ("", 100, "imports.virtual_size_cap_bytes"),
        ("anybody", 100, "imports.virtual_size_cap_bytes"),
        ("small", 10, 'imports.virtual_size_caps of project "small"'),
        ("large", 600, 'imports.virtual_size_caps of project "large"'),
    ],
)
def test_a_header_may_claim_what_the_project_may_have(detected: str, project: str, cap_gib: int, option: str) -> None:
    refuse_beyond_cap(Inspected(detected, cap_gib * GIB), project, CAPS)
    with pytest.raises(ImageTooLarge, match=r"virtual size of .* is larger than the .* allows") as refused:
        refuse_beyond_cap(Inspected(detected, cap_gib * GIB + 1), project, CAPS)
    assert (refused.value.limit_bytes, refused.value.option) == (cap_gib * GIB, option)


@pytest.mark.parametrize("inspected", [Inspected("raw", 900 * GIB), Inspected("qcow2", None), Inspected("", None)])
def test_data_that_claim_nothing_pass(inspected: Inspected) -> None:
    refuse_beyond_cap(inspected, "small", CAPS)


def test_by_default_100_gib_pass_and_512_do_not() -> None:
    refuse_beyond_cap(Inspected("qcow2", 100 * GIB), "", ImportSettings())
    with pytest.raises(ImageTooLarge):
        refuse_beyond_cap(Inspected("qcow2", 512 * GIB), "", ImportSettings())


@pytest.mark.parametrize(("owner", "passes"), [("trusted", True), ("other", False)])
def test_an_import_of_few_bytes_that_claim_much_is_refused_before_any_work(
    tmp_path: Path, catalog: Catalog, owner: str, passes: bool
) -> None:
    blank = tmp_path / "blank.qcow2"
    disk_images.qemu_img("create", "-f", "qcow2", blank, "512G")
    settings = easy_settings(tmp_path, imports={"virtual_size_caps": {"trusted": 512 * GIB}})
    begun = begin(catalog, owner=owner, disk_format="qcow2")
    with session_of(settings, catalog, begun) as session:
        staged = staged_data(session, blank.read_bytes())
        if passes:
            assert inspect.fn(staged, "source", unpacked_later=False).value.virtual_size == 512 * GIB
            return
        with pytest.raises(ImageTooLarge, match=r"virtual size of 512\.0 GiB .* imports\.virtual_size_cap_bytes"):
            inspect.fn(staged, "source", unpacked_later=False)
        assert read_image(catalog, begun.image.id).virtual_size is None
