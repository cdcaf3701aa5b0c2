"""``transship check-uri``: would this URI be imported from, and which rule decides."""

from __future__ import annotations

from transship.commands.context import GREEN, RED, YELLOW, Invocation, coloured
from transship.host.logs import configure_logs
from transship.sources.gate import gate_from
from transship.sources.judging import explained


def check_uri(invocation: Invocation, uri: str) -> int:
    """Print the verdict of the URI gate; return 0 when the URI is accepted, else 1.

    Undecided is a URI whose name nobody resolves now: the service answers 503 to it, and imports try again.
    """
    configure_logs("ERROR", "check-uri")  # the verdict says it all
    verdict = explained(gate_from(invocation.settings), uri, invocation.settings.download)
    refusal = coloured("undecided", YELLOW) if verdict.undecided else coloured("refused", RED)
    print(coloured("accepted", GREEN) if verdict.accepted else refusal, verdict.uri)
    print(f"rule       {verdict.rule}")
    print(f"reason     {verdict.reason}")
    if verdict.addresses:
        print(f"addresses  {', '.join(verdict.addresses)}")
    return 0 if verdict.accepted else 1
