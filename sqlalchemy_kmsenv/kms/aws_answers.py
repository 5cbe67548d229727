"""What is believed of the answers of AWS KMS, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.errors import KeyServiceError
from sqlalchemy_kmsenv.kms.arguments import is_material_id
from sqlalchemy_kmsenv.kms.aws_arguments import may_be_arn_of
from sqlalchemy_kmsenv.kms.protocol import (
    DATA_KEY_BYTES,
    GeneratedDataKey,
    KeyDescription,
    KeyRotation,
    ReWrappedDataKey,
    UnwrappedDataKey,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def generated(answer: Mapping[str, Any], key_id: str) -> GeneratedDataKey:
    """The data key of an answer to GenerateDataKey.

    Raises:
        KeyServiceError: incomplete, or of another key than ``key_id``.
    """
    plaintext = bytearray(answer.get("Plaintext", b""))
    wrapped, arn = answer.get("CiphertextBlob", b""), _text(answer, "KeyId")
    material, request_id = material_id(answer.get("KeyMaterialId")), request_id_of(answer)
    # Gone before any raise below: error reporters show the variables of frames.
    del answer
    complete = bool(wrapped) and len(plaintext) == DATA_KEY_BYTES
    if not (complete and may_be_arn_of(arn, key_id)):
        _wipe(plaintext)
        raise unexpected("GenerateDataKey", key_id, request_id)
    return GeneratedDataKey(plaintext, wrapped, arn, material, request_id)


def unwrapped(answer: Mapping[str, Any], key_arn: str) -> UnwrappedDataKey:
    """The data key of an answer to Decrypt.

    Raises:
        KeyServiceError: of another length, or not by ``key_arn``.
    """
    plaintext = UnwrappedDataKey(answer.get("Plaintext", b""))
    plaintext.key_arn = _text(answer, "KeyId")
    plaintext.material_id = material_id(answer.get("KeyMaterialId"))
    plaintext.request_id = request_id_of(answer)
    # Gone before any raise below: error reporters show the variables of frames.
    del answer
    if plaintext.key_arn != key_arn or len(plaintext) != DATA_KEY_BYTES:
        _wipe(plaintext)
        raise unexpected("Decrypt", key_arn, plaintext.request_id)
    return plaintext


def rewrapped(answer: Mapping[str, Any], key_arn: str, key_id: str) -> ReWrappedDataKey:
    """The data key of an answer to ReEncrypt from ``key_arn`` to ``key_id``.

    Raises:
        KeyServiceError: incomplete, or of other keys.
    """
    renewed, arn = answer.get("CiphertextBlob", b""), _text(answer, "KeyId")
    if not (renewed and answer.get("SourceKeyId", "") == key_arn and may_be_arn_of(arn, key_id)):
        raise unexpected("ReEncrypt", key_arn, request_id_of(answer))
    material = material_id(answer.get("DestinationKeyMaterialId"))
    source = material_id(answer.get("SourceKeyMaterialId"))
    return ReWrappedDataKey(renewed, arn, material, request_id_of(answer), source)


def described(answer: Mapping[str, Any], key_id: str) -> KeyDescription:
    """The key of an answer to DescribeKey.

    Raises:
        KeyServiceError: another key than ``key_id``.
    """
    found = answer.get("KeyMetadata", {})
    arn = _text(found, "Arn")
    if not may_be_arn_of(arn, key_id):
        raise unexpected("DescribeKey", key_id, request_id_of(answer))
    return KeyDescription(
        arn,
        state=found.get("KeyState", "unknown"),
        material_id=material_id(found.get("CurrentKeyMaterialId")),
        spec=found.get("KeySpec", "unknown"),
        usage=found.get("KeyUsage", "unknown"),
        multi_region=bool(found.get("MultiRegion", False)),
    )


def rotation(answer: Mapping[str, Any]) -> KeyRotation:
    """What an answer to GetKeyRotationStatus says."""
    return KeyRotation(
        enabled=bool(answer.get("KeyRotationEnabled", False)),
        period_days=answer.get("RotationPeriodInDays"),
        next_at=answer.get("NextRotationDate"),
    )


def unexpected(operation: str, key_id: str, request_id: str | None) -> KeyServiceError:
    """An answer that is not one to the question."""
    message = (
        f"AWS KMS: the answer to {operation} with {key_id} names another key or is "
        "incomplete, and is not used: check which service the endpoint really is"
    )
    return KeyServiceError(message, operation=operation, request_id=request_id)


def material_id(answered: object) -> str | None:
    """The id, or None where emulators leave it out or invent other forms."""
    return str(answered) if is_material_id(answered) else None


def request_id_of(answer: Mapping[str, Any]) -> str | None:
    """The id under which CloudTrail has the call."""
    found = answer.get("ResponseMetadata", {}).get("RequestId")
    return found if isinstance(found, str) else None


def _text(answer: Mapping[str, Any], name: str) -> str:
    # boto3 does not look at the type of what a service says.
    found = answer.get(name)
    return found if isinstance(found, str) else ""


def _wipe(plaintext: bytearray) -> None:
    plaintext[:] = bytes(len(plaintext))
