"""The table of policies has the names and the defaults of a real Glance's code."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.fakes.openstack_peers import ENVIRONMENT
from transship.domain.policies import UNSERVED, defaults, has_no_effect

pytestmark = pytest.mark.peers

DUMP = """
import json
from glance import policies
rules = [rule for rule in policies.list_rules() if rule.name != "default"]
open_before = [rule.name for rule in rules if rule.deprecated_rule and rule.deprecated_rule.check_str == "rule:default"]
print(json.dumps({"defaults": {rule.name: rule.check_str for rule in rules}, "open": open_before}))
"""


def test_every_rule_of_glance_is_known_with_its_defaults() -> None:
    ran = subprocess.run([ENVIRONMENT / "bin" / "python", "-c", DUMP], capture_output=True, check=True)
    glance = json.loads(ran.stdout)
    ours, older = defaults(), defaults(new=False)
    assert {**ours, **UNSERVED} == {
        "default": "",
        **{name: default for name, default in glance["defaults"].items() if not has_no_effect(name)},
    }
    assert {name for name in ours if ours[name] != older[name]} == set(glance["open"]) & ours.keys()
