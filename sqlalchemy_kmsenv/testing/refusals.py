"""What the KMS answers where it refuses, as an exception."""

from __future__ import annotations

from http import HTTPStatus

# The API model marks these as faults of the service; everything else is the caller's.
_FAULTS = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "KMSInternalException",
        "KeyUnavailableException",
    }
)


class Refusal(Exception):  # noqa: N818 - the API calls it an answer, not an error of the server
    """An error answer of the KMS API: ``code`` is its exact code, ``status`` the HTTP status."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> HTTPStatus:
        """500 for what the API model calls a fault, 400 for all the rest."""
        return HTTPStatus.INTERNAL_SERVER_ERROR if self.code in _FAULTS else HTTPStatus.BAD_REQUEST


def invalid(message: str) -> Refusal:
    """A request whose parameters cannot be right (``ValidationException``)."""
    return Refusal("ValidationException", message)


def not_found(message: str) -> Refusal:
    """A key, alias or grant that is not there (``NotFoundException``)."""
    return Refusal("NotFoundException", message)


def wrong_state(arn: str, state: str) -> Refusal:
    """A key that is pending deletion, or not pending where it should be."""
    return Refusal("KMSInvalidStateException", f"{arn} is {state}.")


def unsupported(message: str) -> Refusal:
    """What KMS knows and this server does not do, or what this kind of key cannot do."""
    return Refusal("UnsupportedOperationException", message)
