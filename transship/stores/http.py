"""The http store: images at http and https URLs, which are only read.

Locations are whole URLs. Users may register them, so each request is judged like the source of an import: by the rules
of the section ``uri``, at the address that is then dialled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, NoReturn, Self

import structlog

from config.settings import DownloadSettings, Settings
from config.settings.stores.http import HttpStoreSettings
from config.snapshot import settings_in_force
from transship.domain.errors import (
    ConfigurationRefused,
    ObjectMissing,
    RedirectRefused,
    SourceBusy,
    SourceChanged,
    SourceNotAccepted,
    SourceRefused,
    SourceTookTooLong,
    SourceTooSlow,
    SourceTruncated,
    SourceUnreachable,
    SourceUntrusted,
    StoreDenied,
    StoreUnavailable,
    TransferFailed,
)
from transship.domain.staged import Progress, StagedFile
from transship.domain.stop import StopToken
from transship.domain.uri_filter import display_uri
from transship.sources.gate import gate_from
from transship.sources.transport import refuse_bad_authorities
from transship.sources.web import SourceRequest, WebSource
from transship.stores.base import NOTHING_KEPT, Content, StoredObject, StoreDriver, Unfinished
from transship.stores.staged_source import rejoined

_SCHEMES: Final = ("http://", "https://")
_MISSING: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED})

_REASONS: Final[Mapping[type[TransferFailed], str]] = {
    SourceBusy: "cannot be served now",
    SourceChanged: "changed while it was read",
    SourceTooSlow: "arrives too slowly",
    SourceTookTooLong: "did not arrive in time (download.total_timeout_s)",
    SourceTruncated: "broke off",
    SourceUnreachable: "cannot be reached",
    SourceUntrusted: "is on a server whose certificate is not accepted",
}
"""What happened to an image, after its name."""

log = structlog.get_logger("transship.stores")


class HttpStore(StoreDriver):
    """Read images at http and https URLs, as Glance's http store does.

    Args:
        store_id: id of the store, for messages.
        settings: of the store.
        site: returns all settings; called once, before the first request.
    """

    read_only = True

    def __init__(self, store_id: str, settings: HttpStoreSettings, site: Callable[[], Settings]) -> None:
        self._store_id = store_id
        self._settings = settings
        self._site = site
        self._source: WebSource | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, store_id: str, settings: HttpStoreSettings, _catalog_id: str) -> Self:
        """Return the driver that the settings describe; the site's rules are those of this process."""
        return cls(store_id, settings, lambda: settings_in_force().settings)

    def remedy(self) -> str:
        """Say what to look at."""
        return "Check ca_file, and with 'transship check-uri' whether the rules accept the image's URL"

    def prepare(self, known: Iterable[str], *, before: bool) -> None:
        """Do nothing: there is nothing to create, and nothing that could be away as a whole."""

    def put(
        self,
        image_id: str,
        staged: StagedFile,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Refuse to write.

        Raises:
            StoreDenied: always.
        """
        self._refuse()

    def size(self, url: str) -> int:
        """Return the size that the server announces; see `StoreDriver.size`."""
        with self._faults(url):
            return self._opened().size(self._request(url), StopToken())

    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield bytes of one version of the object; see `StoreDriver.read`."""
        if length == 0:
            self.size(url)
            return iter(())
        pieces = self._pieces(url, offset, length)
        return rejoined(next(pieces, b""), pieces)

    def delete(self, url: str) -> None:
        """Refuse to delete.

        Raises:
            StoreDenied: always.
        """
        self._refuse()

    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        """Refuse to remove anything.

        Raises:
            StoreDenied: always.
        """
        self._refuse()

    def url_of(self, image_id: str) -> str:
        """Refuse to name an object that will never be written.

        Raises:
            StoreDenied: always.
        """
        self._refuse()

    def own_url(self, url: str) -> str | None:
        """Return an http or https URL unchanged; see `StoreDriver.own_url`."""
        return url if url.lower().startswith(_SCHEMES) else None

    def contents(self) -> Iterator[Content]:
        """Yield nothing: the servers belong to others."""
        return iter(())

    def check(self) -> None:
        """Make sure that the authorities can be used; no server is asked, because each image has its own."""
        if self._settings.ca_file is not None:
            with self._configuration_faults():
                refuse_bad_authorities(DownloadSettings(ca_file=self._settings.ca_file))

    def _opened(self) -> WebSource:
        with self._lock:
            if self._source is None:
                with self._configuration_faults():
                    self._source = self._connected()
            return self._source

    def _connected(self) -> WebSource:
        site = self._site()
        limits = site.download
        if self._settings.ca_file is not None:
            limits = limits.model_copy(update={"ca_file": self._settings.ca_file})
        return WebSource(gate_from(site), limits, site.imports.image_size_cap_bytes)

    def _request(self, url: str) -> SourceRequest:
        if not url.lower().startswith(_SCHEMES):
            raise ObjectMissing(self._store_id, display_uri(url))
        return SourceRequest(url)

    def _pieces(self, url: str, offset: int, length: int | None) -> Iterator[bytes]:
        with self._faults(url):
            yield from self._opened().read(self._request(url), StopToken(), offset, length)

    def _refuse(self) -> NoReturn:
        raise StoreDenied(self._store_id, "it is read-only")

    @contextmanager
    def _configuration_faults(self) -> Iterator[None]:
        try:
            yield
        except ConfigurationRefused as refused:
            raise StoreUnavailable(self._store_id, f"{refused.option}: {refused.reason}", refused.remedy) from refused

    @contextmanager
    def _faults(self, url: str) -> Iterator[None]:
        """Translate the errors of sources into the store's. Users see these, so the URL is for the log alone."""
        try:
            yield
        except (ObjectMissing, StoreUnavailable):
            raise
        except TransferFailed as failed:
            log.warning("image at a URL not read", store=self._store_id, reason=failed.brief)
            raise self._translated(failed, ObjectMissing(self._store_id, display_uri(url))) from failed

    def _translated(self, failed: TransferFailed, missing: ObjectMissing) -> TransferFailed:
        if isinstance(failed, SourceNotAccepted | RedirectRefused):
            return StoreDenied(self._store_id, f"the rules for URLs refuse {missing.name} ({failed.rule})")
        if not isinstance(failed, SourceRefused):
            return StoreUnavailable(self._store_id, f"{missing.name} {_REASONS.get(type(failed), 'cannot be read')}")
        if failed.status in _MISSING:
            return missing
        kind = StoreDenied if failed.status in _DENIED else StoreUnavailable
        return kind(self._store_id, f"the server of {missing.name} answered HTTP {failed.status}: {failed.reason}")
