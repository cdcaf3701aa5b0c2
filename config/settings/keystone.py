"""Who we are in a Keystone, and which one says who calls us."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from config.settings.section import AbsolutePath, Seconds, Section, web_url


class KeystoneLogin(Section):
    """Who we are in a Keystone."""

    auth_url: str = Field("", description="Keystone to log in to, e.g. https://keystone.example.org/v3.")
    username: str = Field("", description="User to log in as.")
    user_id: str = Field(
        "", description="User to log in as by its id, which no domain is needed with; wins over username."
    )
    password: SecretStr = Field(SecretStr(""), description="Password of that user.")
    user_domain_id: str = Field("", description="Domain of username; neither id nor name: default.")
    user_domain_name: str = Field("", description="Domain of username by its name.")
    project_name: str = Field("", description="Project to log in to.")
    project_id: str = Field("", description="Its id, with which no domain is needed; wins over project_name.")
    project_domain_id: str = Field("", description="Domain of project_name; neither id nor name: default.")
    project_domain_name: str = Field("", description="Domain of project_name by its name.")
    application_credential_id: str = Field("", description="Application credential to log in with, instead of a user.")
    application_credential_secret: SecretStr = Field(SecretStr(""), description="Secret of application_credential_id.")
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file of the authorities of Keystone's certificate; unset: the system's."
    )
    timeout_s: Seconds = Field(10.0, description="Longest wait for an answer of Keystone.")

    @property
    def complete(self) -> bool:
        """Whether everything that a login needs is set."""
        secret = self.application_credential_secret.get_secret_value()
        account = (self.username or self.user_id) and (self.project_name or self.project_id)
        by_password = bool(account and self.password.get_secret_value())
        return bool(self.auth_url) and (by_password or bool(self.application_credential_id and secret))

    @field_validator("auth_url")
    @classmethod
    def _keystone_can_be_asked(cls, url: str) -> str:
        return web_url("auth_url", url)


class AuthSettings(KeystoneLogin):
    """The Keystone that says who calls the Images API, with api.auth = keystone."""

    www_authenticate_uri: str = Field("", description="Keystone's address that callers are told; empty: auth_url.")
    token_cache_s: Annotated[float, Field(ge=0)] = Field(
        300.0, description="Seconds that Keystone's word on a token is believed; a revoked token is good for as long."
    )
    token_cache_size: int = Field(10000, ge=1, description="Tokens that one process remembers.")
    service_token_roles: tuple[str, ...] = Field(
        ("service",), description="Roles whose X-Service-Token lets an expired token of a user pass."
    )
