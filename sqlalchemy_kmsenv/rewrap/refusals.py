"""Errors of jobs over whole tables."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy_kmsenv.errors import ConfigurationError, KmsEnvError


@dataclass(frozen=True, slots=True)
class MissingPermission:
    """One thing that the key service refuses to do for this job."""

    column: str
    operation: str
    """The KMS operation: ``ReEncrypt``, ``Decrypt`` or ``GenerateDataKey``."""
    key_arn: str
    """The key that is asked; for ``ReEncrypt`` the source and the target."""
    context: tuple[tuple[str, str], ...]
    """The encryption context that it was asked for."""
    reason: str
    """The error's own words."""


class PreflightError(KmsEnvError):
    """The key service would refuse what the job needs; no row was touched.

    ``missing`` has every refusal that was found.
    """

    def __init__(self, message: str, missing: tuple[MissingPermission, ...]) -> None:
        super().__init__(message)
        self.missing = missing


class RouteError(ConfigurationError):
    """One key service cannot take over a data key that the other has wrapped."""


class CheckpointError(ConfigurationError):
    """A checkpoint cannot be used: it is another job's, or it is damaged."""
