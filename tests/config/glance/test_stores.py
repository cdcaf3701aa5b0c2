"""The stores in Glance's configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.notes import NoteKind
from config.settings.stores import KINDS
from config.settings.stores.file import FileStoreSettings
from config.settings.stores.http import HttpStoreSettings
from tests.fakes.glance_files import notes, of, refusal
from transship.domain.placement import StoreFacts


@pytest.mark.parametrize("kind", ["swift", "cinder", "vmware", "nonsense"])
def test_a_type_of_store_that_is_not_served_stops_the_start(kind: str, tmp_path: Path) -> None:
    if kind in KINDS:
        pytest.skip(f"{kind} is served")
    text = f"[DEFAULT]\nenabled_backends = good:file, other:{kind}\n[glance_store]\ndefault_backend = good\n"
    refused = refusal(tmp_path, text + "[good]\nfilesystem_store_datadir = /srv/good\n")
    assert refused.reason == f"store other is of type {kind}, which this release does not support"
    assert refused.remedy == "remove it, or change its type; supported: " + ", ".join(KINDS)


def test_a_file_for_a_single_store_gives_one_store(tmp_path: Path) -> None:
    text = "[glance_store]\nfilesystem_store_datadir = /srv/glance\nfilesystem_store_file_perm = 0\n"
    loaded = of(tmp_path, text)
    (store_id,) = loaded.settings.all_stores
    assert (store_id, loaded.settings.default_store) == ("file", "file")
    assert str(loaded.settings.stores["file"].dir) == "/srv/glance"
    assert len(notes(loaded, NoteKind.WARNING)) == 1


@pytest.mark.parametrize("stores", ["", "stores = file, http, swift\n", "stores = [filesystem, http, swift]\n"])
@pytest.mark.parametrize("kind", ["", "default_store = file\n", "default_store = filesystem\n"])
def test_a_single_store_has_the_same_id_however_it_is_named(kind: str, stores: str, tmp_path: Path) -> None:
    loaded = of(tmp_path, f"[glance_store]\n{kind}{stores}filesystem_store_datadir = /srv/glance\n")
    assert str(loaded.settings.all_stores["file"].dir) == "/srv/glance"
    assert list(loaded.settings.all_stores) == ["file", *(["http"] if stores else [])]
    told = " ".join(notes(loaded, NoteKind.WARNING))
    assert ("the stores have the ids file, http" if stores else "the only store has the id file") in told
    assert ("swift: not supported by this release" in told) == bool(stores)


def test_the_http_store_beside_a_single_store_is_never_a_target(tmp_path: Path) -> None:
    text = "[glance_store]\nstores = file,http\ndefault_store = file\nfilesystem_store_datadir = /srv/glance\n"
    loaded = of(tmp_path, text + "https_ca_certificates_file = /etc/ssl/images.pem\nhttps_insecure = no\n")
    assert [(store.id, store.read_only, store.default) for store in loaded.settings.store_facts] == [
        ("file", False, True),
        ("http", True, False),
    ]
    assert loaded.settings.stores["http"] == HttpStoreSettings(ca_file=Path("/etc/ssl/images.pem"))
    assert notes(loaded, NoteKind.IGNORED) == []


def test_an_http_store_among_backends_is_read_only(tmp_path: Path) -> None:
    text = "[DEFAULT]\nenabled_backends = fast:file, web:http\n[glance_store]\ndefault_backend = fast\n"
    text += "[fast]\nfilesystem_store_datadir = /srv/fast\n[web]\nstore_description = mirrors\nweight = 3\n"
    loaded = of(tmp_path, text + "https_insecure = true\nhttp_proxy_information = http:10.0.0.1:3128\n")
    assert loaded.settings.store_facts[1] == StoreFacts("web", "http", "mirrors", 3, read_only=True)
    told = notes(loaded, NoteKind.IGNORED)
    assert [note.partition(":")[0] for note in told] == ["web.https_insecure", "web.http_proxy_information"]


def test_an_http_store_cannot_be_the_default(tmp_path: Path) -> None:
    text = "[DEFAULT]\nenabled_backends = fast:file, web:http\n[glance_store]\ndefault_backend = web\n"
    refused = refusal(tmp_path, text + "[fast]\nfilesystem_store_datadir = /srv/fast\n")
    assert refused.told == "default_store web can only be read; choose from fast"


def test_options_of_a_single_store_beside_backends_are_warned_of(tmp_path: Path) -> None:
    text = "[DEFAULT]\nenabled_backends = a:file\n[a]\nfilesystem_store_datadir = /srv/a\n[glance_store]\n"
    loaded = of(
        tmp_path,
        text + "default_backend = a\ndefault_store = file\nstores = file,http\nfilesystem_store_datadir = /srv/b\n",
    )
    assert [(name, str(store.dir)) for name, store in loaded.settings.all_stores.items()] == [("a", "/srv/a")]
    why = "has no effect, as in Glance, because enabled_backends is set"
    assert notes(loaded, NoteKind.WARNING) == [
        f"glance_store.default_store: {why}; default_backend sets the default store",
        f"glance_store.stores: {why}; enabled_backends lists the stores",
        f"glance_store.filesystem_store_datadir: {why}; the options of a store belong in its own section",
    ]


FAST = "[DEFAULT]\nenabled_backends = fast:file\n[glance_store]\ndefault_backend = fast\n[fast]\n"


def test_several_directories_are_read_with_their_priorities(tmp_path: Path) -> None:
    text = "filesystem_store_datadirs = /srv/a:100\nfilesystem_store_datadirs = /srv/b\n"
    text += "filesystem_store_datadirs = /srv/c : 7\nfilesystem_store_datadirs = /srv/b:\n"
    for directory in ("", "filesystem_store_datadir =\n"):
        loaded = of(tmp_path, FAST + directory + text)
        store = loaded.settings.stores["fast"]
        assert isinstance(store, FileStoreSettings)
        assert store.weighted_directories == ((Path("/srv/a"), 100), (Path("/srv/b"), 0), (Path("/srv/c"), 7))
        assert notes(loaded, NoteKind.WARNING) == ["fast.filesystem_store_datadirs: /srv/b is named more than once"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("filesystem_store_datadirs = /srv/a:b", "'b' is not a weight"),
        ("filesystem_store_datadirs = /srv/a:1\nfilesystem_store_datadirs = /srv/a:2", "/srv/a has two weights"),
        ("filesystem_store_datadirs = /srv/a\nfilesystem_store_datadir = /srv/b", "dir and dirs exclude each other"),
        ("filesystem_store_datadirs =", "neither dir nor dirs is set"),
        ("filesystem_store_datadir =", "neither dir nor dirs is set"),
        ("weight = 3", "is required by store fast of type file but not set"),
    ],
)
def test_directories_that_glance_would_refuse_stop_the_start(text: str, reason: str, tmp_path: Path) -> None:
    assert reason in refusal(tmp_path, f"{FAST}{text}\n").told
