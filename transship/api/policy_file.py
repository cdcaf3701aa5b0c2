"""Policy files: read, judged as a whole, and turned into oslo.policy's enforcer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Final

import structlog
import yaml
from oslo_config import cfg
from oslo_policy import policy

from transship.domain.errors import ConfigurationRefused
from transship.domain.policies import UNSERVED, defaults, has_no_effect

log = structlog.get_logger(__name__)

Rules = Mapping[str, Any]
"""Rules by name: a text, None, or (old syntax) a list of texts or of lists of texts."""

_OPTION: Final = "api.policy_file"
_REFERENCE: Final = re.compile(r"rule:([^\s()]+)")
_PLACEHOLDER: Final = re.compile(r"<[^<>:]*>")
"""A value that documentation leaves to the reader, such as ``<uuid of nova user>``."""

# It prints a trace for each rule that it does not understand; those are refused here.
logging.getLogger("oslo_policy._parser").setLevel(logging.CRITICAL + 1)


def read_policy_file(file: Path) -> Rules:
    """Return the rules of a policy file by name, including those that have no effect.

    Raises:
        ConfigurationRefused: the file cannot be read, or is not a mapping of names to rules.
    """
    if file.is_dir():
        remedy = "put the rules of its files into one file, and name that in api.policy_file"
        raise _refused(file, f"{file} is a directory, but rules are read from one file", remedy)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(file, f"it cannot be read: {error}") from error
    return rules_in(text, file)


def rules_in(text: str, file: Path) -> Rules:
    """Return the rules in the text of a policy file.

    Lines with commas at their ends, as in Glance's documentation, are accepted without the braces around them.

    Raises:
        ConfigurationRefused: as `read_policy_file`.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        try:
            found = yaml.safe_load(f"{{{text}\n}}")
        except yaml.YAMLError:
            raise _refused(file, f"it cannot be read: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise _refused(file, "it must map names of rules to rules")
    rules = {str(name): rule for name, rule in (found or {}).items()}
    for name, rule in rules.items():
        if not _is_rule(rule):
            raise _refused(file, f"the rule of {name} must be text")
    return rules


def _is_rule(rule: object) -> bool:
    if isinstance(rule, list):
        return all(isinstance(each, str | list) and all(isinstance(part, str) for part in each) for each in rule)
    return rule is None or isinstance(rule, str)


def enforcer_of(changed: Rules, file: Path | None, *, new_defaults: bool = True) -> policy.Enforcer:
    """Return what enforces the defaults with the changes of a policy file; log the changes that have no effect.

    Args:
        file: where the changes come from, for errors.
        new_defaults: False for Glance's older defaults.

    Raises:
        ConfigurationRefused: a rule cannot be understood, refers to an unknown rule or to itself, or restricts an
            operation of Glance that this release does not have.
    """
    conf = cfg.ConfigOpts()
    conf([], project="transship", default_config_files=[], default_config_dirs=[], use_env=False)
    enforcer = policy.Enforcer(conf, use_conf=False)
    known = {**defaults(new=new_defaults), **UNSERVED}
    effective = {name: _filled(rule) for name, rule in changed.items() if not has_no_effect(name)}
    enforcer.set_rules(policy.Rules.from_dict({**known, **effective}), use_conf=False)
    for name, rule in effective.items():
        # oslo.policy replaces what it does not understand by "!", which nobody passes.
        if str(enforcer.rules[name]).count("!") > str(rule).count("!"):
            raise _refused(file, f"the rule of {name} cannot be understood: {rule}", "correct it")
    _refuse_bad_references(enforcer.rules, file)
    for name in sorted(effective.keys() & UNSERVED.keys()):
        _refuse_restriction(enforcer, name, file)
    _log_without_effect(changed, known, file)
    return enforcer


def _filled(rule: Any) -> Any:
    """Return a rule whose placeholders are single words; they match nobody."""
    if not isinstance(rule, str):
        return rule
    return _PLACEHOLDER.sub(lambda found: re.sub(r"\s+", "_", found[0]), rule)


def _refuse_bad_references(rules: Mapping[str, Any], file: Path | None) -> None:
    """Refuse what oslo.policy would only log; it lets everybody pass a reference to a rule that does not exist."""
    references = {name: _REFERENCE.findall(str(check)) for name, check in rules.items()}
    for name, others in references.items():
        if unknown := [other for other in others if other not in rules]:
            raise _refused(file, f"the rule of {name} refers to {unknown[0]}, which does not exist", "correct it")
    try:
        TopologicalSorter(references).prepare()
    except CycleError as error:
        raise _refused(file, f"rules refer to themselves: {', '.join(error.args[1])}", "correct them") from error


def _refuse_restriction(enforcer: policy.Enforcer, name: str, file: Path | None) -> None:
    check, default = enforcer.rules[name], policy.Rules.from_dict({name: UNSERVED[name]})[name]
    while isinstance(check, policy.RuleCheck) and str(check) != str(default):
        check = enforcer.rules[check.match]
    if str(check) not in ("@", str(default)):
        reason = f"{name} restricts an operation that this release does not have, so it would have no effect"
        raise _refused(file, reason, f"remove {name} from the file")


def _log_without_effect(changed: Rules, known: Mapping[str, str], file: Path | None) -> None:
    referred = {name for rule in changed.values() for name in _REFERENCE.findall(str(rule))}
    unknown = changed.keys() - known.keys()
    ignored = {name for name in unknown if has_no_effect(name)}
    _log_rules("rules of the policy file ignored: they concern nothing that exists here", file, ignored)
    _log_rules("unknown rules in the policy file have no effect", file, unknown - ignored - referred)
    unfilled = {name for name, rule in changed.items() if isinstance(rule, str) and _PLACEHOLDER.search(rule)}
    _log_rules("rules of the policy file have placeholders, which match nobody", file, unfilled)


def _log_rules(message: str, file: Path | None, names: Iterable[str]) -> None:
    if names:
        log.warning(message, file=str(file), rules=",".join(sorted(names)))


def _refused(file: Path | None, reason: str, remedy: str = "") -> ConfigurationRefused:
    return ConfigurationRefused(str(file), _OPTION, reason, remedy)
