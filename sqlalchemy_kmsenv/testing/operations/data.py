"""Encrypting, decrypting, and the data keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.testing import blobs
from sqlalchemy_kmsenv.testing.keys import ENCRYPTS, SYMMETRIC
from sqlalchemy_kmsenv.testing.lookup import Found, Named
from sqlalchemy_kmsenv.testing.refusals import Refusal, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy_kmsenv.testing.calls import Call
    from sqlalchemy_kmsenv.testing.desk import Desk

_SPEC_BYTES = {"AES_256": 32, "AES_128": 16}


def generate(desk: Desk, call: Call) -> dict[str, Any]:
    """GenerateDataKey."""
    plaintext, answer = _new_data_key(desk, call)
    return {"Plaintext": plaintext, **answer}


def generate_without_plaintext(desk: Desk, call: Call) -> dict[str, Any]:
    """GenerateDataKeyWithoutPlaintext."""
    return _new_data_key(desk, call)[1]


def encrypt(desk: Desk, call: Call) -> dict[str, Any]:
    """Encrypt."""
    _only_symmetric(call, "EncryptionAlgorithm")
    context = call.get("EncryptionContext", {})
    found = desk.key(call, context=context).usable_for(ENCRYPTS)
    desk.stop_if_dry(call)
    blob = blobs.seal(found.key.id, found.newest, call.parameters["Plaintext"], context)
    return {"CiphertextBlob": blob, "KeyId": found.arn, "EncryptionAlgorithm": SYMMETRIC}


def decrypt(desk: Desk, call: Call) -> dict[str, Any]:
    """Decrypt."""
    _no_recipient(call)
    _only_symmetric(call, "EncryptionAlgorithm")
    context = call.get("EncryptionContext", {})
    blob = _blob(call, "KeyId")
    found = desk.admit(call, _source(desk, call, blob, "KeyId"), context=context)
    found.usable_for(ENCRYPTS)
    plaintext, material_id = _opened(desk, found, blob, context)
    desk.stop_if_dry(call)
    return {
        "KeyId": found.arn,
        "Plaintext": plaintext,
        "EncryptionAlgorithm": SYMMETRIC,
        "KeyMaterialId": material_id,
    }


def re_encrypt(desk: Desk, call: Call) -> dict[str, Any]:
    """ReEncrypt: two keys, two permissions, two contexts."""
    _only_symmetric(call, "SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm")
    context = call.get("SourceEncryptionContext", {})
    new_context = call.get("DestinationEncryptionContext", {})
    blob = _blob(call, "SourceKeyId")
    origin = _source(desk, call, blob, "SourceKeyId")
    target = desk.named(call, call.parameters["DestinationKeyId"])
    same = {"kms:reencryptonsamekey": ("true" if origin.arn == target.arn else "false",)}
    source = desk.admit(call, origin, action="ReEncryptFrom", context=context, facts=same)
    found = desk.admit(call, target, action="ReEncryptTo", context=new_context, facts=same)
    source.usable_for(ENCRYPTS)
    found.usable_for(ENCRYPTS)
    plaintext, material_id = _opened(desk, source, blob, context)
    desk.stop_if_dry(call)
    return {
        "CiphertextBlob": blobs.seal(found.key.id, found.newest, plaintext, new_context),
        "SourceKeyId": source.arn,
        "KeyId": found.arn,
        "SourceEncryptionAlgorithm": SYMMETRIC,
        "DestinationEncryptionAlgorithm": SYMMETRIC,
        "SourceKeyMaterialId": material_id,
        "DestinationKeyMaterialId": found.newest.id,
    }


def _new_data_key(desk: Desk, call: Call) -> tuple[bytes, dict[str, Any]]:
    _no_recipient(call)
    spec, number = call.get("KeySpec"), call.get("NumberOfBytes")
    if (spec is None) is (number is None):
        raise invalid("Please specify either number of bytes or key spec.")
    context = call.get("EncryptionContext", {})
    found = desk.key(call, context=context).usable_for(ENCRYPTS)
    desk.stop_if_dry(call)
    plaintext = os.urandom(number or _SPEC_BYTES[spec])
    return plaintext, {
        "CiphertextBlob": blobs.seal(found.key.id, found.newest, plaintext, context),
        "KeyId": found.arn,
        "KeyMaterialId": found.newest.id,
    }


def _blob(call: Call, pinned: str) -> blobs.Blob | None:
    """The parsed ciphertext; None where a dry run leaves it out."""
    modifiers = call.get("DryRunModifiers", ())
    if modifiers and not call.dry_run:
        raise invalid("DryRunModifiers is valid only when DryRun is true.")
    if "IGNORE_CIPHERTEXT" in modifiers:
        if call.get(pinned) is None:
            raise invalid(f"{pinned} is needed when the ciphertext is ignored.")
        return None
    content = call.get("CiphertextBlob")
    if content is None:
        raise invalid("1 validation error detected: Value null at 'ciphertextBlob'")
    return blobs.parse(content)


def _source(desk: Desk, call: Call, blob: blobs.Blob | None, pinned: str) -> Named:
    """The key that is asked to open the blob: the pinned one, else the one that it names."""
    if call.get(pinned) is not None:
        return desk.named(call, call.parameters[pinned])
    if blob is None or not desk.knows(call.region, blob.key_id):
        # No key of this Region made it: that is all that can be said.
        raise blobs.damaged()
    return Named(call.region, desk.store.account, blob.key_id)


def _opened(
    desk: Desk, found: Found, blob: blobs.Blob | None, context: Mapping[str, str]
) -> tuple[bytes, str]:
    """The plaintext, and the id of the material that wrapped it."""
    if blob is None:
        return b"", found.newest.id
    if blob.key_id != found.key.id and desk.knows(found.key.region, blob.key_id):
        message = "The key ID in the request does not identify the key that encrypted this."
        raise Refusal("IncorrectKeyException", message)
    material = found.backing.material(blob.material_id)
    if blob.key_id != found.key.id or material is None:
        raise blobs.damaged()
    return blobs.open_blob(blob, material, context), material.id


def _only_symmetric(call: Call, *parameters: str) -> None:
    for parameter in parameters:
        if call.get(parameter, SYMMETRIC) != SYMMETRIC:
            message = f"{parameter} does not fit: this server's keys are symmetric."
            raise Refusal("InvalidKeyUsageException", message)


def _no_recipient(call: Call) -> None:
    if call.get("Recipient") is not None:
        raise Refusal("UnsupportedOperationException", "Nitro enclaves are not served here.")
