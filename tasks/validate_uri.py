"""Judge the source once more, by the rules and the addresses of now."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.retrying import may_pass_next_time
from tasks.session import current
from tasks.sources import data_source, uri_gate
from transship.domain.errors import SourceNotAccepted
from transship.domain.uri_filter import display_uri
from transship.sources.judging import judged
from transship.sources.watch import Watch


@task(
    name="validate-uri",
    task_run_name="validate uri",
    cache_policy=NO_CACHE,
    retry_condition_fn=may_pass_next_time,
)
def validate_uri() -> str:
    """Return the source for display if it may be imported from.

    The rules may have changed since the request was accepted, or a name may lead elsewhere.

    Raises:
        SourceNotAccepted: it may not.
        SourceUnreachable: its name cannot be resolved now.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    session.board.enter("validate-uri")
    source = data_source(session)
    gate, uri = uri_gate(session, source), source.uri
    display, limits = display_uri(uri), session.settings.download
    watch = Watch(display, limits, session.stop)
    timeout_s = limits.connect_timeout_s
    return judged(lambda: gate.admit(uri), display, timeout_s, watch, SourceNotAccepted).uri.display
