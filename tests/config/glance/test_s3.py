"""Stores of type s3 in Glance's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loading import LoadedSettings, load_settings
from config.settings.stores.s3 import S3StoreSettings
from transship.domain.errors import ConfigurationRefused

MULTI_STORE = """\
[DEFAULT]
enabled_backends = s3:s3
[glance_store]
default_backend = s3
[s3]
store_description = objects
s3_store_host = https://objects.example.org
s3_store_region_name = eu-1
s3_store_access_key = key
s3_store_secret_key = secret/with+marks
s3_store_bucket = images
s3_store_create_bucket_on_put = True
s3_store_bucket_url_format = path
s3_store_cacert = /etc/glance/ca.pem
s3_store_large_object_size = 100
s3_store_large_object_chunk_size = 64
s3_store_thread_pools = 8
s3_store_enable_data_integrity_protection = True
s3_store_request_checksum_calculation = when_supported
s3_store_response_checksum_validation = when_required
"""


def loaded(folder: Path, text: str) -> LoadedSettings:
    path = folder / "glance-api.conf"
    path.write_text(text)
    environ = {"TRANSSHIP_HOME": "/nonexistent/home", "TRANSSHIP_GLANCE_CONFIG": str(path)}
    return load_settings(environ=environ, system_file=Path("/nonexistent/transship.toml"))


def store_in(folder: Path, text: str) -> S3StoreSettings:
    store = loaded(folder, text).settings.all_stores["s3"]
    assert isinstance(store, S3StoreSettings)
    return store


def test_a_store_of_glance_works_as_it_is(tmp_path: Path) -> None:
    assert store_in(tmp_path, MULTI_STORE) == S3StoreSettings(
        description="objects",
        endpoint="https://objects.example.org",
        region="eu-1",
        credentials={"access_key": "key", "secret_key": "secret/with+marks"},
        bucket="images",
        create_bucket=True,
        addressing_style="path",
        ca_file=Path("/etc/glance/ca.pem"),
        part_mib=64,
        parts_in_flight=8,
    )


def test_the_keys_become_credentials_with_the_id_of_the_store(tmp_path: Path) -> None:
    found = loaded(tmp_path, MULTI_STORE)

    assert found.settings.configured_stores["s3"].credentials == "s3"  # type: ignore[attr-defined]  # of that kind
    assert found.origins["s3_credentials.s3.secret_key"].endswith("glance-api.conf:s3.s3_store_secret_key")


def test_options_without_effect_are_named(tmp_path: Path) -> None:
    notes = "\n".join(note.origin + note.text for note in loaded(tmp_path, MULTI_STORE).notes)

    assert "images of any size are uploaded in parts" in notes
    assert "secret/with+marks" not in notes


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("s3.amazonaws.com", "http://s3.amazonaws.com"),
        ("127.0.0.1:7480", "http://127.0.0.1:7480"),
        ("http://objects.example.org/", "http://objects.example.org"),
    ],
)
def test_a_host_without_a_scheme_is_asked_over_http(host: str, endpoint: str, tmp_path: Path) -> None:
    text = MULTI_STORE.replace("https://objects.example.org", host)

    assert store_in(tmp_path, text).endpoint == endpoint


def test_the_one_store_of_an_older_file_works(tmp_path: Path) -> None:
    options = MULTI_STORE.partition("[s3]\n")[2]

    store = store_in(tmp_path, f"[glance_store]\nstores = s3,http\ndefault_store = s3\n{options}")

    assert (store.bucket, store.part_mib) == ("images", 64)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("s3_store_secret_key", None, "is required by store s3 of type s3"),
        ("s3_store_bucket", None, "is required by store s3 of type s3"),
        ("s3_store_bucket", "a/b", "is not the name of a bucket"),
        ("s3_store_host", "ftp://objects.example.org", "not a usable URL"),
        ("s3_store_large_object_chunk_size", "4", "5"),
        ("s3_store_thread_pools", "0", "1"),
        ("s3_store_bucket_url_format", "dns", "virtual"),
    ],
)
def test_what_glance_would_refuse_stops_the_start(option: str, value: str | None, reason: str, tmp_path: Path) -> None:
    lines = [
        line if not line.startswith(f"{option} ") else ("" if value is None else f"{option} = {value}")
        for line in MULTI_STORE.splitlines()
    ]

    with pytest.raises(ConfigurationRefused) as refused:
        loaded(tmp_path, "\n".join(lines))

    assert reason in str(refused.value)
    assert "secret/with+marks" not in str(refused.value)
