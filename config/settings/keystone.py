"""Logging in to a Keystone, and the Keystone that validates callers' tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from config.settings.section import AbsolutePath, Seconds, Section, web_url


class KeystoneLogin(Section):
    """A login to a Keystone."""

    auth_url: str = Field("", description="URL of the Keystone, e.g. https://keystone.example.org/v3.")
    username: str = Field("", description="User to log in as.")
    user_id: str = Field(
        "", description="Id of the user to log in as; needs no domain and takes precedence over username."
    )
    password: SecretStr = Field(SecretStr(""), description="Password of that user.")
    user_domain_id: str = Field("", description="Domain id of username. Without id and name: default.")
    user_domain_name: str = Field("", description="Domain name of username.")
    project_name: str = Field("", description="Project to log in to.")
    project_id: str = Field(
        "", description="Id of the project; needs no domain and takes precedence over project_name."
    )
    project_domain_id: str = Field("", description="Domain id of project_name. Without id and name: default.")
    project_domain_name: str = Field("", description="Domain name of project_name.")
    application_credential_id: str = Field(
        "", description="Id of an application credential to log in with instead of a user."
    )
    application_credential_secret: SecretStr = Field(SecretStr(""), description="Secret of application_credential_id.")
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file with the certificate authorities of Keystone; unset: the system's."
    )
    timeout_s: Seconds = Field(10.0, description="Longest wait for an answer from Keystone.")

    @property
    def complete(self) -> bool:
        """Whether all required parts of a login are set."""
        secret = self.application_credential_secret.get_secret_value()
        account = (self.username or self.user_id) and (self.project_name or self.project_id)
        by_password = bool(account and self.password.get_secret_value())
        return bool(self.auth_url) and (by_password or bool(self.application_credential_id and secret))

    @field_validator("auth_url")
    @classmethod
    def _keystone_can_be_asked(cls, url: str) -> str:
        return web_url("auth_url", url)


class AuthSettings(KeystoneLogin):
    """The Keystone that validates the tokens of API callers if api.auth is keystone."""

    www_authenticate_uri: str = Field("", description="Keystone URL sent to unauthenticated callers; empty: auth_url.")
    token_cache_s: Annotated[float, Field(ge=0)] = Field(
        300.0, description="Seconds that a validated token is cached. A revoked token stays valid for that long."
    )
    token_cache_size: int = Field(10000, ge=1, description="Tokens that each process caches.")
    service_token_roles: tuple[str, ...] = Field(
        ("service",), description="Roles whose X-Service-Token makes an expired user token acceptable."
    )
