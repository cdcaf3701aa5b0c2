"""The S3 store in a bucket of a real radosgw, and of a service in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from config.settings.stores.s3 import S3StoreSettings
from tests.contract.cases.case import StoreCase
from tests.fakes.ceph import Ceph, Keys
from tests.fakes.s3_server import S3Server
from transship.host.directories import MARK
from transship.stores.s3.driver import S3Store
from transship.stores.s3.names import Marker, marker_in


def settings_in(endpoint: str, bucket: str, keys: Keys | None = None, **changed: Any) -> S3StoreSettings:
    """Return the settings of a store in a bucket; parts are as small as S3 allows."""
    keys = keys or Keys("someone", "access", "secret")
    credentials = {"access_key": keys.access, "secret_key": keys.secret}
    options = {"credentials": credentials, "addressing_style": "path", "part_mib": 5}
    return S3StoreSettings(endpoint=endpoint, bucket=bucket, **{**options, **changed})


def client_of(settings: S3StoreSettings) -> Any:
    """Return a client with the keys of a store."""
    keys = settings.keys
    assert keys is not None
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=keys.access_key.get_secret_value(),
        aws_secret_access_key=keys.secret_key.get_secret_value(),
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )


@contextmanager
def opened(settings: S3StoreSettings, *, prepared: bool = True) -> Iterator[S3Store]:
    """Provide an open store, by default in a bucket that it has prepared."""
    store = S3Store("shelf", settings, "catalogue")
    store.open()
    try:
        if prepared:
            store.prepare((), before=False)
        yield store
    finally:
        store.close()


def uploads_in(client: Any, bucket: str) -> list[tuple[str, str]]:
    """Return key and id of all unfinished uploads."""
    return [(each["Key"], each["UploadId"]) for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


def keys_in(client: Any, bucket: str) -> list[str]:
    """Return the keys of all objects."""
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def names_in(client: Any, bucket: str) -> set[str]:
    """Return the names of everything but the mark. A marker and the upload that it names are one temporary."""
    objects = {key for key in keys_in(client, bucket) if key != MARK}
    markers = {marker.upload: marker.key for key in objects if (marker := marker_in(key))}
    return objects | {markers.get(upload, f"{key} {upload}") for key, upload in uploads_in(client, bucket)}


def leave_upload(client: Any, bucket: str, image_id: str, epoch: int) -> str:
    """Put there what a killed writer leaves; return the upload's id."""
    upload: str = client.create_multipart_upload(Bucket=bucket, Key=image_id)["UploadId"]
    client.put_object(Bucket=bucket, Key=Marker(image_id, epoch, upload).key)
    return upload


@contextmanager
def s3_case(request: pytest.FixtureRequest, _tmp_path: Path) -> Iterator[StoreCase]:
    ceph: Ceph = request.getfixturevalue("ceph")
    with _case(settings_in(ceph.endpoint, ceph.new_bucket(), ceph.keys()), ceph.new_bucket()) as case:
        yield case


@contextmanager
def s3_in_memory_case(_request: pytest.FixtureRequest, _tmp_path: Path) -> Iterator[StoreCase]:
    with S3Server() as server, _case(settings_in(server.endpoint, server.new_bucket()), server.new_bucket()) as case:
        yield case


@contextmanager
def _case(settings: S3StoreSettings, aside: str) -> Iterator[StoreCase]:
    client, bucket = client_of(settings), settings.bucket

    @contextmanager
    def away() -> Iterator[None]:
        """Another bucket under the same name: everything in it is moved aside."""
        moved = keys_in(client, bucket)
        _move(client, bucket, aside, moved)
        try:
            yield
            assert keys_in(client, bucket) == []
        finally:
            _move(client, aside, bucket, moved)

    with opened(settings) as store:
        yield StoreCase(
            store,
            lambda image_id, epoch: leave_upload(client, bucket, image_id, epoch) and None,
            lambda: names_in(client, bucket),
            away,
        )
    client.close()


def _move(client: Any, source: str, target: str, keys: list[str]) -> None:
    for key in keys:
        content = client.get_object(Bucket=source, Key=key)["Body"].read()
        client.put_object(Bucket=target, Key=key, Body=content)
        client.delete_object(Bucket=source, Key=key)
