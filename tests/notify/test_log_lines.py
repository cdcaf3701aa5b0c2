"""The log as a destination."""

from __future__ import annotations

import json
import logging

import pytest

from config.settings import NotificationSettings
from tests.fakes.notifications import notification
from transship.domain.notification import Priority
from transship.notify.log_lines import LogLines


def test_each_is_a_line_of_json_also_when_the_log_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("oslo").setLevel(logging.ERROR)
    lines = LogLines(NotificationSettings.model_validate({"drivers": ["log"], "disabled": ["task"]}))
    failed = notification(2, event_type="image.upload", priority=Priority.ERROR, payload="full")
    sent = [notification(1), failed, notification(3, event_type="task.run")]
    assert list(lines.deliver(sent)) == sent
    written = [record for record in caplog.records if record.name.startswith("oslo.messaging.notification")]
    assert [(record.name.rpartition("notification.")[2], record.levelname) for record in written] == [
        ("image.update", "INFO"),
        ("image.upload", "ERROR"),
    ]
    assert json.loads(written[1].getMessage())["payload"] == "full"


def test_passwords_in_properties_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines(NotificationSettings.model_validate({"drivers": ["log"]}))
    list(lines.deliver([notification(1, payload={"properties": {"admin_pass": "hush"}})]))
    assert "hush" not in caplog.text
