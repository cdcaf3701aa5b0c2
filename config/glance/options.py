"""The options of Glance that map to settings, and those that are known but not supported.

`config.glance.files` reads the files; the tables in docs/glance-configuration.md are generated from these.

Source: Glance, options of ``glance-api.conf`` and ``glance-image-import.conf``; glance_store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oslo_config import types

from config.glance.option import STORE_SECTION, IgnoredOption, MappedOption, Reading
from config.glance.readers import (
    read_boolean,
    read_cache_time,
    read_hosts,
    read_inject,
    read_integer,
    read_optional_path,
    read_plain_list,
    read_port,
    read_ports,
    read_staging_uri,
    read_storage,
    read_text,
    read_words,
)
from config.settings import NotificationDriver
from config.settings.stores import KINDS
from transship.domain.errors import ValueRefused
from transship.domain.methods import OFFERED, ImportMethod

DEFAULT_SECTION: Final = "DEFAULT"
NOTIFICATIONS_SECTION: Final = "oslo_messaging_notifications"

_SPELLED: Final = "brackets, quotes and ... are removed with a warning"
_DRIVERS: Final = tuple(driver.value for driver in NotificationDriver)
_OTHER_DRIVERS: Final = ("routing", "test")
_METHODS: Final = types.List(types.String(quotes=True, choices=[method.value for method in OFFERED]), bounds=True)


def read_methods(text: str) -> Reading:
    """Return the import methods in a list."""
    try:
        return Reading([ImportMethod(name).value for name in _METHODS(text)])
    except ValueError as error:
        known = ", ".join(OFFERED)
        raise ValueRefused(str(error), f"write a list in brackets of these methods: {known}") from error


def read_drivers(text: str) -> Reading:
    """Return the supported notification drivers, and a warning that names the others."""
    asked = [name for name in (each.strip() for each in text.split(",")) if name]
    unknown = [name for name in asked if name not in (*_DRIVERS, *_OTHER_DRIVERS)]
    if unknown:
        raise ValueRefused(f"there is no driver {', '.join(unknown)}", f"choose from {', '.join(_DRIVERS)}")
    dropped = [name for name in asked if name in _OTHER_DRIVERS]
    warnings = (f"{', '.join(dropped)}: not supported, ignored; supported: {', '.join(_DRIVERS)}",) if dropped else ()
    return Reading([name for name in asked if name in _DRIVERS], warnings)


def read_flavor(text: str) -> Reading:
    """Return the kind of authentication from the name of a pipeline in Glance's paste file."""
    parts = set(text.strip().lower().split("+")) - {"caching", "cachemanagement", "none", ""}
    if parts - {"keystone"}:
        raise ValueRefused("this pipeline is not supported", "use keystone, or remove the option")
    return Reading("keystone" if parts else "none")


STAGING_URI: Final = (DEFAULT_SECTION, "node_staging_uri")
STAGING_STORE: Final = ("os_glance_staging_store", "filesystem_store_datadir")
"""Options for the staging directory; Glance reads the second one if ``enabled_backends`` is set."""

_POLICY: Final = "oslo_policy"
POLICY_FILE: Final = (_POLICY, "policy_file")
POLICY_DIRS: Final = (_POLICY, "policy_dirs")
PROTECTION_FILE: Final = (DEFAULT_SECTION, "property_protection_file")

_AUTHTOKEN: Final = "keystone_authtoken"
_LOGIN: Final = (
    *("auth_url", "username", "user_id", "password", "user_domain_id", "user_domain_name"),
    *("project_name", "project_id", "project_domain_id", "project_domain_name"),
    *("application_credential_id", "application_credential_secret"),
)
_SECRETS: Final = ("password", "application_credential_secret")
_FALLBACK_URL: Final = "used if [oslo_messaging_notifications] transport_url is not set"
_SHARED_STAGING: Final = "no running Glance may share this directory; staging.dir sets another one"

OPTIONS: Final = (
    MappedOption(
        DEFAULT_SECTION,
        "enabled_import_methods",
        "imports.enabled_methods",
        read_methods,
        "methods that this release does not offer are ignored with a warning",
    ),
    MappedOption(
        *STAGING_URI,
        "staging.dir",
        read_staging_uri,
        "used if enabled_backends is not set, or the other option is missing",
        warning=_SHARED_STAGING,
    ),
    MappedOption(
        DEFAULT_SECTION,
        "public_endpoint",
        "api.public_endpoint",
        read_text,
        "clients are sent there even if a Glance still answers there; transship doctor checks it",
    ),
    MappedOption(
        DEFAULT_SECTION,
        "bind_host",
        "api.host",
        read_text,
        "an address other than loopback is used only if api.auth is keystone or api.accept_anyone is true; otherwise it"
        " is ignored with a warning",
    ),
    MappedOption(DEFAULT_SECTION, "bind_port", "api.port", read_port),
    MappedOption(DEFAULT_SECTION, "limit_param_default", "api.limit_param_default", read_integer),
    MappedOption(DEFAULT_SECTION, "api_limit_max", "api.api_limit_max", read_integer),
    MappedOption(DEFAULT_SECTION, "max_request_id_length", "api.max_request_id_length", read_integer),
    MappedOption(DEFAULT_SECTION, "image_size_cap", "imports.image_size_cap_bytes", read_integer),
    MappedOption(
        DEFAULT_SECTION, "hashing_algorithm", "imports.hashing_algorithm", read_text, "sha256, sha384 or sha512"
    ),
    MappedOption(DEFAULT_SECTION, "do_secure_hash", "imports.do_secure_hash", read_boolean),
    MappedOption(DEFAULT_SECTION, "show_image_direct_url", "api.show_image_direct_url", read_boolean),
    MappedOption(DEFAULT_SECTION, "show_multiple_locations", "api.show_multiple_locations", read_boolean),
    MappedOption(DEFAULT_SECTION, "image_property_quota", "quota.image_property_quota", read_integer),
    MappedOption(DEFAULT_SECTION, "image_tag_quota", "quota.image_tag_quota", read_integer),
    MappedOption(DEFAULT_SECTION, "image_member_quota", "quota.image_member_quota", read_integer),
    MappedOption(DEFAULT_SECTION, "image_location_quota", "quota.image_location_quota", read_integer),
    MappedOption(
        DEFAULT_SECTION,
        "user_storage_quota",
        "quota.user_storage_bytes",
        read_storage,
        "without effect if use_keystone_limits is true",
    ),
    MappedOption(DEFAULT_SECTION, "use_keystone_limits", "quota.unified_limits", read_boolean),
    MappedOption("oslo_limit", "endpoint_id", "quota.endpoint_id", read_text),
    MappedOption("oslo_limit", "endpoint_region_name", "quota.endpoint_region_name", read_text),
    MappedOption(
        "paste_deploy",
        "flavor",
        "api.auth",
        read_flavor,
        "keystone, also with caching or cachemanagement; otherwise none",
    ),
    *(
        MappedOption(_AUTHTOKEN, name, f"auth.{name}", read_text, secret=name in _SECRETS)
        for name in ("www_authenticate_uri", *_LOGIN)
    ),
    MappedOption(_AUTHTOKEN, "cafile", "auth.ca_file", read_optional_path),
    MappedOption(_AUTHTOKEN, "token_cache_time", "auth.token_cache_s", read_cache_time, "-1: no cache"),
    MappedOption(
        _AUTHTOKEN, "service_token_roles", "auth.service_token_roles", read_plain_list, "they are always required"
    ),
    MappedOption(
        *POLICY_FILE,
        "api.policy_file",
        read_text,
        "looked up beside these files; without the option: policy.yaml or policy.json, if it exists",
    ),
    MappedOption(*PROTECTION_FILE, "api.property_protection_file", read_text, "looked up beside these files"),
    MappedOption(DEFAULT_SECTION, "property_protection_rule_format", "api.property_protection_rule_format", read_text),
    MappedOption(_POLICY, "enforce_new_defaults", "api.enforce_new_defaults", read_boolean),
    MappedOption("oslo_middleware", "enable_proxy_headers_parsing", "api.enable_proxy_headers_parsing", read_boolean),
    *(
        MappedOption("cors", name, f"cors.{name}", read)
        for name, read in {
            "allowed_origin": read_plain_list,
            "allow_credentials": read_boolean,
            "expose_headers": read_plain_list,
            "max_age": read_integer,
            "allow_methods": read_plain_list,
            "allow_headers": read_plain_list,
        }.items()
    ),
    MappedOption("task", "task_time_to_live", "imports.task_time_to_live_h", read_integer, "hours"),
    MappedOption("image_format", "disk_formats", "formats.disk_formats", read_plain_list),
    MappedOption("image_format", "container_formats", "formats.container_formats", read_plain_list),
    MappedOption("image_format", "vmdk_allowed_types", "formats.vmdk_allowed_types", read_plain_list),
    MappedOption("image_format", "require_image_format_match", "formats.require_match", read_boolean),
    MappedOption("image_format", "gpt_safety_checks_nonfatal", "formats.gpt_safety_checks_nonfatal", read_plain_list),
    MappedOption(
        "image_import_opts",
        "image_import_plugins",
        "imports.plugins",
        read_words,
        "an unknown name, or conversion before decompression, stops the start",
    ),
    MappedOption("image_import_opts", "max_parallel_stores", "imports.max_parallel_stores", read_integer),
    MappedOption("glance_download_properties", "extra_properties", "glance_download.extra_properties", read_words),
    MappedOption("import_filtering_opts", "allowed_schemes", "uri.allowed_schemes", read_words),
    MappedOption("import_filtering_opts", "disallowed_schemes", "uri.disallowed_schemes", read_words),
    MappedOption("import_filtering_opts", "allowed_hosts", "uri.allowed_hosts", read_hosts),
    MappedOption("import_filtering_opts", "disallowed_hosts", "uri.disallowed_hosts", read_hosts),
    MappedOption("import_filtering_opts", "allowed_ports", "uri.allowed_ports", read_ports),
    MappedOption("import_filtering_opts", "disallowed_ports", "uri.disallowed_ports", read_ports),
    MappedOption(
        "inject_metadata_properties",
        "ignore_user_roles",
        "inject.ignore_user_roles",
        read_plain_list,
        _SPELLED,
    ),
    MappedOption(
        "inject_metadata_properties",
        "inject",
        "inject.properties",
        read_inject,
        _SPELLED,
    ),
    MappedOption("image_conversion", "output_format", "conversion.output_format", read_text),
    MappedOption(DEFAULT_SECTION, "default_publisher_id", "notifications.publisher_id", read_text),
    MappedOption(DEFAULT_SECTION, "disabled_notifications", "notifications.disabled", read_plain_list),
    MappedOption(
        DEFAULT_SECTION, "transport_url", "notifications.transport_url", read_text, _FALLBACK_URL, secret=True
    ),
    MappedOption(
        NOTIFICATIONS_SECTION,
        "driver",
        "notifications.drivers",
        read_drivers,
        "may be repeated; routing and test are ignored with a warning",
    ),
    MappedOption(NOTIFICATIONS_SECTION, "transport_url", "notifications.transport_url", read_text, secret=True),
    MappedOption(NOTIFICATIONS_SECTION, "topics", "notifications.topics", read_plain_list),
    MappedOption(
        *STAGING_STORE,
        "staging.dir",
        read_text,
        "used if enabled_backends is set, or the other option is missing",
        warning=_SHARED_STAGING,
    ),
    MappedOption("glance_store", "default_backend", "default_store", read_text, "must be set with enabled_backends"),
)
"""Options that map to settings; options of a single kind of store are defined with the kind."""

COMMON_STORE_OPTIONS: Final = (
    MappedOption(STORE_SECTION, "store_description", "stores.<store>.description", read_text),
    MappedOption(STORE_SECTION, "weight", "stores.<store>.weight", read_integer),
)

_PREFECT: Final = "Prefect runs the imports; see prefect.worker_limit"

_OFF: Final = ("false", "0", "off", "no")
_ON: Final = ("true", "1", "on", "yes")
"""The spellings of oslo.config's booleans."""

IGNORED: Final = (
    IgnoredOption(
        DEFAULT_SECTION,
        "worker_self_reference_url",
        "any API process handles any request; hosts that share staging must have the same host_name",
    ),
    IgnoredOption(DEFAULT_SECTION, "http_retries", "imports.store_retries applies to the reading of locations"),
    IgnoredOption(DEFAULT_SECTION, "delayed_delete", "data of deleted images are removed at once", _OFF),
    IgnoredOption(DEFAULT_SECTION, "allow_anonymous_access", "callers without a token are refused", _OFF),
    IgnoredOption(
        _AUTHTOKEN,
        "auth_type",
        "the login uses a password or an application credential",
        ("password", "v3password", "v3applicationcredential"),
    ),
    IgnoredOption(_AUTHTOKEN, "insecure", "certificates are always checked; set auth.ca_file to the authority", _OFF),
    IgnoredOption(_AUTHTOKEN, "service_token_roles_required", "they are always required", _ON),
    IgnoredOption(_AUTHTOKEN, "*", "each process caches tokens, and only the login to Keystone is used"),
    IgnoredOption(*POLICY_DIRS, "stops the start if it has files: rules are read from one file"),
    IgnoredOption(_POLICY, "enforce_scope", "roles outside of a project never count", _ON),
    IgnoredOption(_POLICY, "policy_default_rule", "its name is default", ("default",)),
    IgnoredOption(_POLICY, "*", "rules that ask a remote server use the defaults of oslo.policy"),
    IgnoredOption("oslo_limit", "endpoint_service_type", "the limits are those of the service image", ("image",)),
    IgnoredOption("oslo_limit", "*", "the login of [keystone_authtoken] is used, with its role on the system"),
    IgnoredOption(
        NOTIFICATIONS_SECTION, "retry", "each notification is retried until the broker has it, without delaying imports"
    ),
    IgnoredOption("task", "task_executor", _PREFECT, ("taskflow",)),
    IgnoredOption("task", "work_dir", "the old tasks API is not supported"),
    IgnoredOption("taskflow_executor", "*", _PREFECT),
    IgnoredOption("wsgi", "task_pool_threads", _PREFECT),
    IgnoredOption("wsgi", "python_interpreter", "limiting qemu-img needs no separate Python"),
    IgnoredOption(STAGING_STORE[0], "*", f"only {STAGING_STORE[1]} is used"),
    IgnoredOption("os_glance_tasks_store", "*", "the old tasks API is not supported"),
)
"""Options that concern imports but have no effect here. Glance's other options are ignored silently."""

ELSEWHERE: Final[Mapping[tuple[str, str], str]] = {
    ("database", "connection"): "is Glance's database, which Transship does not use; database.url sets the catalogue",
}
"""Options that have no effect here, although they seem to."""

AUTH_SECTION: Final = (_AUTHTOKEN, "auth_section")
"""Option that names another section with the login."""

LOGIN_OPTIONS: Final = frozenset({"auth_type", *_LOGIN})
"""Options of ``[keystone_authtoken]`` that Glance reads only from that other section, if there is one."""

MULTI_VALUED: Final = frozenset({(NOTIFICATIONS_SECTION, "driver"), POLICY_DIRS})
"""Options that may be repeated in a file; their readers get all values, separated by commas."""

REPEATED_STORE_OPTIONS: Final = frozenset(
    option.name for kind in KINDS.values() if kind.glance for option in kind.glance.options if option.repeated
)
"""Options of stores that may be repeated in a file."""

SECTION_SPELLINGS: Final[Mapping[str, str]] = {
    "defaults": DEFAULT_SECTION,
    "default": DEFAULT_SECTION,
    "glance_download_opts": "glance_download_properties",
}
"""Common misspellings of sections in lower case, and the correct names; Glance ignores misspelt sections silently."""

DEFAULTS: Final[Mapping[tuple[str, str], str]] = {
    **{
        (DEFAULT_SECTION, name): text
        for name, text in {
            "allow_anonymous_access": "False",
            "api_limit_max": "1000",
            "bind_host": "0.0.0.0",  # noqa: S104 - for references, never listened on
            "bind_port": "9292",
            "default_publisher_id": "image.localhost",
            "delayed_delete": "False",
            "digest_algorithm": "sha256",
            "do_secure_hash": "True",
            "hashing_algorithm": "sha512",
            "http_retries": "3",
            "image_cache_dir": "",
            "image_location_quota": "10",
            "image_member_quota": "128",
            "image_property_quota": "128",
            "image_size_cap": "1099511627776",
            "image_tag_quota": "128",
            "limit_param_default": "25",
            "max_request_id_length": "64",
            "metadata_encryption_key": "",
            STAGING_URI[1]: "file:///tmp/staging/",
            "property_protection_file": "",
            "property_protection_rule_format": "roles",
            "public_endpoint": "",
            "show_image_direct_url": "False",
            "show_multiple_locations": "False",
            "transport_url": "rabbit://",
            "use_keystone_limits": "False",
            "user_storage_quota": "0",
            "worker_self_reference_url": "",
        }.items()
    },
    ("glance_store", "default_backend"): "",
    ("glance_store", "default_store"): "file",
    ("glance_store", "filesystem_store_datadir"): "/var/lib/glance/images",
    ("image_conversion", "output_format"): "raw",
    (NOTIFICATIONS_SECTION, "transport_url"): "",
    STAGING_STORE: "/var/lib/glance/os_glance_staging_store",
    ("os_glance_tasks_store", "filesystem_store_datadir"): "/var/lib/glance/os_glance_tasks_store",
    ("paste_deploy", "config_file"): "",
    ("paste_deploy", "flavor"): "",
    ("task", "task_executor"): "taskflow",
    ("task", "task_time_to_live"): "48",
    ("task", "work_dir"): "",
    ("wsgi", "python_interpreter"): "",
    ("wsgi", "task_pool_threads"): "16",
}
"""Glance's defaults for ``$option`` references to options that no file sets.

Source: Glance 33. ``bind_host`` and ``bind_port`` are from the last releases that had them.
"""

WHOLLY_KNOWN: Final = frozenset(
    {
        "image_format",
        "image_import_opts",
        "import_filtering_opts",
        "glance_download_properties",
        "inject_metadata_properties",
        "image_conversion",
    }
)
"""Sections whose options are all listed here, so any other name in them is a typo."""


def canonical_section(section: str) -> str:
    """Return Glance's spelling of a section; case matters only for ``[DEFAULT]``."""
    if section == DEFAULT_SECTION:
        return section
    return SECTION_SPELLINGS.get(section.lower(), section.lower())
