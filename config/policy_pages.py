"""Generates ``config/samples/policy.yaml`` and the table of ``docs/policies.md`` from `transship.domain.policies`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from transship.domain.policies import RULES, PolicyRule

POLICY_SAMPLE_FILE: Final = Path("config/samples/policy.yaml")
POLICY_PAGE_FILE: Final = Path("docs/policies.md")
BEGIN: Final = "<!-- From here to the end: written by `python -m config.show`; do not edit. -->"


def policy_sample() -> str:
    """Return a policy file that holds every rule with its default, all commented out."""
    lines = [
        "# Policies of Transship. Every rule is listed with its default;",
        "# remove the '# ' before a rule to change it.",
        "#",
        "# Read from the file that api.policy_file names; a change takes effect at once.",
    ]
    for rule in RULES:
        lines += ["", f"# {rule.description}.", *(f"#   {operation}" for operation in rule.operations)]
        lines.append(f"# {_as_written(rule)}")
    return "\n".join(lines) + "\n"


def _as_written(rule: PolicyRule) -> str:
    return f"{json.dumps(rule.name)}: {json.dumps(rule.default)}"


def policy_page(page: str) -> str:
    """Return the page with a new table; the text before it is not changed."""
    rows = ["| rule | allows | asked by | default |", "| --- | --- | --- | --- |"]
    for rule in RULES:
        asked_by = "<br>".join(f"`{operation}`" for operation in rule.operations) or "other rules"
        rows.append(f"| `{rule.name}` | {rule.description} | {asked_by} | `{rule.default or '(everybody)'}` |")
    return page.partition(BEGIN)[0] + BEGIN + "\n\n" + "\n".join(rows) + "\n"
