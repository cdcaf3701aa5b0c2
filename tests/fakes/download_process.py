"""A download in a process of its own, to be killed: ``python -m tests.fakes.download_process URL PART NOTES RANGE``.

It goes on with what an earlier process left: the part at PART, the remembered validators in NOTES.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from config.settings import DownloadSettings
from transship.domain.stop import StopToken
from transship.domain.uri_filter import UriRules
from transship.sources.gate import UriGate
from transship.sources.web import Downloaded, PartTarget, SourceRequest, Validators, WebSource


def download(url: str, part: Path, notes: Path, range_bytes: int) -> Downloaded:
    """Download ``url`` to ``part`` over four connections."""
    rules = UriRules(allowed_hosts=("127.0.0.1",), allowed_ports=())
    limits = DownloadSettings(connections=4).model_copy(update={"range_bytes": range_bytes})

    def remember(validators: Validators) -> None:
        fresh = notes.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(validators)))
        os.replace(fresh, notes)

    resume = Validators(**json.loads(notes.read_text())) if notes.exists() else None
    target = PartTarget(part, remember, lambda _: None, lambda *_: None, resume)
    return WebSource(UriGate(rules), limits, 1 << 40).fetch(SourceRequest(url), target, StopToken())


if __name__ == "__main__":
    download(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
