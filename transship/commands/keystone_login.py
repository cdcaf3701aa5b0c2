"""The token with which commands call an Images API that uses Keystone, from the variables of an openrc file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr, ValidationError

from config.settings import KeystoneLogin, Settings
from transship.commands.api_address import api_address, require_this_service
from transship.commands.images_api import ImagesApi
from transship.domain.errors import CommandRefused

_VARIABLES: Final[Mapping[str, str]] = {
    "auth_url": "OS_AUTH_URL",
    "username": "OS_USERNAME",
    "user_id": "OS_USER_ID",
    "user_domain_id": "OS_USER_DOMAIN_ID",
    "user_domain_name": "OS_USER_DOMAIN_NAME",
    "project_name": "OS_PROJECT_NAME",
    "project_id": "OS_PROJECT_ID",
    "project_domain_id": "OS_PROJECT_DOMAIN_ID",
    "project_domain_name": "OS_PROJECT_DOMAIN_NAME",
    "application_credential_id": "OS_APPLICATION_CREDENTIAL_ID",
}
_SECRETS: Final[Mapping[str, str]] = {
    "password": "OS_PASSWORD",
    "application_credential_secret": "OS_APPLICATION_CREDENTIAL_SECRET",
}


def images_api(settings: Settings) -> ImagesApi:
    """Return a client for this service's Images API, with a token if the API requires one.

    Raises:
        CommandRefused: the API requires a token, and the environment does not say how to get one; or this host has no
            Images API of its own, and `api.public_endpoint` leads to another service.
        ServiceUnreachable, ConfigurationRefused, CatalogUnavailable: on a host without an Images API, the service at
            `api.public_endpoint` cannot be identified.
    """
    url = api_address(settings)
    if url != settings.api_url:
        require_this_service(settings, url)
    return ImagesApi(url, token_source(os.environ) if settings.api.auth == "keystone" else None)


def token_source(environ: Mapping[str, str]) -> Callable[[], str]:
    """Return a function that returns the token of the account in a sourced openrc file.

    Args:
        environ: the variables of the ``openstack`` command; ``OS_TOKEN`` is used as it is.

    Raises:
        CommandRefused: they do not name an account.
    """
    given = environ.get("OS_TOKEN", "")
    if given:
        return lambda: given
    texts = {option: environ.get(name, "") for option, name in _VARIABLES.items()}
    secrets = {option: SecretStr(environ.get(name, "")) for option, name in _SECRETS.items()}
    authority = environ.get("OS_CACERT")
    try:
        login = KeystoneLogin.model_validate({**texts, **secrets, "ca_file": Path(authority) if authority else None})
    except ValidationError as error:
        raise CommandRefused(f"OS_AUTH_URL cannot be used: {error.errors(include_input=False)[0]['msg']}") from error
    if not login.complete:
        raise CommandRefused(
            "the Images API requires a Keystone token",
            "source an openrc file, or set OS_TOKEN (required are OS_AUTH_URL, OS_USERNAME or OS_USER_ID, OS_PASSWORD,"
            " OS_PROJECT_NAME or OS_PROJECT_ID, or an application credential)",
        )
    # Importing keystoneauth1 takes a quarter of a second, so it is only done if Keystone is used.
    from transship.identity.login import Login  # noqa: PLC0415

    return Login(login).token
