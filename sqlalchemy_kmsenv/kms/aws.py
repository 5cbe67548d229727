"""``AwsKms``: a key of the AWS Key Management Service. The only import of boto3."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceError
from sqlalchemy_kmsenv.kms import aws_arguments
from sqlalchemy_kmsenv.kms.arguments import checked_context, checked_wrapped, is_material_id
from sqlalchemy_kmsenv.kms.aws_errors import refusal_by_client, refusal_by_service
from sqlalchemy_kmsenv.kms.protocol import DATA_KEY_BYTES, GeneratedDataKey, ReWrappedDataKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_kms import KMSClient

    from sqlalchemy_kmsenv.kms.protocol import EncryptionContext

_Answer = TypeVar("_Answer")


class AwsKms:
    """One key of AWS KMS.

    Credentials are found by boto3 as usual, or come with ``session``. The client
    is made at the first call, once in each process, also after a fork.

    ``key_id`` may be a key ARN, an alias ARN, ``alias/...``, or a key id. The
    Region of an ARN need not be given again. ``max_attempts`` counts the first
    try; ``retry_mode`` is ``"standard"`` or ``"adaptive"``. IAM: generating needs
    ``kms:GenerateDataKey``, unwrapping ``kms:Decrypt``, re-wrapping
    ``kms:ReEncryptFrom`` and ``kms:ReEncryptTo``, and ``resolve`` of anything but
    a key ARN ``kms:DescribeKey``.

    Every method may raise, besides what ``Kms`` says, ``ConfigurationError``: no
    Region is known, or the service finds the key id or its usage invalid.

    Raises:
        ConfigurationError: an argument cannot be right.
    """

    def __init__(
        self,
        key_id: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        session: boto3.session.Session | None = None,
        grant_tokens: Sequence[str] = (),
        connect_timeout_seconds: float = defaults.AWS_CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = defaults.AWS_READ_TIMEOUT_SECONDS,
        max_attempts: int = defaults.AWS_MAX_ATTEMPTS,
        retry_mode: str = defaults.AWS_RETRY_MODE,
    ) -> None:
        self._key_id = aws_arguments.checked_key_id(key_id)
        self._region = aws_arguments.region_for(key_id, region)
        self._endpoint_url = aws_arguments.checked_endpoint(endpoint_url)
        self._session = session
        self._grant_tokens = aws_arguments.checked_grant_tokens(grant_tokens)
        self._config = Config(
            connect_timeout=aws_arguments.checked_seconds(
                "connect_timeout_seconds", connect_timeout_seconds
            ),
            read_timeout=aws_arguments.checked_seconds(
                "read_timeout_seconds", read_timeout_seconds
            ),
            retries={
                "mode": aws_arguments.checked_retry_mode(retry_mode),
                "total_max_attempts": aws_arguments.checked_attempts(max_attempts),
            },
        )
        self._arn = key_id if aws_arguments.is_key_arn(key_id) else None
        # Process id and client in one attribute: replaced as one, so that calls need no lock.
        self._made: tuple[int, KMSClient] | None = None
        self._locks: dict[int, threading.RLock] = {}

    def __repr__(self) -> str:
        return (
            f"AwsKms({self._key_id!r}, region={self._region!r}, "
            f"endpoint_url={self._endpoint_url!r})"
        )

    def resolve(self) -> str:
        """ARN of the key that wraps now.

        A key ARN is answered without a call. Otherwise DescribeKey is called, unless
        an earlier answer of the service named the key already: an alias that moves is
        noticed by the next ``generate_data_key`` or ``rewrap``.
        """
        if self._arn is not None:
            return self._arn
        with self._lock():
            if self._arn is None:
                answer = self._call(
                    "DescribeKey",
                    self._key_id,
                    lambda client: client.describe_key(
                        KeyId=self._key_id, GrantTokens=self._grant_tokens
                    ),
                )
                arn = cast("Mapping[str, str]", answer.get("KeyMetadata", {})).get("Arn", "")
                if not self._may_be_own(arn):
                    raise _unexpected("DescribeKey", self._key_id)
                self._arn = arn
            return self._arn

    def generate_data_key(self, context: EncryptionContext) -> GeneratedDataKey:
        """Make a 32-byte data key bound to ``context`` (GenerateDataKey)."""
        pairs = checked_context(context)
        answer = self._call(
            "GenerateDataKey",
            self._key_id,
            lambda client: client.generate_data_key(
                KeyId=self._key_id,
                KeySpec="AES_256",
                EncryptionContext=pairs,
                GrantTokens=self._grant_tokens,
            ),
        )
        plaintext = bytearray(answer.get("Plaintext", b""))
        wrapped, arn = answer.get("CiphertextBlob", b""), answer.get("KeyId", "")
        material_id = _material_id(answer.get("KeyMaterialId"))
        # Gone before any raise below: error reporters show the variables of frames.
        del answer
        complete = bool(wrapped) and len(plaintext) == DATA_KEY_BYTES
        if not (complete and self._may_be_own(arn)):
            _wipe(plaintext)
            raise _unexpected("GenerateDataKey", self._key_id)
        self._arn = arn
        return GeneratedDataKey(plaintext, wrapped, arn, material_id)

    def unwrap(self, wrapped: bytes, context: EncryptionContext, *, key_arn: str) -> bytearray:
        """The 32-byte data key inside ``wrapped``, by ``key_arn`` and no other key (Decrypt)."""
        blob, pairs = checked_wrapped(wrapped), checked_context(context)
        answer = self._call(
            "Decrypt",
            key_arn,
            lambda client: client.decrypt(
                CiphertextBlob=blob,
                KeyId=key_arn,
                EncryptionAlgorithm="SYMMETRIC_DEFAULT",
                EncryptionContext=pairs,
                GrantTokens=self._grant_tokens,
            ),
        )
        plaintext, arn = bytearray(answer.get("Plaintext", b"")), answer.get("KeyId", "")
        # Gone before any raise below: error reporters show the variables of frames.
        del answer
        if arn != key_arn or len(plaintext) != DATA_KEY_BYTES:
            _wipe(plaintext)
            raise _unexpected("Decrypt", key_arn)
        return plaintext

    def rewrap(
        self,
        wrapped: bytes,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
    ) -> ReWrappedDataKey:
        """Wrap the data key in ``wrapped`` under this key's newest material (ReEncrypt).

        ``key_arn`` may be another key of the same Region; the service does not always
        tell which of the two it refuses.
        """
        blob, source = checked_wrapped(wrapped), checked_context(context)
        target = source if new_context is None else checked_context(new_context)
        answer = self._call(
            "ReEncrypt",
            f"{key_arn} to {self._key_id}",
            lambda client: client.re_encrypt(
                CiphertextBlob=blob,
                SourceKeyId=key_arn,
                SourceEncryptionContext=source,
                SourceEncryptionAlgorithm="SYMMETRIC_DEFAULT",
                DestinationKeyId=self._key_id,
                DestinationEncryptionContext=target,
                DestinationEncryptionAlgorithm="SYMMETRIC_DEFAULT",
                GrantTokens=self._grant_tokens,
            ),
        )
        renewed = answer.get("CiphertextBlob", b"")
        arn, source_arn = answer.get("KeyId", ""), answer.get("SourceKeyId", "")
        if not (renewed and source_arn == key_arn and self._may_be_own(arn)):
            raise _unexpected("ReEncrypt", key_arn)
        self._arn = arn
        return ReWrappedDataKey(renewed, arn, _material_id(answer.get("DestinationKeyMaterialId")))

    def _call(self, operation: str, key_id: str, ask: Callable[[KMSClient], _Answer]) -> _Answer:
        try:
            return ask(self._client())
        except ClientError as error:
            raise refusal_by_service(operation, key_id, error.response) from error
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            raise refusal_by_client(operation, key_id, error) from error

    def _client(self) -> KMSClient:
        made = self._made
        if made is not None and made[0] == os.getpid():
            return made[1]
        with self._lock():
            if self._made is None or self._made[0] != os.getpid():
                self._made = os.getpid(), self._new_client()
            return self._made[1]

    def _new_client(self) -> KMSClient:
        # Not boto3.client: its default session belongs to the application.
        session = self._session or boto3.session.Session()
        try:
            return session.client(
                "kms",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                config=self._config,
            )
        except BotoCoreError:
            raise
        except ValueError as error:
            message = f"no client can be made for {self!r}: correct the Region or the endpoint"
            raise ConfigurationError(message) from error

    def _lock(self) -> threading.RLock:
        # One a process: after a fork, the parent's may be held by a thread that is not there.
        return self._locks.setdefault(os.getpid(), threading.RLock())

    def _may_be_own(self, arn: str) -> bool:
        return aws_arguments.may_be_arn_of(arn, self._key_id)


def _unexpected(operation: str, key_id: str) -> KeyServiceError:
    message = (
        f"AWS KMS: the answer to {operation} with {key_id} names another key or is "
        "incomplete, and is not used: check which service the endpoint really is"
    )
    return KeyServiceError(message, operation=operation)


def _material_id(answered: str | None) -> str | None:
    # Emulators leave it out or invent other forms: that is to say, unknown.
    return answered if is_material_id(answered) else None


def _wipe(plaintext: bytearray) -> None:
    plaintext[:] = bytes(len(plaintext))
