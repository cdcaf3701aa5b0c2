"""Credentials of S3 stores in the settings: by name, for any number of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loading import LoadedSettings, load_settings
from config.settings.stores.s3 import S3StoreSettings
from config.show import MASK, option_rows
from transship.domain.errors import ConfigurationRefused

STORE = """
default_store = "objects"
[stores.objects]
type = "s3"
bucket = "images"
"""
KEYS = """
[s3_credentials.radosgw]
access_key = "hush"
secret_key = "quiet"
"""


def loaded(folder: Path, text: str, **variables: str) -> LoadedSettings:
    path = folder / "transship.toml"
    path.write_text(text)
    return load_settings(file=path, environ={"TRANSSHIP_HOME": "/nonexistent/home", **variables})


def store_in(found: LoadedSettings) -> S3StoreSettings:
    store = found.settings.all_stores["objects"]
    assert isinstance(store, S3StoreSettings)
    return store


def test_a_store_has_the_keys_that_it_names(tmp_path: Path) -> None:
    found = loaded(tmp_path, f'{STORE}credentials = "radosgw"{KEYS}')

    keys = store_in(found).keys
    assert keys is not None
    assert (keys.access_key.get_secret_value(), keys.secret_key.get_secret_value()) == ("hush", "quiet")
    shown = {row.option: row.value for row in option_rows(found)}
    assert shown["stores.objects.credentials"] == "radosgw"
    assert shown["s3_credentials.radosgw.access_key"] == shown["s3_credentials.radosgw.secret_key"] == MASK
    assert not {"hush", "quiet"} & {word for text in shown.values() for word in text.split()}


def test_a_store_that_names_none_has_none(tmp_path: Path) -> None:
    assert store_in(loaded(tmp_path, STORE + KEYS)).keys is None


def test_variables_set_them_too(tmp_path: Path) -> None:
    variables = {
        "TRANSSHIP_STORES__OBJECTS__CREDENTIALS": "mine",
        "TRANSSHIP_S3_CREDENTIALS__MINE__ACCESS_KEY": "me",
        "TRANSSHIP_S3_CREDENTIALS__MINE__SECRET_KEY": "mine",
    }
    keys = store_in(loaded(tmp_path, STORE, **variables)).keys
    assert keys is not None
    assert keys.access_key.get_secret_value() == "me"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            f'{STORE}credentials = "other"{KEYS}',
            r"transship\.toml: stores\.objects\.credentials:"
            r" stores\.objects\.credentials names other, which s3_credentials does not have;"
            r" add a section \[s3_credentials\.other\], or choose from radosgw",
            id="unknown name",
        ),
        pytest.param(
            f'{STORE}credentials = {{ access_key = "hush", secret_key = "quiet" }}',
            r"stores\.objects\.credentials is not a name;"
            r" move the options to a section \[s3_credentials\.objects\], and write its name here",
            id="keys in place of a name",
        ),
        pytest.param(
            f'{STORE}access_key = "hush"',
            r"stores\.objects\.access_key: there is no such option; did you mean s3_credentials\.<id>\.access_key",
            id="keys in the store",
        ),
        pytest.param(
            f"{STORE}credentials = 5",
            r"stores\.objects\.credentials: are not credentials.*; choose S3 credentials by their name, or none",
            id="no name",
        ),
        pytest.param(
            f'{STORE}credentials = "radosgw"{KEYS.replace("secret_key", "#")}',
            r"s3_credentials\.radosgw\.secret_key: is required but not set; set s3_credentials\.radosgw\.secret_key",
            id="half of the pair",
        ),
        pytest.param(
            STORE + KEYS.replace("quiet", ""),
            r"s3_credentials\.radosgw\.secret_key: is empty; set access_key and secret_key",
            id="an empty key",
        ),
        pytest.param(
            STORE + KEYS.replace("quiet", MASK),
            r"s3_credentials\.radosgw\.secret_key: is only the mask of a key; write the key itself",
            id="a masked key",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_the_remedy(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match=said) as refused:
        loaded(tmp_path, text)

    assert "hush" not in str(refused.value)
    assert "quiet" not in str(refused.value)
