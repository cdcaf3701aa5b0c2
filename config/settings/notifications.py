"""Notifications: which are sent, and how."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from config.settings.section import Section
from transship.domain.errors import ValueRefused
from transship.domain.notification import is_disabled


class NotificationDriver(StrEnum):
    """How notifications are sent, by oslo.messaging's names."""

    MESSAGING = "messaging"
    MESSAGING_V2 = "messagingv2"
    LOG = "log"
    NOOP = "noop"


class NotificationSettings(Section):
    """Notifications about images and tasks, for other services and for Prefect."""

    drivers: tuple[NotificationDriver, ...] = Field(
        (), description="Drivers: messagingv2, messaging (without envelope), log, noop; several are possible."
    )
    transport_url: SecretStr = Field(
        SecretStr(""),
        description="Message broker, rabbit://user:password@host:port[,...]/vhost; empty: rabbit:// on this machine.",
    )
    topics: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("notifications",), min_length=1, description="Topics. The queues are <topic>.info and <topic>.error."
    )
    publisher_id: str = Field("image.localhost", description="Publisher id in notifications.")
    disabled: tuple[str, ...] = Field(
        (),
        description="Event types that messaging and log leave out, e.g. image.update; image or task: all of them.",
    )
    prefect_events: bool = Field(
        False, description="Also send notifications to Prefect as events, for its event feed and for automations."
    )
    backlog_limit: int = Field(
        100_000, ge=100, description="Most notifications that wait for one driver; beyond that, the oldest are dropped."
    )

    def wants(self, event_type: str) -> bool:
        """Return whether any sink takes notifications of a type."""
        listens = bool(set(self.drivers) - {NotificationDriver.NOOP})
        return self.prefect_events or (listens and not is_disabled(event_type, self.disabled))

    @field_validator("transport_url")
    @classmethod
    def _is_of_rabbitmq(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if text and text.partition("://")[0] not in ("rabbit", "kombu"):
            raise ValueRefused("transport_url must begin with rabbit://", "no other broker is supported")
        return url
