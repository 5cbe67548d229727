"""``AwsKms``: a key of the AWS Key Management Service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceError
from sqlalchemy_kmsenv.kms import aws_arguments
from sqlalchemy_kmsenv.kms.arguments import checked_context, checked_wrapped, is_material_id
from sqlalchemy_kmsenv.kms.aws_client import AwsClient
from sqlalchemy_kmsenv.kms.protocol import (
    DATA_KEY_BYTES,
    GeneratedDataKey,
    KeyDescription,
    ReWrappedDataKey,
    UnwrappedDataKey,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import boto3

    from sqlalchemy_kmsenv.kms.protocol import EncryptionContext


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
        self._grant_tokens = aws_arguments.checked_grant_tokens(grant_tokens)
        self._client = AwsClient(
            region=aws_arguments.region_for(key_id, region),
            endpoint_url=aws_arguments.checked_endpoint(endpoint_url),
            session=session,
            config=Config(
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
            ),
        )
        self._arn = key_id if aws_arguments.is_key_arn(key_id) else None

    def __repr__(self) -> str:
        return (
            f"AwsKms({self._key_id!r}, region={self._client.region!r}, "
            f"endpoint_url={self._client.endpoint_url!r})"
        )

    def resolve(self) -> str:
        """ARN of the key that wraps now.

        A key ARN is answered without a call. Otherwise DescribeKey is called, unless
        an earlier answer of the service named the key already: an alias that moves is
        noticed by the next ``generate_data_key`` or ``rewrap``.
        """
        with self._client.lock():
            return self.describe().arn if self._arn is None else self._arn

    def describe(self) -> KeyDescription:
        """What the service says of the key that wraps now (DescribeKey)."""
        answer = self._client.call(
            "DescribeKey",
            self._key_id,
            lambda client: client.describe_key(KeyId=self._key_id, GrantTokens=self._grant_tokens),
        )
        # KeyMaterialId is newer than the oldest stubs and botocores that are supported.
        found = cast("Mapping[str, Any]", answer.get("KeyMetadata", {}))
        arn = found.get("Arn", "")
        if not self._may_be_own(arn):
            raise _unexpected("DescribeKey", self._key_id)
        self._arn = arn
        return KeyDescription(
            arn,
            state=found.get("KeyState", "unknown"),
            material_id=_material_id(found.get("CurrentKeyMaterialId")),
            spec=found.get("KeySpec", "unknown"),
            usage=found.get("KeyUsage", "unknown"),
            multi_region=bool(found.get("MultiRegion", False)),
        )

    def generate_data_key(self, context: EncryptionContext) -> GeneratedDataKey:
        """Make a 32-byte data key bound to ``context`` (GenerateDataKey)."""
        pairs = checked_context(context)
        answer = self._client.call(
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
        request_id = _request_id(answer)
        # Gone before any raise below: error reporters show the variables of frames.
        del answer
        complete = bool(wrapped) and len(plaintext) == DATA_KEY_BYTES
        if not (complete and self._may_be_own(arn)):
            _wipe(plaintext)
            raise _unexpected("GenerateDataKey", self._key_id)
        self._arn = arn
        return GeneratedDataKey(plaintext, wrapped, arn, material_id, request_id)

    def unwrap(
        self, wrapped: bytes, context: EncryptionContext, *, key_arn: str
    ) -> UnwrappedDataKey:
        """The 32-byte data key inside ``wrapped``, by ``key_arn`` and no other key (Decrypt)."""
        blob, pairs = checked_wrapped(wrapped), checked_context(context)
        answer = self._client.call(
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
        plaintext = UnwrappedDataKey(answer.get("Plaintext", b""))
        plaintext.key_arn = arn = answer.get("KeyId", "")
        # Newer than the oldest stubs and botocores that are supported.
        plaintext.material_id = _material_id(cast("Mapping[str, Any]", answer).get("KeyMaterialId"))
        plaintext.request_id = _request_id(answer)
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
        answer = self._client.call(
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
        material_id = _material_id(answer.get("DestinationKeyMaterialId"))
        return ReWrappedDataKey(renewed, arn, material_id, _request_id(answer))

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
        if not self._client.takes(operation, "DryRunModifiers"):
            message = (
                f"whether {operation} would be allowed can be asked without a wrapped data key only"
                " with a newer boto3 (DryRunModifiers): upgrade it, or give a stored envelope"
            )
            raise ConfigurationError(message)
        return {"DryRunModifiers": ["IGNORE_CIPHERTEXT"]}

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


def _request_id(answer: Mapping[str, Any]) -> str | None:
    found = answer.get("ResponseMetadata", {}).get("RequestId")
    return found if isinstance(found, str) else None


def _wipe(plaintext: bytearray) -> None:
    plaintext[:] = bytes(len(plaintext))
