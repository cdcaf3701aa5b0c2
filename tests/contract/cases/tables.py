"""The stores that the contract suite tests."""

from __future__ import annotations

from functools import partial

import pytest

from tests.contract.cases.case import MakeCase
from tests.contract.cases.directories import directories_case
from tests.contract.cases.file import file_case, file_case_on_another_filesystem
from tests.contract.cases.flaky import flaky_case
from tests.contract.cases.http import http_case
from tests.contract.cases.parts import parts_case
from tests.contract.cases.rbd import rbd_case
from tests.contract.cases.s3 import s3_case, s3_in_memory_case

CASES: dict[str, MakeCase] = {
    "file": file_case,
    "file-directories": directories_case,
    "file-other-filesystem": file_case_on_another_filesystem,
    "flaky": flaky_case,
    "parts": parts_case,
    "s3-in-memory": s3_in_memory_case,
}

PEERS_CASES: dict[str, MakeCase] = {"rbd": rbd_case, "s3": s3_case}
"""Stores of real services that only ``--peers`` installs."""

READ_ONLY_CASES: dict[str, MakeCase] = {
    "http": partial(http_case, True),
    "http-without-ranges": partial(http_case, False),
}
"""Stores for which only the rules about reading are tested here."""

WRITABLE = [
    *(pytest.param(make, id=name) for name, make in CASES.items()),
    *(pytest.param(make, id=name, marks=pytest.mark.peers) for name, make in PEERS_CASES.items()),
]
READ_ONLY = [pytest.param(make, id=name) for name, make in READ_ONLY_CASES.items()]
