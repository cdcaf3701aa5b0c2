"""Our own login to a Keystone: provides tokens and makes requests with them.

keystoneauth1 fetches a token when needed, caches it, and fetches a new one before it expires.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

import requests
from keystoneauth1 import exceptions
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from config.settings import KeystoneLogin
from transship.domain.errors import ConfigurationRefused, IdentityRefused, IdentityUnavailable

_CONNECTIONS: Final = 32
"""Connections to Keystone that are kept open."""


class Login:
    """One account in one Keystone; used from any thread.

    Attributes:
        session: for libraries that need one.
    """

    def __init__(self, login: KeystoneLogin, *, system: bool = False) -> None:
        """Prepare the login without sending a request.

        Args:
            login: complete; with a password if ``system``.
            system: log in to the system instead of the project.
        """
        self._url = v3_url(login.auth_url)
        answers = requests.Session()
        # Ignore proxies in the environment: they would see passwords and tokens.
        answers.trust_env = False
        for scheme in ("http://", "https://"):
            answers.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self.session = Session(
            auth=_system_plugin(login) if system else _plugin(login),
            session=answers,
            verify=str(login.ca_file) if login.ca_file else True,
            timeout=login.timeout_s,
            redirect=False,
        )

    def token(self) -> str:
        """Return a token that stays valid for some time.

        Raises:
            IdentityUnavailable: Keystone does not answer.
            IdentityRefused: it rejects the account.
        """
        try:
            token = self.session.get_token()
        except exceptions.ClientException as error:
            raise self._fault(error) from error
        if not token:
            raise IdentityRefused(self._url, "it issued no token")
        return token

    def ask(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        """Return Keystone's response, of any status, to a GET with our token.

        Args:
            path: below ``/v3``, with its query.
            headers: further headers.

        Raises:
            IdentityUnavailable, IdentityRefused: as `token`.
        """
        try:
            return self.session.get(
                self._url + path,
                headers=dict(headers),
                raise_exc=False,
                # The headers hold a caller's token.
                log=False,
            )
        except exceptions.ClientException as error:
            raise self._fault(error) from error

    def _fault(self, error: exceptions.ClientException) -> IdentityUnavailable | IdentityRefused:
        if isinstance(error, exceptions.HttpError) and error.http_status < 500:
            return IdentityRefused(self._url, f"it answered HTTP {error.http_status} to the login")
        return IdentityUnavailable(self._url, type(error).__name__)


def refuse_bad_authority(option: str, login: KeystoneLogin) -> None:
    """Check that a login can read the file of authorities.

    Raises:
        ConfigurationRefused: it cannot be used; the error names the option.
    """
    if login.ca_file is None or login.ca_file.is_dir():  # requests accepts a directory of hashed names too
        return
    try:
        ssl.create_default_context(cafile=login.ca_file)
    except OSError as error:
        reason = f"{login.ca_file} cannot be read, or holds no certificate in PEM form ({error.strerror or error})"
        remedy = "name the file of the authorities of Keystone's certificate"
        raise ConfigurationRefused("settings", f"{option}.ca_file", reason, remedy) from error


def v3_url(auth_url: str) -> str:
    """Return the URL of Keystone's API v3; ``auth_url`` may omit the version."""
    bare = auth_url.rstrip("/")
    return bare if bare.endswith("/v3") else f"{bare}/v3"


def _plugin(login: KeystoneLogin) -> v3.Auth:
    if login.application_credential_id:
        return v3.ApplicationCredential(
            auth_url=v3_url(login.auth_url),
            application_credential_id=login.application_credential_id,
            application_credential_secret=login.application_credential_secret.get_secret_value(),
        )
    project_in_default = None if login.project_domain_id or login.project_domain_name else "default"
    return v3.Password(
        **_account(login),
        project_id=login.project_id or None,
        project_name=login.project_name or None,
        project_domain_id=login.project_domain_id or project_in_default,
        project_domain_name=login.project_domain_name or None,
    )


def _system_plugin(login: KeystoneLogin) -> v3.Auth:
    return v3.Password(**_account(login), system_scope="all")


def _account(login: KeystoneLogin) -> dict[str, Any]:
    in_default = None if login.user_domain_id or login.user_domain_name else "default"
    return {
        "auth_url": v3_url(login.auth_url),
        "user_id": login.user_id or None,
        "username": login.username or None,
        "password": login.password.get_secret_value(),
        "user_domain_id": login.user_domain_id or in_default,
        "user_domain_name": login.user_domain_name or None,
    }
