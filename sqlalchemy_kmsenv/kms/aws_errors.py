"""What each failure of an AWS KMS call means: the tables, and the functions that read them.

Sources: the errors of GenerateDataKey, Decrypt, ReEncrypt and DescribeKey in the KMS
API model, the common errors of the KMS API reference, those of STS and SSO that
appear when credentials are renewed, and ``botocore.exceptions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    KeyServiceDeniedError,
    KeyServiceError,
    KeyServiceUnavailableError,
    KeyStateError,
    KmsEnvError,
    WrongCellError,
)

_Kinds = Mapping[str, type[KmsEnvError]]


def _by_name(groups: Mapping[type[KmsEnvError], str]) -> _Kinds:
    return MappingProxyType({name: kind for kind in groups for name in groups[kind].split()})


SERVICE_CODES: Final = _by_name(
    {
        KeyServiceDeniedError: """
            AccessDenied AccessDeniedException AuthFailure ExpiredToken ExpiredTokenException
            ForbiddenException IDPRejectedClaim IncompleteSignature InvalidAccessKeyId
            InvalidClientTokenId InvalidGrantIdException InvalidGrantTokenException
            InvalidIdentityToken InvalidSignatureException InvalidToken MissingAuthenticationToken
            MissingAuthenticationTokenException NotAuthorized OptInRequired RequestExpired
            SignatureDoesNotMatch UnauthorizedException UnauthorizedOperation
            UnrecognizedClientException
        """,
        KeyServiceUnavailableError: """
            BandwidthLimitExceeded DependencyTimeoutException IDPCommunicationError InternalError
            InternalFailure InternalServerError InternalServiceError KMSInternalException
            KeyUnavailableException PriorRequestNotComplete RequestLimitExceeded RequestThrottled
            RequestThrottledException RequestTimeout RequestTimeoutException ServiceUnavailable
            ServiceUnavailableException SlowDown ThrottledException Throttling
            ThrottlingException TooManyRequestsException
        """,
        KeyStateError: "DisabledException KMSInvalidStateException NotFoundException",
        WrongCellError: "IncorrectKeyException InvalidCiphertextException",
        ConfigurationError: """
            InvalidAction InvalidArnException InvalidEndpointException InvalidKeyUsageException
            InvalidParameterCombination InvalidParameterValue MissingParameter
            RegionDisabledException UnknownOperationException UnsupportedOperationException
            ValidationError ValidationException
        """,
    }
)
"""Error codes that the service sends. ``LimitExceededException`` is absent on purpose: with
KMS it is a quota of resources, not a throttle, and no retry cures it."""

ENDED_CREDENTIALS: Final = frozenset(
    {
        "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId",
        "UnrecognizedClientException",
    }
)  # fmt: skip
"""Codes for credentials that are over, or not known (any more): others may stand in the file."""

CLIENT_FAULTS: Final = _by_name(
    {
        KeyServiceDeniedError: """
            FileNotFoundError LoginError NoAuthTokenError NoCredentialsError
            PartialCredentialsError PermissionError RefreshWithMFAUnsupportedError RuntimeError
            SSOError TokenRetrievalError UnknownCredentialError
        """,
        KeyServiceUnavailableError: """
            ConnectionError CredentialRetrievalError HTTPClientError IncompleteReadError
            MetadataRetrievalError OSError
        """,
        ConfigurationError: """
            ApiVersionNotFoundError BaseEndpointResolverError ConfigNotFound ConfigParseError
            EndpointProviderError InvalidConfigError InvalidDefaultsMode
            InvalidEndpointConfigurationError InvalidProxiesConfigError
            InvalidRetryConfigurationError MissingDependencyException ParamValidationError
            ProfileNotFound SSLError ServiceNotInRegionError UnknownRegionError ValidationError
        """,
    }
)
"""Classes of ``botocore.exceptions``, for what fails before or without an answer. The nearest
one in an exception's ancestry counts.

Those of Python are what botocore lets through: a token file that is not there or may not be
read, any other trouble of the system, and (``RuntimeError``) renewed credentials that have
expired already. ``SSLError`` is no outage: whoever answers is not who was asked for."""

_ADVICE: Final[Mapping[type[KmsEnvError], str]] = MappingProxyType(
    {
        ConfigurationError: "correct the key id, Region, endpoint, trusted certificates or profile",
        KeyServiceDeniedError: "check the credentials, the IAM and key policies and the grants",
        KeyServiceUnavailableError: "try again later",
        KeyStateError: "look at the state of the key, and at its account and Region",
        WrongCellError: (
            "the data key was not wrapped by that key under this encryption context, or it is "
            "damaged: look whether the stored value was altered or moved"
        ),
        KeyServiceError: "look up the code in the API reference of AWS KMS",
    }
)


def refusal_by_service(operation: str, key_id: str, response: Mapping[str, Any]) -> KmsEnvError:
    """The error for an error answer of the service, as botocore parses it."""
    code = response.get("Error", {}).get("Code", "unknown")
    metadata = response.get("ResponseMetadata", {})
    kind = _kind_of_code(code, metadata.get("HTTPStatusCode", 0))
    return _refusal(kind, operation, key_id, code, metadata.get("RequestId"))


def without_body(response: Mapping[str, Any]) -> dict[str, Any]:
    """What of an error answer may be kept: of one that is none of AWS's, not its text."""
    error = response.get("Error", {})
    code = error.get("Code", "unknown")
    # botocore takes a body that it cannot parse for the message.
    message = error.get("Message", "") if code in SERVICE_CODES else ""
    metadata = response.get("ResponseMetadata", {})
    return {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {
            name: metadata[name] for name in ("RequestId", "HTTPStatusCode") if name in metadata
        },
    }


def refusal_by_client(operation: str, key_id: str, error: Exception) -> KmsEnvError:
    """The error for what botocore raised by itself; its class name serves as the code.

    A note has its text where that tells of the way to the service, not of an answer.
    """
    names = [ancestor.__name__ for ancestor in type(error).__mro__]
    known = next((CLIENT_FAULTS[name] for name in names if name in CLIENT_FAULTS), None)
    refusal = _refusal(known or KeyServiceError, operation, key_id, names[0], None)
    if known is not None:
        refusal.add_note(str(error))
    return refusal


def _kind_of_code(code: str, status: int) -> type[KmsEnvError]:
    known = SERVICE_CODES.get(code)
    if known is not None:
        return known
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return KeyServiceUnavailableError
    # Proxies and gateways answer these without any code of AWS.
    denied = status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    return KeyServiceDeniedError if denied else KeyServiceError


def _refusal(
    kind: type[KmsEnvError], operation: str, key_id: str, code: str, request_id: str | None
) -> KmsEnvError:
    request = "" if request_id is None else f", request {request_id}"
    message = f"AWS KMS: {operation} with {key_id} failed ({code}{request}): {_ADVICE[kind]}"
    if issubclass(kind, KeyServiceError):
        return kind(message, operation=operation, code=code, request_id=request_id)
    refusal = kind(message)
    refusal.request_id = request_id
    return refusal
