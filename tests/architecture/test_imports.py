"""What a process imports: API and keeper start without Prefect, which would cost seconds and memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

KEPT_OUT = ("prefect", "flows", "tasks", "blocks", "deployments")
"""Packages that processes which speak to Prefect over HTTP never import."""


@pytest.mark.parametrize("module", ["transship.api.__main__", "transship.keeper.__main__"])
def test_the_process_imports_neither_prefect_nor_what_runs_in_it(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(KEPT_OUT) & set(json.loads(loaded.stdout))
