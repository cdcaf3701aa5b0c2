"""What every block must have for users of the Prefect UI."""

from __future__ import annotations

import inspect
import re

import pytest
from prefect.blocks.core import Block

from blocks import BLOCKS, SHARED_BLOCKS, ImageStore
from deployments.store_blocks import LOGO

BLOCK_CLASSES = [pytest.param(block_class, id=kind) for kind, block_class in {**BLOCKS, **SHARED_BLOCKS}.items()]


@pytest.mark.parametrize("block_class", BLOCK_CLASSES)
def test_a_block_says_what_it_is_and_where_more_is_said(block_class: type[Block]) -> None:
    description = block_class.get_description()

    assert description
    assert description.endswith(".")
    assert str(block_class._documentation_url).startswith("https://")


@pytest.mark.parametrize("block_class", BLOCK_CLASSES)
def test_a_block_loads_nothing_from_the_web(block_class: type[Block]) -> None:
    # A deploy in this process sets a picture that Prefect's own server has.
    logo = block_class._logo_url
    assert logo is None or (logo.host, logo.path) == ("127.0.0.1", LOGO)


@pytest.mark.parametrize("block_class", BLOCK_CLASSES)
def test_every_field_has_a_title_and_a_sentence(block_class: type[Block]) -> None:
    for name, field in block_class.model_fields.items():
        assert field.title, name
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("block_class", BLOCK_CLASSES)
def test_the_code_example_imports_and_loads_the_block(block_class: type[Block]) -> None:
    example = block_class.get_code_example()

    assert example is not None
    assert re.search(rf"^from blocks import {block_class.__name__}$", example, re.MULTILINE)
    assert f'= {block_class.__name__}.load("BLOCK_NAME")' in example


@pytest.mark.parametrize(("kind", "block_class"), BLOCKS.items())
def test_a_store_block_is_found_by_kind_and_capability(kind: str, block_class: type[ImageStore]) -> None:
    assert block_class.get_block_type_name() == f"Image store: {kind}"
    assert block_class.get_block_type_slug() == f"image-store-{kind}"
    assert "image-store" in block_class.get_block_capabilities()
    assert not inspect.isabstract(block_class)


def test_credentials_are_named_like_their_settings() -> None:
    (block_class,) = SHARED_BLOCKS.values()
    assert (block_class.get_block_type_name(), block_class.get_block_type_slug()) == (
        "S3 credentials",
        "s3-credentials",
    )
    assert block_class.model_json_schema()["secret_fields"] == ["access_key", "secret_key"]
