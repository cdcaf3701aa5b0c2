"""Request a source and follow its redirects until there is data or a definite error."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from transship.domain.errors import RedirectRefused, SourceNotAccepted, SourceRefused
from transship.domain.uri_filter import SourceUri, display_uri
from transship.sources.answer import REDIRECTS, WHOLE, failure_of, whole_part
from transship.sources.connection import Connection
from transship.sources.gate import Admitted, UriGate
from transship.sources.judging import judged
from transship.sources.slots import ConnectionSlots, Release
from transship.sources.transport import Transport, translated_errors
from transship.sources.watch import Waiting

log = structlog.get_logger(__name__)

_WITH_RANGE: Final = WHOLE | {206, 416}
_SENDS_BACK: Final = (RedirectRefused, SourceNotAccepted, SourceRefused)
"""Failures of a remembered redirect target after which the original URI is tried again, e.g. an expired signature."""


class NoSlotFree(Exception):
    """No further connection to this host is allowed now."""


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What to request.

    Attributes:
        uri: as the caller gave it; may hold secrets, which no error repeats.
        headers: sent only to the origin of ``uri``, e.g. a token; redirects to other origins do not get them.
        pinned: what else identifies this version of the source, e.g. a digest that the caller compares at the end.
            Resuming and ranges then need no validators of the server.
    """

    uri: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    pinned: str = ""

    @property
    def display(self) -> str:
        """The URI for people."""
        return display_uri(self.uri)


class SourceClient:
    """Requests one source, any number of times, from any thread.

    The target of redirects is remembered for requests of ranges. Otherwise a redirector could mix ranges of different
    mirrors, and would have to sign a short-lived URL for each range.

    Args:
        gate: judges the URI and each redirect.
        transport: how sources are reached.
        slots: limit connections to one host.
        request: what to request.
    """

    def __init__(
        self, gate: UriGate, transport: Transport, slots: ConnectionSlots | None, request: SourceRequest
    ) -> None:
        self._gate = gate
        self._transport = transport
        self._slots = slots
        self._request = request
        self._home: tuple[str, str, int] | None = None
        self._end: Admitted | None = None

    def get(self, wanted: Mapping[str, str], watch: Waiting, *, wait_for_slot: bool = True) -> Connection:
        """Return a response that holds the whole source; if ``wanted`` has a ``Range``, also any 206 and 416.

        A range is requested from the remembered redirect target, which is judged again. If the target refuses, and for
        whole sources, the request starts at the original URI.

        Args:
            wanted: further headers.
            watch: ends the wait.
            wait_for_slot: wait until this machine may have another connection to the host.

        Raises:
            NoSlotFree: no connection is allowed now, and ``wait_for_slot`` is false.
            SourceNotAccepted, RedirectRefused: the gate refused the URI or a redirect.
            SourceUnreachable, SourceUntrusted, SourceBusy, SourceRefused: no usable response.
            TransferFailed, LockLost: a limit of the watch.
        """
        # One function keeps the number of frames between a task and the socket small.
        data = _WITH_RANGE if "Range" in wanted else WHOLE
        remembered = self._end if "Range" in wanted else None
        while True:
            try:
                source = first = self._admitted(remembered.uri.text if remembered else self._request.uri, watch)
                if remembered is None:
                    self._home, self._end = _origin(first.uri), None
                for _ in range(self._gate.rules.max_redirects + 1):
                    private = self._request.headers if _origin(source.uri) == self._home else {}
                    with ExitStack() as undo:
                        undo.callback(self._slot(source.uri.host, watch, wait_for_slot))
                        answer = self._transport.connect(source, watch)
                        undo.callback(answer.close)
                        with translated_errors(answer):
                            answer.send(self._transport.request(source, {**wanted, **private}))
                            answer.read_head()
                        answer.when_closed(undo.pop_all().close)
                    if answer.status in data or whole_part(answer.status, answer.headers) is not None:
                        if source is not first:
                            self._end = source
                        return answer
                    answer.close()
                    source = self._redirected(answer, watch)
                most = self._gate.rules.max_redirects
                raise RedirectRefused(source.uri.display, "max_redirects", f"more than {most} redirects in a row")
            except _SENDS_BACK as refused:
                if remembered is None:
                    raise
                log.info("asking the source itself again", uri=remembered.uri.display, reason=str(refused))
                remembered = None

    def _slot(self, host: str, watch: Waiting, wait_for_slot: bool) -> Release:
        if self._slots is None:
            return lambda: None
        release = self._slots.take(host, watch) if wait_for_slot else self._slots.take_one_more(host)
        if release is None:
            raise NoSlotFree
        return release

    def _admitted(self, uri: str, watch: Waiting) -> Admitted:
        timeout_s = self._transport.limits.connect_timeout_s
        return judged(lambda: self._gate.admit(uri), display_uri(uri), timeout_s, watch, SourceNotAccepted)

    def _redirected(self, answer: Connection, watch: Waiting) -> Admitted:
        """Return where a response redirects to.

        Raises:
            SourceBusy, SourceRefused: it is not a redirect.
            RedirectRefused: the gate refused it.
        """
        if answer.status not in REDIRECTS:
            cap_s = self._transport.limits.retry_after_cap_s
            raise failure_of(answer.display, answer.status, answer.headers, cap_s, datetime.now(UTC))
        before = answer.source.uri
        location = _location(answer)
        return judged(
            lambda: self._gate.admit_redirect(before, location),
            before.display,
            self._transport.limits.connect_timeout_s,
            watch,
            lambda _uri, *why: RedirectRefused(before.display, *why),
        )


def _origin(uri: SourceUri) -> tuple[str, str, int]:
    """Return the origin (RFC 6454); credentials are sent to the same origin only."""
    return uri.scheme, uri.host, uri.effective_port


def _location(answer: Connection) -> str:
    """Return the ``Location`` as text; http.client decodes headers as Latin-1 but most servers send UTF-8."""
    value = str(answer.headers.get("Location", "")).strip(" \t")
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
