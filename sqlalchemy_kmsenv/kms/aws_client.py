"""``AwsClient``: one client of AWS KMS a process, and what its failures mean."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.kms.aws_errors import refusal_by_client, refusal_by_service

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.config import Config
    from mypy_boto3_kms import KMSClient

_Answer = TypeVar("_Answer")


class AwsClient:
    """Makes the boto3 client at the first call, once in each process, also after a fork."""

    def __init__(
        self,
        *,
        region: str | None,
        endpoint_url: str | None,
        session: boto3.session.Session | None,
        config: Config,
    ) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self._session = session
        self._config = config
        # Process id and client in one attribute: replaced as one, so that calls need no lock.
        self._made: tuple[int, KMSClient] | None = None
        self._locks: dict[int, threading.RLock] = {}

    def call(self, operation: str, key_id: str, ask: Callable[[KMSClient], _Answer]) -> _Answer:
        """The answer to one call.

        Raises:
            KmsEnvError: what the tables of ``aws_errors`` make of the failure.
        """
        try:
            return ask(self._client())
        except ClientError as error:
            raise refusal_by_service(operation, key_id, error.response) from error
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            raise refusal_by_client(operation, key_id, error) from error

    def dry_run(self, operation: str, key_id: str, ask: Callable[[KMSClient], object]) -> None:
        """Return where ``ask``, a call with ``DryRun``, would be allowed.

        Raises:
            KmsEnvError: as ``call``.
        """
        try:
            ask(self._client())
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "DryRunOperationException":
                raise refusal_by_service(operation, key_id, error.response) from error
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            raise refusal_by_client(operation, key_id, error) from error

    def takes(self, operation: str, parameter: str) -> bool:
        """Whether the installed botocore knows a parameter of an operation."""
        shape = self._client().meta.service_model.operation_model(operation).input_shape
        return shape is not None and parameter in shape.members

    def lock(self) -> threading.RLock:
        """One a process: after a fork, the parent's may be held by a thread that is not there."""
        return self._locks.setdefault(os.getpid(), threading.RLock())

    def _client(self) -> KMSClient:
        made = self._made
        if made is not None and made[0] == os.getpid():
            return made[1]
        with self.lock():
            if self._made is None or self._made[0] != os.getpid():
                self._made = os.getpid(), self._new_client()
            return self._made[1]

    def _new_client(self) -> KMSClient:
        # Not boto3.client: its default session belongs to the application.
        session = self._session or boto3.session.Session()
        try:
            return session.client(
                "kms",
                region_name=self.region,
                endpoint_url=self.endpoint_url,
                config=self._config,
            )
        except BotoCoreError:
            raise
        except ValueError as error:
            message = (
                f"no client can be made for Region {self.region!r} and endpoint"
                f" {self.endpoint_url!r}: correct them"
            )
            raise ConfigurationError(message) from error
