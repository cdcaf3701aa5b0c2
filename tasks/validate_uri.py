"""Judge the source once more, by the rules and the addresses of now."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.retrying import may_pass_next_time
from tasks.session import current
from tasks.sources import allowance, uri_gate
from transship.domain.errors import SourceNotAccepted, UriRefused


@task(
    name="validate-uri",
    task_run_name="validate uri",
    cache_policy=NO_CACHE,
    retries=0,
    retry_condition_fn=may_pass_next_time,
)
def validate_uri() -> str:
    """Return the source for display if it may be imported from.

    The rules may have changed since the request was accepted, or a name may lead elsewhere.

    Raises:
        SourceNotAccepted: it may not.
    """
    session = current()
    session.board.enter("validate-uri")
    try:
        return uri_gate(session).admit(session.begun.uri, allowance(session)).uri.display
    except UriRefused as refused:
        raise SourceNotAccepted(refused.uri, refused.rule, refused.reason) from refused
