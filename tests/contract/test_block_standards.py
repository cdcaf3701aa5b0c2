"""What every block must have for users of the Prefect UI."""

from __future__ import annotations

import inspect
import re

import pytest

from blocks import BLOCKS, ImageStore
from deployments.store_blocks import LOGO

BLOCK_CLASSES = [pytest.param(block_class, id=kind) for kind, block_class in BLOCKS.items()]


@pytest.mark.parametrize("block_class", BLOCK_CLASSES)
def test_a_block_says_what_it_is_and_where_more_is_said(block_class: type[ImageStore]) -> None:
    description = block_class.get_description()

    assert description
    assert description.endswith(".")
    assert str(block_class._documentation_url).startswith("https://")
    assert block_class.get_block_type_name().startswith("Image store: ")


@pytest.mark.parametrize("block_class", BLOCK_CLASSES)
def test_a_block_loads_nothing_from_the_web(block_class: type[ImageStore]) -> None:
    # A deploy in this process sets a picture that Prefect's own server has.
    logo = block_class._logo_url
    assert logo is None or (logo.host, logo.path) == ("127.0.0.1", LOGO)


@pytest.mark.parametrize("block_class", BLOCK_CLASSES)
def test_every_field_has_a_title_and_a_sentence(block_class: type[ImageStore]) -> None:
    for name, field in block_class.model_fields.items():
        assert field.title, name
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("block_class", BLOCK_CLASSES)
def test_the_code_example_imports_and_loads_the_block(block_class: type[ImageStore]) -> None:
    example = block_class.get_code_example()

    assert example is not None
    assert re.search(rf"^from blocks import {block_class.__name__}$", example, re.MULTILINE)
    assert f'= {block_class.__name__}.load("BLOCK_NAME")' in example


@pytest.mark.parametrize(("kind", "block_class"), BLOCKS.items())
def test_a_store_block_is_found_by_kind_and_capability(kind: str, block_class: type[ImageStore]) -> None:
    assert block_class.get_block_type_slug() == f"image-store-{kind}"
    assert "image-store" in block_class.get_block_capabilities()
    assert not inspect.isabstract(block_class)
