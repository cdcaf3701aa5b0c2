"""The log as a destination: one line of JSON per notification, under the logger names of oslo.messaging."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Final

from oslo_utils import strutils

from config.settings import NotificationSettings
from transship.domain.notification import Notification, Priority, SinkName, is_disabled, message_of

LOGGER: Final = "oslo.messaging.notification"
_LEVELS: Final = {Priority.INFO: logging.INFO, Priority.ERROR: logging.ERROR}


class LogLines:
    """Writes notifications to this process's log, regardless of its log level."""

    name = SinkName.LOG

    def __init__(self, settings: NotificationSettings) -> None:
        self._settings = settings
        logging.getLogger(LOGGER).setLevel(logging.INFO)

    def deliver(self, notifications: Sequence[Notification]) -> Iterator[Notification]:
        """Write a line for each notification, with passwords in properties masked, and yield it."""
        for notification in notifications:
            if not is_disabled(notification.event_type, self._settings.disabled):
                message = strutils.mask_dict_password(message_of(notification, self._settings.publisher_id))
                logger = logging.getLogger(f"{LOGGER}.{notification.event_type}")
                logger.log(_LEVELS[notification.priority], json.dumps(message))
            yield notification
