"""``AwsClient``: one client of AWS KMS a process, and what its failures mean."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceError, KmsEnvError
from sqlalchemy_kmsenv.kms.aws_endpoint import Endpoint, client_at
from sqlalchemy_kmsenv.kms.aws_errors import (
    ENDED_CREDENTIALS,
    refusal_by_client,
    refusal_by_service,
    without_body,
)
from sqlalchemy_kmsenv.kms.aws_logging import bodies_unlogged
from sqlalchemy_kmsenv.kms.aws_role import Role, session_of_role
from sqlalchemy_kmsenv.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_kms import KMSClient

    from sqlalchemy_kmsenv.kms.aws_arguments import RetryMode

_Answer = TypeVar("_Answer")

_MAX_BACKOFF_SECONDS = 20.0  # botocore.retries.standard.ExponentialBackoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one call may take, and how often it is tried."""

    connect_timeout_seconds: float
    read_timeout_seconds: float
    max_attempts: int
    retry_mode: RetryMode

    @property
    def worst_case_seconds(self) -> float:
        """The longest that a call takes where nothing ever answers."""
        tries = self.max_attempts * (self.connect_timeout_seconds + self.read_timeout_seconds)
        waits = (min(2.0**retry, _MAX_BACKOFF_SECONDS) for retry in range(self.max_attempts - 1))
        return tries + sum(waits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How a Region's KMS is reached, and as whom."""

    session: boto3.session.Session | None
    role: Role | None
    endpoint_url: str | None
    allow_http: bool
    several_regions: bool
    config: Config


def client_config(
    patience: Patience, *, pool_connections: int, use_fips: bool, use_dualstack: bool
) -> Config:
    """What boto3 is told, for KMS and for STS alike."""
    # Left out unless asked for: the environment and the profile may ask for them too.
    endpoint: dict[str, Any] = {"use_fips_endpoint": True} if use_fips else {}
    if use_dualstack:
        endpoint["use_dualstack_endpoint"] = True
    return Config(
        connect_timeout=patience.connect_timeout_seconds,
        read_timeout=patience.read_timeout_seconds,
        retries={"mode": patience.retry_mode, "total_max_attempts": patience.max_attempts},
        max_pool_connections=pool_connections,
        user_agent_extra=f"sqlalchemy-kmsenv/{VERSION}",
        **endpoint,
    )


@dataclass(frozen=True, slots=True)
class _Made:
    process: int
    client: KMSClient
    credentials: tuple[str | None, ...] | None = field(repr=False)
    """Those that it began with; they may renew themselves."""


class AwsClient:
    """Makes the boto3 client at the first call, once in each process, also after a fork."""

    def __init__(self, region: str | None, connection: Connection) -> None:
        self.region = region
        self._connection = connection
        # Process id and client in one attribute: replaced as one, so that calls need no lock.
        self._made: _Made | None = None
        self._locks: dict[int, threading.RLock] = {}

    def call(self, operation: str, key_id: str, ask: Callable[[KMSClient], _Answer]) -> _Answer:
        """The answer to one call.

        Raises:
            KmsEnvError: what the tables of ``aws_errors`` make of the failure.
        """
        refusal: KmsEnvError
        for is_last in (False, True):
            made = self._made
            try:
                with bodies_unlogged():
                    return ask(self._client())
            except ClientError as error:
                refusal = self._refusal(operation, key_id, error)
            except KmsEnvError:
                raise
            except Exception as error:  # noqa: BLE001  a body of another shape raises anything
                refusal = refusal_by_client(operation, key_id, error)
            if is_last or getattr(refusal, "code", None) not in ENDED_CREDENTIALS:
                break
            if not self._renew(made):
                break
        # Here, where no exception is being handled: it would become the context of this one,
        # and its frames and attributes may hold the body of an answer with a data key in it.
        raise refusal

    def dry_run(self, operation: str, key_id: str, ask: Callable[[KMSClient], object]) -> None:
        """Return where ``ask``, a call with ``DryRun``, would be allowed.

        Raises:
            KmsEnvError: as ``call``.
        """
        try:
            self.call(operation, key_id, ask)
        except KeyServiceError as refusal:
            if refusal.code != "DryRunOperationException":
                raise

    def takes(self, operation: str, key_id: str, parameter: str) -> bool:
        """Whether the installed botocore knows a parameter of an operation.

        Raises:
            KmsEnvError: as ``call``, where no client can be made.
        """
        model = self.call(operation, key_id, lambda client: client.meta.service_model)
        return parameter in getattr(model.operation_model(operation).input_shape, "members", ())

    def lock(self) -> threading.RLock:
        """One a process: after a fork, the parent's may be held by a thread that is not there."""
        return self._locks.setdefault(os.getpid(), threading.RLock())

    def _refusal(self, operation: str, key_id: str, error: ClientError) -> KmsEnvError:
        role = self._connection.role
        if role is not None and error.operation_name == "AssumeRole":
            operation, key_id = "AssumeRole", role.arn
        refusal = refusal_by_service(operation, key_id, error.response)
        cause: Any = without_body(error.response)
        refusal.__cause__ = ClientError(cause, error.operation_name)
        return refusal

    def _renew(self, made: _Made | None) -> bool:
        """Look for credentials again; whether there are others than the ones just used.

        boto3 reads a shared file once. Who gave a session of their own renews it themselves.
        """
        if self._connection.session is not None:
            return False
        with self.lock():
            if made is None or self._made is not made:
                # The first call of this client, or another thread was faster.
                made = self._made
            try:
                found = _frozen(boto3.session.Session())
            except (BotoCoreError, ValueError, OSError, RuntimeError):
                return False
            if made is None or found is None or found == made.credentials:
                return False
            self._made = None
            return True

    def _client(self) -> KMSClient:
        made = self._made
        if made is not None and made.process == os.getpid():
            return made.client
        with self.lock():
            if self._made is None or self._made.process != os.getpid():
                try:
                    self._made = self._make()
                except KeyError:
                    # Another thread took a variable out of the environment while botocore
                    # looked through it for proxies.
                    self._made = self._make()
            return self._made.client

    def _make(self) -> _Made:
        # Not boto3.client: its default session belongs to the application.
        source = self._connection.session or boto3.session.Session()
        return _Made(os.getpid(), self._new_client(self._acting(source)), _frozen(source))

    def _new_client(self, session: boto3.session.Session) -> KMSClient:
        connection = self._connection
        if session.get_credentials() is None:
            # A client would never look for them again; the process may be ahead of its sidecar.
            raise NoCredentialsError
        endpoint = Endpoint(
            url=connection.endpoint_url,
            name="endpoint_url",
            region=self.region,
            allow_http=connection.allow_http,
            several_regions=connection.several_regions,
        )
        try:
            client: KMSClient = client_at(endpoint, "kms", session, connection.config)
        except BotoCoreError:
            raise
        except ValueError as error:
            message = (
                f"no client can be made for Region {self.region!r} and endpoint"
                f" {connection.endpoint_url!r}: correct them"
            )
            raise ConfigurationError(message) from error
        client.meta.events.register_first("needs-retry.kms", _refuse_at_once)
        return client

    def _acting(self, source: boto3.session.Session) -> boto3.session.Session:
        connection = self._connection
        if connection.role is None:
            return source
        return session_of_role(
            connection.role,
            source,
            region=self.region,
            config=connection.config,
            allow_http=connection.allow_http,
        )


def _frozen(session: boto3.session.Session) -> tuple[str | None, ...] | None:
    found = session.get_credentials()
    if found is None:
        return None
    frozen = found.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token


def _refuse_at_once(response: Any = None, operation: Any = None, **_: Any) -> None:
    """Before botocore decides about a retry: a quota of resources is no throttle.

    Raises:
        ClientError: what the client would raise in the end.
    """
    parsed: Any = response[1] if response is not None else {}
    if parsed.get("Error", {}).get("Code") == "LimitExceededException":
        raise ClientError(parsed, operation.name)
