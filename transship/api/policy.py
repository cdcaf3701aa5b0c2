"""Access rules for an image's copies, in the language of OpenStack's policy files.

A policy file can change only the rules in this module; all others are in `domain.visibility`.

Source: Glance's policies in code, with the same names and defaults; oslo.policy parses and applies the rules.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog
import yaml
from oslo_config import cfg
from oslo_policy import policy

from transship.domain.errors import ConfigurationRefused, Forbidden
from transship.domain.image import Image
from transship.domain.visibility import Viewer, refuse_unless_seen

log = structlog.get_logger(__name__)

COPY_IMAGE: Final = "copy_image"
READ_LOCATIONS: Final = "get_image_location"
DELETE_LOCATION: Final = "delete_image_location"
DEACTIVATE: Final = "deactivate"
REACTIVATE: Final = "reactivate"

_ADMIN: Final = "rule:context_is_admin"
_OWN: Final = "project_id:%(project_id)s"

DEFAULTS: Final[Mapping[str, str]] = {
    "context_is_admin": "role:admin",
    COPY_IMAGE: _ADMIN,
    READ_LOCATIONS: f"{_ADMIN} or ((role:reader or role:member) and {_OWN})",
    DELETE_LOCATION: _ADMIN,
    DEACTIVATE: f"{_ADMIN} or (role:member and {_OWN})",
    REACTIVATE: f"{_ADMIN} or (role:member and {_OWN})",
}
"""The rules that a policy file may change, and their defaults."""


class Policy:
    """The rules in force; a changed file takes effect with the next request.

    If the file is missing or broken after a change, that is logged once and the former rules stay in force:
    oslo.policy's own reader would apply the defaults, which may allow more than the operator wants.

    Args:
        file: the policy file; None: the defaults apply.
        text: the file's text in the settings in force. It is used at start if the file itself cannot be used,
            because an invalid edit must not stop a running service. None: unknown.

    Raises:
        ConfigurationRefused: the file cannot be read, or is not a mapping of names to rules.
    """

    def __init__(self, file: Path | None, text: str | None = None) -> None:
        conf = cfg.ConfigOpts()
        conf([], project="transship", default_config_files=[], default_config_dirs=[], use_env=False)
        self._enforcer = policy.Enforcer(conf, use_conf=False)
        self._lock = threading.Lock()
        self._file = file
        self._read_as = _stamp_of(file)
        try:
            self._load(read_policy_file(file) if file is not None else {})
        except ConfigurationRefused as refused:
            if file is None or text is None:
                raise
            log.error("policy file cannot be used; using the rules from the settings in force", reason=str(refused))  # noqa: TRY400 - as below
            self._load(_rules_of(text, file))

    def _load(self, changed: Mapping[str, Any]) -> None:
        if others := sorted(changed.keys() - DEFAULTS.keys()):
            log.warning("rules of the policy file have no effect here", file=str(self._file), rules=",".join(others))
        self._enforcer.set_rules(policy.Rules.from_dict({**DEFAULTS, **changed}), use_conf=False)
        # Logs rules that refer to unknown rules or to themselves.
        self._enforcer.check_rules()

    def _follow_file(self) -> None:
        if self._file is None or (stamp := _stamp_of(self._file)) == self._read_as:
            return
        self._read_as = stamp
        try:
            self._load(read_policy_file(self._file))
        except ConfigurationRefused as refused:
            log.error("policy file cannot be used; the former rules stay in force", reason=str(refused))  # noqa: TRY400 - the trace says no more
        else:
            log.info("rules of the policy file read again", file=str(self._file))

    def allows(self, rule: str, viewer: Viewer, image: Image) -> bool:
        """Whether a rule allows the caller its operation on the image."""
        credentials: dict[str, object] = {"roles": list(viewer.roles)}
        if viewer.project_id:
            # A caller without a project owns nothing, not even images without an owner.
            credentials["project_id"] = viewer.project_id
        with self._lock:
            self._follow_file()
            return bool(self._enforcer.enforce(rule, _target(image), credentials))

    def refuse_unless(self, rule: str, viewer: Viewer, image: Image) -> None:
        """Refuse a caller unless a rule allows the operation.

        Raises:
            ImageNotFound: the caller may not see the image either.
            Forbidden: the caller may see it, but the rule does not allow the operation.
        """
        if self.allows(rule, viewer, image):
            return
        refuse_unless_seen(viewer, image)
        raise Forbidden(f"You are not permitted to complete {rule} on image {image.id}")


def _stamp_of(file: Path | None) -> tuple[int, int, int] | None:
    """Return a value that changes when a file is written or replaced; None if there is no file."""
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else None


def _target(image: Image) -> dict[str, object]:
    return {
        **image.properties,
        "id": image.id,
        "name": image.name,
        "status": str(image.status),
        "visibility": str(image.visibility),
        "protected": image.protected,
        "os_hidden": image.os_hidden,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "owner": image.owner,
        "project_id": image.owner,
    }


def read_policy_file(file: Path) -> Mapping[str, Any]:
    """Return the rules of a policy file by name, including those that have no effect here.

    Raises:
        ConfigurationRefused: the file cannot be read, or is not a mapping of names to rules.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationRefused(str(file), "api.policy_file", f"it cannot be read: {error}") from error
    return _rules_of(text, file)


def _rules_of(text: str, file: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationRefused(str(file), "api.policy_file", f"it cannot be read: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise ConfigurationRefused(str(file), "api.policy_file", "it must map names of rules to rules")
    rules = {str(name): rule for name, rule in (found or {}).items()}
    for name, rule in rules.items():
        if not _is_rule(rule):
            raise ConfigurationRefused(str(file), "api.policy_file", f"the rule of {name} must be text")
    return rules


def _is_rule(rule: object) -> bool:
    """Whether oslo.policy can parse it: a text, None, or (old syntax) a list of texts or of lists of texts."""
    if isinstance(rule, list):
        return all(isinstance(each, str | list) and all(isinstance(part, str) for part in each) for each in rule)
    return rule is None or isinstance(rule, str)
