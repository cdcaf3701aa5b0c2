"""``transship check-uri``: whether images may be imported from a URI, and which rule decides."""

from __future__ import annotations

from dataclasses import asdict

from transship.commands.context import GREEN, RED, YELLOW, Invocation, coloured, print_json
from transship.host.logs import configure_logs
from transship.sources.gate import gate_from
from transship.sources.judging import explained


def check_uri(invocation: Invocation, uri: str, *, as_json: bool = False) -> int:
    """Print the verdict of the URI gate; return 0 when the URI is accepted, else 1.

    A URI whose host name cannot be resolved now is undecided: the service answers 503, and imports retry.
    """
    configure_logs("ERROR", "check-uri")  # the verdict says it all
    verdict = explained(gate_from(invocation.settings), uri, invocation.settings.download)
    if as_json:
        print_json(asdict(verdict))
        return 0 if verdict.accepted else 1
    refusal = coloured("undecided", YELLOW) if verdict.undecided else coloured("refused", RED)
    print(coloured("accepted", GREEN) if verdict.accepted else refusal, verdict.uri)
    print(f"rule       {verdict.rule}")
    print(f"reason     {verdict.reason}")
    if verdict.addresses:
        print(f"addresses  {', '.join(verdict.addresses)}")
    return 0 if verdict.accepted else 1
