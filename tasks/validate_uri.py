"""Judge the source again, with the current rules and addresses."""

from __future__ import annotations

from tasks.retrying import as_downloads
from tasks.session import current
from tasks.sources import uri_gate
from tasks.steps import step
from transship.catalog.imports import Begun
from transship.domain.errors import SourceNotAccepted
from transship.domain.import_data import Done, JudgedSource
from transship.domain.uri_filter import display_uri
from transship.sources.judging import judged
from transship.sources.watch import Watch


@step("validate-uri", "validate uri", as_downloads)
def validate_uri(begun: Begun) -> Done[JudgedSource]:
    """Return the source of a web-download if it is allowed.

    The rules, or the addresses of the name, may have changed since the request was accepted.

    Raises:
        SourceNotAccepted: it is not allowed.
        SourceUnreachable: its name cannot be resolved now.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    session.board.enter("validate-uri")
    gate = uri_gate(session)
    display, limits = display_uri(begun.uri), session.settings.download
    watch = Watch(display, limits, session.stop)
    timeout_s = limits.connect_timeout_s
    admitted = judged(lambda: gate.admit(begun.uri), display, timeout_s, watch, SourceNotAccepted)
    return Done(JudgedSource(begun.uri, admitted.uri.display, begun.image, admitted.addresses))
