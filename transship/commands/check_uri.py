"""``transship check-uri``: would this URI be imported from, and which rule decides."""

from __future__ import annotations

from transship.commands.context import GREEN, RED, Invocation, coloured
from transship.logs import configure_logs
from transship.sources.gate import gate_from


def check_uri(invocation: Invocation, uri: str) -> int:
    """Print the verdict of the URI gate; return 0 when the URI is accepted, else 1."""
    configure_logs("ERROR", "check-uri")  # the verdict says it all
    verdict = gate_from(invocation.settings).explain(uri)
    print(coloured("accepted", GREEN) if verdict.accepted else coloured("refused", RED), verdict.uri)
    print(f"rule       {verdict.rule}")
    print(f"reason     {verdict.reason}")
    if verdict.addresses:
        print(f"addresses  {', '.join(verdict.addresses)}")
    return 0 if verdict.accepted else 1
