"""Options of Glance for stores in a pool of a Ceph cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.notes import NoteKind
from config.settings.stores.rbd import RbdStoreSettings
from tests.fakes.glance_files import notes, of

RBD_OPTIONS = "rbd_store_pool = volumes\nrbd_store_user = glance\nrbd_store_ceph_conf = /srv/ceph.conf\n"


@pytest.mark.parametrize(
    "text",
    [
        "[DEFAULT]\nenabled_backends = ceph:rbd\n[glance_store]\ndefault_backend = ceph\n[ceph]\n",
        "[glance_store]\nstores = rbd\ndefault_store = rbd\n",
    ],
    ids=["several stores", "single store"],
)
def test_options_of_an_rbd_store_are_read(text: str, tmp_path: Path) -> None:
    given = "rbd_store_chunk_size = 12\nrados_connect_timeout = 30\nrbd_thin_provisioning = true\n"
    loaded = of(tmp_path, text + RBD_OPTIONS + given)
    (store,) = loaded.settings.all_stores.values()
    assert store == RbdStoreSettings(
        pool="volumes", user="glance", conf=Path("/srv/ceph.conf"), chunk_mib=8, connect_timeout_s=30
    )
    assert "12 was rounded down to 8, a power of two" in " ".join(notes(loaded, NoteKind.WARNING))
    assert [note.partition(":")[0].rpartition(".")[2] for note in notes(loaded, NoteKind.IGNORED)] == [
        "rbd_thin_provisioning"
    ]


def test_the_defaults_of_an_rbd_store_are_those_of_glance(tmp_path: Path) -> None:
    text = "[glance_store]\nstores = rbd\ndefault_store = rbd\nrados_connect_timeout = 0\n"
    (store,) = of(tmp_path, text).settings.all_stores.values()
    assert store == RbdStoreSettings(pool="images", conf=Path("/etc/ceph/ceph.conf"), chunk_mib=8)
