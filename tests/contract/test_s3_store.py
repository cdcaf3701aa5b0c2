"""What only the S3 store has, with a service in memory that fails as told. `test_radosgw_store` has the real thing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from config.settings.stores.s3 import S3StoreSettings
from tests.contract.cases.s3 import client_of, leave_upload, names_in, opened, settings_in
from tests.fakes.s3_server import Answer, Mishap, S3Server, cut, error, lost
from transship.domain.errors import (
    AlreadyStored,
    ImportCancelled,
    LockLost,
    ObjectMissing,
    StagingBroken,
    StoreDenied,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
    TransferFailed,
)
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.host.directories import MARK
from transship.stores.base import Unfinished
from transship.stores.s3.driver import MOST_CUTS, S3Store
from transship.stores.s3.names import Marker
from transship.stores.s3.upload import MIB

IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"


def ignore(_done: int) -> None:
    """Progress that is ignored."""


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def settings(server: S3Server) -> S3StoreSettings:
    return settings_in(server.endpoint, server.new_bucket())


@pytest.fixture
def store(settings: S3StoreSettings) -> Iterator[S3Store]:
    with opened(settings) as opened_store:
        yield opened_store


@pytest.fixture
def staged(tmp_path: Path) -> StagedFile:
    """A file of three parts, and a bit."""
    path = tmp_path / "staged"
    path.write_bytes(os.urandom(15 * MIB + 1))
    return StagedFile(path, 15 * MIB + 1, 3)


def names(settings: S3StoreSettings) -> set[str]:
    client = client_of(settings)
    found = names_in(client, settings.bucket)
    client.close()
    return found


def put(store: S3Store, staged: StagedFile, unfinished: Unfinished | None = None) -> str:
    if unfinished is None:
        return store.put(IMAGE, staged, ignore, StopToken()).url
    return store.put(IMAGE, staged, ignore, StopToken(), unfinished).url


def stored(store: S3Store) -> bytes:
    return b"".join(store.read(store.url_of(IMAGE)))


def test_an_image_arrives_in_parts_with_the_etag_of_the_service(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    receipt = store.put(IMAGE, staged, ignore, StopToken())

    assert server.history.count("UploadPart") == 4
    assert receipt.proof == f"etag:{server.buckets[settings.bucket][IMAGE][1]}"
    assert receipt.proof.endswith("-4")
    assert names(settings) == {IMAGE}


def test_lists_of_several_pages_are_read_to_their_end(
    server: S3Server, settings: S3StoreSettings, store: S3Store
) -> None:
    client = client_of(settings)
    for epoch in range(1, 6):
        leave_upload(client, settings.bucket, IMAGE, epoch)
    client.close()
    server.page = 2

    assert len(list(store.contents())) == 5
    assert store.discard_temporaries(IMAGE, 4) == 3
    assert [content.name.split(".")[1] for content in store.contents()] == ["4", "5"]


def test_an_upload_without_a_marker_is_listed_and_discarded(settings: S3StoreSettings, store: S3Store) -> None:
    client = client_of(settings)
    upload = client.create_multipart_upload(Bucket=settings.bucket, Key=IMAGE)["UploadId"]
    client.close()

    (content,) = store.contents()
    assert (content.name, content.url) == (f"{IMAGE}?uploadId={upload}", store.url_of(IMAGE))
    assert store.discard_temporaries(IMAGE, 0) == 1
    assert list(store.contents()) == []


# --- Resuming ------------------------------------------------------------------------------------


def unavailable_after(server: S3Server, parts: int) -> None:
    """Let the service answer no further part than those."""
    taken: list[Mishap] = [lambda proceed: proceed()] * parts
    server.then("UploadPart", *taken, *[error(503, "SlowDown")] * 12)


def half_put(server: S3Server, settings: S3StoreSettings, staged: StagedFile) -> str:
    """Let a put fail after two parts; return its token."""
    kept: list[str] = []
    with opened(settings.model_copy(update={"parts_in_flight": 1})) as store:
        unavailable_after(server, 2)
        with pytest.raises(StoreUnavailable, match="SlowDown"):
            put(store, staged, Unfinished(None, kept.append))
    server.cancel("UploadPart")
    server.history.clear()
    assert kept == list(server.uploads[settings.bucket])
    return kept[0]


@pytest.mark.spec("ST-023")
def test_only_parts_that_are_missing_are_sent_again(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    token = half_put(server, settings, staged)
    server.page = 1

    later = StagedFile(staged.path, staged.size, staged.epoch + 1)
    put(store, later, Unfinished(token, lambda _token: pytest.fail("the token is the same")))

    assert server.history.count("UploadPart") == 2
    assert stored(store) == staged.path.read_bytes()
    assert set(server.buckets[settings.bucket]) == {IMAGE, MARK}


@pytest.mark.spec("ST-023")
@pytest.mark.parametrize("part_mib", [5, 6])
def test_parts_with_other_bytes_are_sent_again(
    server: S3Server, settings: S3StoreSettings, staged: StagedFile, part_mib: int
) -> None:
    token = half_put(server, settings, staged)
    server.uploads[settings.bucket][token].parts[1] = b"damaged" * MIB, "0" * 32

    with opened(settings.model_copy(update={"part_mib": part_mib})) as store:
        put(store, staged, Unfinished(token, lambda _token: None))
        assert stored(store) == staged.path.read_bytes()
    assert server.history.count("UploadPart") == 3


@pytest.mark.spec("ST-011")
def test_a_resumed_upload_belongs_to_the_later_epoch(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    token = half_put(server, settings, staged)
    later = StagedFile(staged.path, staged.size, 8)
    unavailable_after(server, 1)
    with pytest.raises(StoreUnavailable):
        put(store, later, Unfinished(token, lambda _token: None))

    assert names(settings) == {Marker(IMAGE, 8, token).key}
    assert store.discard_temporaries(IMAGE, 8) == 0
    assert store.discard_temporaries(IMAGE, 1, token) == 1
    assert names(settings) == set()


@pytest.mark.spec("ST-002")
def test_a_writer_that_lost_its_lease_leaves_an_upload_that_was_taken_over(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    stop = StopToken()

    def taken_over(proceed: Callable[[], Answer]) -> None:
        (upload,) = server.uploads[settings.bucket]
        server.buckets[settings.bucket][Marker(IMAGE, 9, upload).key] = b"", ""
        stop.stop(LockLost(IMAGE, 3))

    server.then("UploadPart", taken_over)
    with pytest.raises(LockLost):
        store.put(IMAGE, staged, ignore, stop)

    (upload,) = server.uploads[settings.bucket]
    assert names(settings) == {Marker(IMAGE, 9, upload).key}


def test_a_writer_whose_upload_was_aborted_before_it_had_a_marker_begins_again(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    def discarded_before(proceed: Callable[[], Answer]) -> Answer:
        store.discard_temporaries(IMAGE, 9)
        return proceed()

    server.then("PutObject", discarded_before)  # the marker

    put(store, staged)

    assert server.history.count("CreateMultipartUpload") == 2
    assert stored(store) == staged.path.read_bytes()
    assert names(settings) == {IMAGE}


@pytest.mark.spec("ST-002")
def test_a_token_that_cannot_be_kept_leaves_nothing(
    settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    def keep(_token: str) -> None:
        raise LockLost(IMAGE, 3)

    with pytest.raises(LockLost):
        put(store, staged, Unfinished(None, keep))

    assert names(settings) == set()


@pytest.mark.spec("ST-002")
def test_a_stop_in_the_middle_of_parallel_parts_leaves_nothing(
    settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    stop = StopToken()
    moved: list[int] = []

    def pace(count: int) -> None:
        moved.append(count)
        if sum(moved) > 6 * MIB:
            stop.stop(ImportCancelled("by the user"))

    with pytest.raises(ImportCancelled):
        store.put(IMAGE, StagedFile(staged.path, staged.size, 3, pace=pace), ignore, stop)

    assert names(settings) == set()
    assert sum(moved) < 11 * MIB


@pytest.mark.spec("ST-005")
def test_a_staged_file_that_shrinks_leaves_nothing(
    settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    def pace(_count: int) -> None:
        os.truncate(staged.path, MIB)

    with pytest.raises(StagingBroken):
        put(store, StagedFile(staged.path, staged.size, 3, pace=pace))

    assert names(settings) == set()


# --- Publishing ----------------------------------------------------------------------------------


@pytest.mark.spec("ST-003")
def test_a_service_that_refuses_to_replace_is_believed(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    def appeared(proceed: Callable[[], Answer]) -> Answer:
        server.buckets[settings.bucket][IMAGE] = b"theirs", "etag"
        return proceed()

    server.then("CompleteMultipartUpload", appeared)
    with pytest.raises(AlreadyStored):
        put(store, staged)

    assert stored(store) == b"theirs"
    assert names(settings) == {IMAGE}


@pytest.mark.parametrize(
    "mishaps",
    [
        (lost,),
        (error(200, "InternalError"),),
        (error(500, "InternalError"), error(503, "SlowDown")),
        (lost, error(404, "NoSuchUpload")),
        (error(501, "NotImplemented"),),
    ],
    ids=["lost answer", "error in a 200", "errors", "lost, then gone", "no conditions"],
)
def test_a_completion_is_asked_for_until_it_is_known(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile, mishaps: tuple[Mishap, ...]
) -> None:
    server.then("CompleteMultipartUpload", *mishaps)

    put(store, staged)

    assert stored(store) == staged.path.read_bytes()
    assert names(settings) == {IMAGE}


@pytest.mark.spec("ST-012")
def test_success_that_another_writer_had_is_not_ours(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    """As radosgw answers for an upload that is gone while an object has the name."""

    def overtaken(proceed: Callable[[], Answer]) -> Answer:
        answer = proceed()
        server.buckets[settings.bucket][IMAGE] = b"theirs", f"{'0' * 32}-1"
        return answer

    server.then("CompleteMultipartUpload", overtaken)
    with pytest.raises(AlreadyStored):
        put(store, staged)


def test_etags_of_a_key_service_are_no_digests(server: S3Server, store: S3Store, staged: StagedFile) -> None:
    server.encrypts = True

    put(store, staged)

    assert stored(store) == staged.path.read_bytes()


# --- Errors --------------------------------------------------------------------------------------


@pytest.mark.spec("ST-018")
@pytest.mark.parametrize(
    ("mishap", "kind", "text"),
    [
        (error(403, "InvalidAccessKeyId"), StoreDenied, "does not know the access key; set access_key"),
        (error(403, "SignatureDoesNotMatch"), StoreDenied, "the secret key does not belong"),
        (error(400, "ExpiredToken"), StoreDenied, "have expired; renew"),
        (error(403, "RequestTimeTooSkewed"), StoreDenied, "clocks.* synchronize the clock"),
        (error(403, "AccessDenied"), StoreDenied, "do not permit it; give their user"),
        (error(403, "UserSuspended"), StoreDenied, "answered UserSuspended to UploadPart"),
        (error(403, "QuotaExceeded"), StoreFull, "no room for 15.0 MiB"),
        (error(507, "XMinioStorageFull"), StoreFull, "is full"),
        (error(301, "PermanentRedirect"), StoreMisconfigured, "set its region"),
        (error(404, "NoSuchBucket"), StoreUnavailable, "bucket does not exist; 'transship doctor'"),
        (error(418, "Whatever"), StoreUnavailable, "answered Whatever to UploadPart"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_refusals_name_cause_and_remedy(
    server: S3Server,
    settings: S3StoreSettings,
    store: S3Store,
    staged: StagedFile,
    mishap: Mishap,
    kind: type[TransferFailed],
    text: str,
) -> None:
    server.then("UploadPart", *[mishap] * 4)

    with pytest.raises(kind, match=text):
        put(store, staged)

    assert IMAGE not in server.buckets[settings.bucket]
    assert kind is StoreUnavailable or names(settings) == set()


@pytest.mark.parametrize(
    "mishap", [error(503, "SlowDown"), error(400, "BadDigest"), lost, error(400, "RequestTimeout")]
)
def test_what_passes_is_tried_again(server: S3Server, store: S3Store, staged: StagedFile, mishap: Mishap) -> None:
    for operation in ("UploadPart", "CreateMultipartUpload", "AbortMultipartUpload"):
        server.then(operation, mishap)
    seen: list[int] = []

    store.put(IMAGE, staged, seen.append, StopToken())

    assert stored(store) == staged.path.read_bytes()
    assert (seen, seen[-1]) == (sorted(seen), staged.size)


@pytest.mark.spec("ST-004")
def test_pauses_between_attempts_obey_the_stop_token(server: S3Server, store: S3Store, staged: StagedFile) -> None:
    stop = StopToken()

    def stopped(_proceed: Callable[[], Answer]) -> None:
        stop.stop(ImportCancelled("by the user"))

    server.then("CreateMultipartUpload", stopped)
    with pytest.raises(ImportCancelled):
        store.put(IMAGE, staged, ignore, stop)


@pytest.mark.spec("ST-022")
def test_a_bucket_that_is_gone_proves_nothing(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    url = put(store, staged)
    del server.buckets[settings.bucket]

    for use in (store.check, partial(store.size, url), partial(store.read, url), partial(store.delete, url)):
        with pytest.raises(StoreUnavailable, match="bucket does not exist"):
            use()


# --- Reading -------------------------------------------------------------------------------------


def test_a_read_continues_where_its_connection_broke(server: S3Server, store: S3Store, staged: StagedFile) -> None:
    put(store, staged)
    server.then("GetObject", cut(5 * MIB), cut(3 * MIB + 7), cut(0))
    content = staged.path.read_bytes()

    pieces = list(store.read(store.url_of(IMAGE), 3, 14 * MIB))

    assert b"".join(pieces) == content[3 : 14 * MIB + 3]
    assert all(64 * 1024 <= len(piece) <= 4 * MIB for piece in pieces[:-1])


def test_a_read_does_not_continue_for_ever(server: S3Server, store: S3Store, staged: StagedFile) -> None:
    put(store, staged)
    server.then("GetObject", *[cut(0)] * (MOST_CUTS + 2))

    with pytest.raises(StoreUnavailable, match="broke too often"):
        stored(store)


def test_a_read_never_mixes_two_objects(
    server: S3Server, settings: S3StoreSettings, store: S3Store, staged: StagedFile
) -> None:
    put(store, staged)
    server.then("GetObject", cut(5 * MIB))
    pieces = store.read(store.url_of(IMAGE))
    next(pieces)
    server.buckets[settings.bucket][IMAGE] = os.urandom(15 * MIB), "another"

    with pytest.raises(StoreUnavailable, match="changed while it was read"):
        list(pieces)


# --- Preparing -----------------------------------------------------------------------------------


@pytest.mark.spec("ST-021")
def test_a_bucket_of_another_store_is_refused(settings: S3StoreSettings, store: S3Store) -> None:
    other = S3Store("other", settings, "catalogue")
    other.open()
    for use in (other.check, partial(other.prepare, (), before=False)):
        with pytest.raises(StoreUnavailable, match="that of another: store shelf of catalogue catalogue"):
            use()
    other.close()


@pytest.mark.spec("ST-021")
def test_an_operator_confirms_a_bucket_with_an_empty_mark(server: S3Server, settings: S3StoreSettings) -> None:
    server.buckets[settings.bucket][MARK] = b"", ""
    with opened(settings, prepared=False) as store:
        with pytest.raises(StoreUnavailable):
            store.check()
        store.prepare([store.url_of(IMAGE)], before=True)
        store.check()


@pytest.mark.spec("ST-021")
def test_a_bucket_that_holds_known_objects_is_adopted(server: S3Server, settings: S3StoreSettings) -> None:
    server.buckets[settings.bucket][IMAGE] = b"from Glance", "etag"
    with opened(settings, prepared=False) as store:
        store.prepare([store.url_of(IMAGE)], before=False)
        assert stored(store) == b"from Glance"
        with pytest.raises(ObjectMissing):
            store.size(store.url_of(IMAGE[:-1] + "2"))
