"""Every error of the library, by who has to act on it.

``UnboundValueError`` is the one exception that is missing here: it has to carry
SQLAlchemy's ``DontWrapMixin`` and therefore lives in ``columns.refusal``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.cell import Cell


class KmsEnvError(Exception):
    """Root of every error that this library raises.

    ``request_id`` is that of the refused call to the key service, where there was one;
    ``cell`` names the stored value that could not be opened, where it was about one.
    """

    request_id: str | None = None
    cell: Cell | None = None


class ConfigurationError(KmsEnvError):
    """A model, a keyring or a URI is declared in a way that cannot work.

    The developer changes code or configuration; a retry cannot help.
    """


class InvalidValueError(KmsEnvError):
    """A value is not one that its encrypted column can hold.

    The message names the Python type that was given, never the value.
    """


class EnvelopeError(KmsEnvError):
    """Stored bytes are not an envelope that this version can read (FORMAT.md).

    Raised before any key is used: truncated or foreign bytes, plaintext in the
    column, an unknown format version, suite or key reference.
    """


class WrongCellError(KmsEnvError):
    """An envelope does not authenticate where it was found: altered or moved.

    ``cell`` names the place it was found at, where that is known, and ``request_id``
    the call by which the key service noticed, where it was the one that did.
    """

    def __init__(
        self, message: str, *, cell: Cell | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.cell = cell
        self.request_id = request_id


class RevokedKeyError(WrongCellError):
    """An envelope was sealed under a data key that is revoked, since it may have leaked.

    It authenticates, which proves nothing: whoever has the data key can make such values.
    """


class AuditError(KmsEnvError):
    """The audit hook of a keyring failed, so the data key that it was told of is not used."""


class KeyServiceError(KmsEnvError):
    """The key service refused or failed; the subclasses say what may help.

    ``operation`` is the KMS operation, ``code`` the service's error code and
    ``request_id`` its request id (to be found in CloudTrail), each where known.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.code = code
        self.request_id = request_id


class KeyServiceDeniedError(KeyServiceError):
    """The caller may not do this: credentials, IAM, key policy or grant. Do not retry."""


class KeyServiceUnavailableError(KeyServiceError):
    """Throttled, timed out, unreachable or failing inside: a later retry may help."""


class KeyStateError(KeyServiceError):
    """The KMS key is disabled, pending deletion or import, or does not exist."""
