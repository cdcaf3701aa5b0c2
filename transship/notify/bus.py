"""The message bus: oslo.messaging, with the exchange, topics and envelopes that consumers of Glance expect.

Importing this costs seconds and 50 MB, so only a keeper with a messaging driver does.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from oslo_config import cfg

from config.glance.files import files_named
from config.settings import NotificationDriver, Settings
from transship.domain.errors import ConfigurationRefused, NotificationUndelivered
from transship.domain.notification import Notification, SinkName, is_disabled, message_of

with warnings.catch_warnings():
    # oslo.messaging imports deprecated modules, including eventlet, that it does not use here.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import oslo_messaging

CONTROL_EXCHANGE: Final = "glance"
DEFAULT_PORT: Final = 5672
_NO_URL: Final = "is not a transport URL of oslo.messaging, e.g. rabbit://user:password@host:5672/vhost"
_VERSIONS: Final = {NotificationDriver.MESSAGING: 1.0, NotificationDriver.MESSAGING_V2: 2.0}


class MessageBus:
    """One connection to a broker; each notification goes to ``<topic>.<priority>`` and is confirmed by the broker.

    Options of ``[oslo_messaging_rabbit]`` in Glance's files apply here too.

    Args:
        settings: in force.
        texts: what these files held when the settings were taken, as in `config.loading.LoadedSettings`; None: they
            are read now.

    Raises:
        ConfigurationRefused: the transport URL, or an option of its driver, cannot be used.
    """

    name = SinkName.BUS

    def __init__(self, settings: Settings, texts: Mapping[Path, str] | None = None) -> None:
        self._settings = settings.notifications
        # oslo.messaging would log a broken broker twice per attempt; the courier logs it once.
        logging.getLogger("oslo_messaging").setLevel(logging.CRITICAL)
        self._versions = [version for driver, version in _VERSIONS.items() if driver in self._settings.drivers]
        oslo_messaging.set_transport_defaults(CONTROL_EXCHANGE)
        options = cfg.ConfigOpts()
        with _glance_files(settings, texts) as files:
            options([], project=CONTROL_EXCHANGE, default_config_files=files, default_config_dirs=[], use_env=False)
        url = self._settings.transport_url.get_secret_value() or "rabbit://"
        try:
            parsed = oslo_messaging.TransportURL.parse(options, url)
            self._transport: Any = oslo_messaging.get_notification_transport(options, url)
        except cfg.Error as error:
            reason = f"its driver cannot be used: {error}"
            remedy = "options stand behind '?', or in [oslo_messaging_rabbit]"
            raise ConfigurationRefused("settings", "notifications.transport_url", reason, remedy) from error
        except (oslo_messaging.MessagingException, ValueError):
            # From none: the library's own error repeats the URL, which holds a password.
            raise ConfigurationRefused("settings", "notifications.transport_url", _NO_URL) from None
        self._hosts = parsed.hosts
        if any(host.port is not None and not 0 < host.port < 2**16 for host in self._hosts):
            raise ConfigurationRefused("settings", "notifications.transport_url", _NO_URL, "ports are 1 to 65535")

    def deliver(self, notifications: Sequence[Notification]) -> Iterator[Notification]:
        """Send in order, and yield each notification that the broker confirmed or that is never sent.

        Raises:
            NotificationUndelivered: the broker does not answer or refuses.
        """
        for notification in notifications:
            if not is_disabled(notification.event_type, self._settings.disabled):
                self._send(notification)
            yield notification

    def close(self) -> None:
        """Close the connection."""
        self._transport.cleanup()

    def _send(self, notification: Notification) -> None:
        for topic in self._settings.topics:
            target = oslo_messaging.Target(topic=f"{topic}.{notification.priority.lower()}")
            for version in self._versions:
                message = message_of(notification, self._settings.publisher_id)
                try:
                    # The public Notifier logs failed deliveries but does not report them to its caller.
                    self._transport._send_notification(target, {}, message, version, retry=0)  # noqa: SLF001
                except Exception as error:
                    # Whatever a driver raises, this notification waits, and the next one waits behind it.
                    raise NotificationUndelivered(SinkName.BUS, self._reason(error)) from error

    def _reason(self, error: Exception) -> str:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        for host in self._hosts:
            text = text.replace(host.password, "***") if host.password else text
        brokers = ", ".join(f"{host.hostname or 'localhost'}:{host.port or DEFAULT_PORT}" for host in self._hosts)
        return f"broker {brokers or 'localhost'}: {text}"


@contextmanager
def _glance_files(settings: Settings, texts: Mapping[Path, str] | None) -> Iterator[list[str]]:
    """Yield the paths of Glance's files, or of copies with the given texts, because oslo.config only reads files."""
    if texts is None:
        yield [str(path) for path in files_named(settings.glance_config, "settings")]
        return
    with TemporaryDirectory(prefix="transship-") as directory:  # mode 0700
        files: list[str] = []
        for path, text in texts.items():
            if path not in settings.api.rule_files:
                copy = Path(directory, str(len(files)))
                copy.write_text(text, encoding="utf-8")
                files.append(str(copy))
        yield files
