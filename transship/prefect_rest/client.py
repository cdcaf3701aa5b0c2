"""A client for one Prefect server over HTTP; the requests themselves are defined where they are needed.

Source: Prefect 3.9, REST API reference.
"""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import Any, Final, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from config.secrets import prefect_auth_string
from config.settings import Settings
from transship.domain.errors import PrefectAway, PrefectRefused

TIMEOUT_S: Final = (2, 15)
"""Timeouts in seconds for connecting, and for each read of a response."""

BUSY: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""Statuses of a server that has changed nothing. On SQLite it returns the second when two writes collide."""


NOTHING_LISTENS: Final = "nothing listens there"


def why_silent(error: requests.RequestException) -> str:
    """Return why a service did not answer a request."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted here"
    if isinstance(error, requests.ConnectTimeout):
        return "it does not accept the connection in time"
    if isinstance(error, requests.Timeout):
        return "it does not answer in time"
    if not isinstance(error, requests.ConnectionError):
        return type(error).__name__
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, ConnectionRefusedError):
        return NOTHING_LISTENS
    if isinstance(cause, socket.gaierror):
        return "its host name cannot be resolved"
    return (isinstance(cause, OSError) and cause.strerror) or "the connection was cut"


class PrefectRest:
    """A client of one Prefect server; for one thread.

    Args:
        url: API URL without a trailing slash.
        auth_string: ``user:password``; empty for a server without a login.
        tries_when_busy: how often a request is sent again, within some seconds, to a server that is busy.
    """

    def __init__(self, url: str, auth_string: str, *, tries_when_busy: int = 0) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        again = Retry(
            total=tries_when_busy,
            connect=0,
            read=0,
            other=0,
            backoff_factor=0.1,
            status_forcelist=BUSY,
            allowed_methods=None,
            raise_on_status=False,
        )
        self._session.mount("http", HTTPAdapter(pool_maxsize=4, max_retries=again))
        if auth_string:
            user, _, password = auth_string.partition(":")
            self._session.auth = (user, password)

    @classmethod
    def of(cls, settings: Settings, *, tries_when_busy: int = 0) -> Self:
        """Return a client for the server in the settings.

        Raises:
            ConfigurationRefused: its login cannot be read.
        """
        return cls(settings.prefect_api_url, prefect_auth_string(settings), tries_when_busy=tries_when_busy)

    def __enter__(self) -> Self:
        """Close the connections when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._session.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request, and return the JSON of the response; None if the response has no body.

        Args:
            path: below the API's URL.
            body: sent as JSON; None: no body.

        Raises:
            PrefectAway, PrefectRefused: as far as is known, nothing was done.
        """
        try:
            answer = self._session.request(method, self.url + path, json=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise PrefectAway(why_silent(error)) from error
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code in (
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.TOO_MANY_REQUESTS,
        ):
            raise PrefectAway(f"HTTP {answer.status_code}")
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise PrefectRefused(answer.status_code, answer.text[:500] or answer.reason)
        try:
            return answer.json() if answer.content else None
        except requests.JSONDecodeError as error:
            raise PrefectAway("what answers there is not Prefect") from error
