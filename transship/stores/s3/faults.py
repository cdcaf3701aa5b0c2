"""Botocore's errors as the errors of stores."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import structlog
from botocore.exceptions import (
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's, the base of what it says about connections
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from transship.domain.errors import (
    StoreDenied,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
    TransferFailed,
    TransshipError,
)
from transship.stores.base import ASK_DOCTOR
from transship.stores.s3.body import Abandoned

NO_BUCKET: Final = "its bucket does not exist"

_SET_KEYS: Final = "set access_key and secret_key of its credentials"
_SET_CREDENTIALS: Final = "set the option credentials of the store"
_DENIED: Final = {
    "InvalidAccessKeyId": ("the service does not know the access key", _SET_KEYS),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _SET_KEYS),
    "InvalidToken": ("the credentials are not valid", _SET_KEYS),
    "ExpiredToken": ("the credentials have expired", "renew the credentials of the store"),
    "RequestTimeTooSkewed": (
        "the clocks of this host and of the service differ too much",
        "synchronize the clock of this host, e.g. with chrony",
    ),
    "AccessDenied": ("the credentials do not permit it", "give their user the permissions that the manual lists"),
}
"""Cause and remedy of refusals, by the service's code."""

_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull"})
_MISCONFIGURED: Final = {
    "PermanentRedirect": "its bucket is in another region; set its region",
    "AuthorizationHeaderMalformed": "its bucket is in another region; set its region",
    "IllegalLocationConstraintException": "the service has no such region; set its region",
    "InvalidLocationConstraint": "the service has no such region; set its region",
    "InvalidBucketName": "the service does not accept the name of its bucket",
    "BucketAlreadyExists": "its bucket belongs to another user of the service",
}
_PASSING: Final = frozenset({"SlowDown", "RequestTimeout", "BadDigest", "InternalError", "OperationAborted"})

log = structlog.get_logger("transship.stores")


def code_of(error: Exception) -> str:
    """Return the service's code for an error; its HTTP status if it named none, empty if it did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed a moment later."""
    if isinstance(error, ClientError):
        code = code_of(error)
        return code in _PASSING or (_status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR and code not in _FULL)
    return isinstance(error, (ConnectionError, HTTPClientError)) and not isinstance(error, SSLError)


def own_error_in(error: Exception) -> Exception | None:
    """Return what was raised while the body of a request was read; None if the request failed for another reason."""
    inner = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
    return inner if isinstance(inner, (TransshipError, Abandoned)) else None


def store_error(store: str, error: Exception, needed_bytes: int) -> TransferFailed:
    """Return the store's error for one of botocore or of the operating system, and log its text for operators."""
    log.info("store not usable", store=store, reason=str(error))
    if not isinstance(error, ClientError):
        return _unanswered(store, error)
    code = code_of(error)
    if code in _FULL:
        return StoreFull(store, needed_bytes)
    if code in _MISCONFIGURED:
        return StoreMisconfigured(store, _MISCONFIGURED[code])
    if code in _DENIED:
        return StoreDenied(store, *_DENIED[code])
    if _status_of(error) in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return StoreDenied(store, f"the service answered {code} to {error.operation_name}", _SET_KEYS)
    if code == "NoSuchBucket":
        return StoreUnavailable(store, NO_BUCKET, ASK_DOCTOR)
    return StoreUnavailable(store, f"the service answered {code} to {error.operation_name}")


def _unanswered(store: str, error: Exception) -> TransferFailed:
    match error:
        case NoCredentialsError() | PartialCredentialsError():
            return StoreDenied(store, "there are no credentials for it", _SET_CREDENTIALS)
        case CredentialRetrievalError() | MetadataRetrievalError():
            return StoreDenied(store, "its credentials cannot be fetched", _SET_CREDENTIALS)
        case SSLError():
            return StoreUnavailable(store, "its certificate is not trusted", "check ca_file and endpoint of the store")
        case ConnectTimeoutError() | ReadTimeoutError():
            return StoreUnavailable(store, "the service does not answer")
        case EndpointConnectionError():
            return StoreUnavailable(store, "the service cannot be reached")
        case ConnectionError() | HTTPClientError() | OSError():
            return StoreUnavailable(store, "the connection broke")
    return StoreMisconfigured(store, f"the request cannot be made ({type(error).__name__})")


def _status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
