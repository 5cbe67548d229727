"""What AWS KMS tells of a key, and what it would allow: ``InspectableKms`` for ``AwsKms``."""

from __future__ import annotations

import copy
import os
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.kms import aws_answers
from sqlalchemy_kmsenv.kms.arguments import checked_context, checked_wrapped
from sqlalchemy_kmsenv.kms.aws_arguments import is_key_arn
from sqlalchemy_kmsenv.kms.aws_regions import Regions

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.kms.aws_client import AwsClient
    from sqlalchemy_kmsenv.kms.protocol import EncryptionContext, KeyDescription, KeyRotation


class AwsInspection:
    """The methods of ``AwsKms`` that use no data key."""

    _client: AwsClient
    _regions: Regions
    _key_id: str
    _arn: str | None
    _grant_tokens: list[str]
    _flights: dict[int, Future[str | None]]

    @property
    def named_by_arn(self) -> bool:
        """Whether its ARN is known without ``kms:DescribeKey``."""
        return is_key_arn(self._key_id)

    def describe(self) -> KeyDescription:
        """What the service says of the key that wraps now (DescribeKey)."""
        answer = self._client.call(
            "DescribeKey",
            self._key_id,
            lambda client: client.describe_key(KeyId=self._key_id, GrantTokens=self._grant_tokens),
        )
        description = aws_answers.described(answer, self._key_id)
        self._arn = description.arn
        return description

    def rotation(self) -> KeyRotation:
        """Whether and when the service rotates the key by itself (GetKeyRotationStatus).

        The operation takes no alias: ``kms:DescribeKey`` is needed as for ``resolve``.
        """
        arn = self.resolve()
        answer = self._client.call(
            "GetKeyRotationStatus", arn, lambda client: client.get_key_rotation_status(KeyId=arn)
        )
        return aws_answers.rotation(answer)

    def resolve(self) -> str:
        """ARN of the key that wraps now.

        A key ARN is answered without a call. Otherwise DescribeKey is called, unless
        an earlier answer of the service named the key already: an alias that moves is
        noticed by the next ``generate_data_key`` or ``rewrap``. Threads that ask at
        once share one call, and its error.
        """
        while True:
            with self._client.lock():
                if self._arn is not None:
                    return self._arn
                # The flight of a parent process lands there only.
                shared = self._flights.get(os.getpid())
                flight = self._flights.setdefault(os.getpid(), Future())
            if shared is None:
                return self._fly(flight)
            arn = shared.result()
            if arn is not None:
                return arn

    def _fly(self, flight: Future[str | None]) -> str:
        arn = None
        try:
            arn = self.describe().arn
        except Exception as error:
            flight.set_exception(error)
            raise
        finally:
            self._flights.pop(os.getpid(), None)
            # An interrupt is this thread's own affair: the others try themselves.
            if not flight.done():
                flight.set_result(arn)
        return arn

    def replicas(self) -> list[Self]:
        """This key in each of its ``replica_regions``, with its ARN there; none is asked.

        An alias is looked up as by ``resolve``. A key that is no multi-Region one has none.
        """
        _, *others = self._regions._clients  # noqa: SLF001  Regions are asked one by one here
        arn = self.resolve() if others else ""
        return [self._in(client, arn) for client in others if ":key/mrk-" in arn]

    def _in(self, client: AwsClient, arn: str) -> Self:
        parts = arn.split(":")
        parts[3] = client.region or ""
        there = copy.copy(self)
        there._client, there._regions = client, Regions(client, [])  # noqa: SLF001  its own
        there._key_id = there._arn = ":".join(parts)  # noqa: SLF001
        return there

    def would_generate(self, context: EncryptionContext) -> None:
        """Return where ``generate_data_key`` would be allowed (GenerateDataKey, DryRun)."""
        pairs = checked_context(context)
        self._client.dry_run(
            "GenerateDataKey",
            self._key_id,
            lambda client: client.generate_data_key(
                KeyId=self._key_id,
                KeySpec="AES_256",
                EncryptionContext=pairs,
                GrantTokens=self._grant_tokens,
                DryRun=True,
            ),
        )

    def would_unwrap(
        self, context: EncryptionContext, *, key_arn: str, wrapped: bytes | None = None
    ) -> None:
        """Return where ``unwrap`` would be allowed (Decrypt, DryRun).

        Raises:
            ConfigurationError: ``wrapped`` is None, and the installed botocore does
                not know ``DryRunModifiers``.
        """
        pairs = checked_context(context)
        blob = self._blob("Decrypt", wrapped)
        self._client.dry_run(
            "Decrypt",
            key_arn,
            lambda client: client.decrypt(
                **blob,
                KeyId=key_arn,
                EncryptionAlgorithm="SYMMETRIC_DEFAULT",
                EncryptionContext=pairs,
                GrantTokens=self._grant_tokens,
                DryRun=True,
            ),
        )

    def would_rewrap(
        self,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
        wrapped: bytes | None = None,
    ) -> None:
        """Return where ``rewrap`` would be allowed (ReEncrypt, DryRun).

        Raises:
            ConfigurationError: as for ``would_unwrap``.
        """
        source = checked_context(context)
        target = source if new_context is None else checked_context(new_context)
        blob = self._blob("ReEncrypt", wrapped)
        self._client.dry_run(
            "ReEncrypt",
            f"{key_arn} to {self._key_id}",
            lambda client: client.re_encrypt(
                **blob,
                SourceKeyId=key_arn,
                SourceEncryptionContext=source,
                SourceEncryptionAlgorithm="SYMMETRIC_DEFAULT",
                DestinationKeyId=self._key_id,
                DestinationEncryptionContext=target,
                DestinationEncryptionAlgorithm="SYMMETRIC_DEFAULT",
                GrantTokens=self._grant_tokens,
                DryRun=True,
            ),
        )

    def _blob(self, operation: str, wrapped: bytes | None) -> dict[str, Any]:
        if wrapped is not None:
            return {"CiphertextBlob": checked_wrapped(wrapped)}
        if not self._client.takes(operation, self._key_id, "DryRunModifiers"):
            message = (
                f"whether {operation} would be allowed can be asked without a wrapped data key only"
                " with a newer boto3 (DryRunModifiers): upgrade it, or give a stored envelope"
            )
            raise ConfigurationError(message)
        return {"DryRunModifiers": ["IGNORE_CIPHERTEXT"]}
