"""Mistakes of clauses 1 to 3, 5, 6.2, 9.1 and 9.2: padding, envelopes, keys, and their order."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.vectors.mistakes.planting import (
    Methods,
    Mistakes,
    Wrong,
    after,
    asking,
    asserted,
    mapped,
    right,
)
from tests.vectors.reader import Header, Reader
from tests.vectors.values import RefusedError, require


def _fields(condition: Wrong) -> Methods:
    """Other versions, suites or kinds of key reference."""

    def check_fields(self: Reader, header: Header) -> None:
        require(condition(header.version, header.suite, header.kind))
        self.check_type(header.value_type)

    return {"check_fields": check_fields}


def _types(condition: Wrong) -> Methods:
    """Other value types; the first condition is of the type without its padding bit."""
    return {"check_type": lambda _, t: require(condition(t & 0x7F, t))}


def _lengths(condition: Wrong) -> Methods:
    """Other lengths of a wrapped data key."""
    return {"check_wrapped_length": lambda _, n: require(condition(n))}


def _parsed(least: int = 83, first: int = 54, length: Wrong | None = None) -> Methods:
    """Other lengths of an envelope, or the length field read otherwise."""

    def parse(self: Reader, stored: bytes) -> Header:
        require(len(stored) >= first and stored[0] == 0xE5)
        n = (length or (lambda field: int.from_bytes(field, "big")))(stored[52:54])
        self.check_wrapped_length(n)
        require(len(stored) >= least + n)
        reference = stored[4:12], stored[12:20], stored[20:52], stored[54 : 54 + n]
        rest = stored[54 + n], stored[55 + n : 67 + n], stored[67 + n :]
        version, suite, kind = stored[1:4]
        return Header(version, suite, kind, *reference, *rest)

    return {"parse": parse}


def _order(*steps: str) -> Methods:
    """Steps in another order, or left out."""

    def open_case(self: Reader, case: Any) -> tuple[str, str]:
        cell, envelope = self.found(case)
        header = self.parse(envelope)
        arns, data_key, payload = self.arns(case), b"", b""
        for step in steps:
            if step == "fields":
                self.check_fields(header)
            if step == "key":
                self.key(header, arns)
            if step == "unwrap":
                context = self.context(case["keyring_context"], cell)
                named = [arn for arn in arns if self.names(header, arn)] or arns
                data_key = self.unwrap(header, context, case, named[0])
            if step == "commitment":
                self.check_commitment(header, data_key)
            if step == "decrypt":
                payload = self.decrypt(header, data_key, self.associated_data(header, cell))
        return self.value(header.value_type, payload)

    return {"open": open_case}


def _key_before_lengths(self: Reader, case: Any) -> Any:
    stored = bytes.fromhex(case["envelope"])
    if len(stored) >= 12 and stored[:2] == b"\xe5\x01":
        known = [self.fingerprint(arn) for arn in self.arns(case)]
        require(stored[4:12] in known, "ConfigurationError")
    return right("open")(self, case)


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:8]


def _without_region(arn: str) -> str:
    return re.sub(r"(:kms:)[^:]*", r"\1", arn)


def _fingerprint(text_of: Wrong) -> Methods:
    """The fingerprint of another text."""
    return {"fingerprint": lambda _, arn: _hashed(text_of(arn))}


def _is_multi_region(arn: str) -> bool:
    return ":key/mrk-" in arn


def _alike(where: slice) -> Methods:
    """A part of the fingerprint compared."""
    return {"names": lambda self, h, arn: h.fingerprint[where] == self.fingerprint(arn)[where]}


def _committed(part_of: Wrong) -> Methods:
    """A part of the commitment compared."""

    def check_commitment(self: Reader, header: Header, data_key: bytes) -> None:
        own = self.expand(data_key, b"commitment")
        require(part_of(header.commitment) == part_of(own), "WrongCellError")

    return {"check_commitment": check_commitment}


def _short_tag(self: Reader, header: Header, data_key: bytes, associated: bytes) -> bytes:
    mode = modes.GCM(header.nonce, header.sealed[-16:-4], 12)
    decryptor = Cipher(algorithms.AES(self.expand(data_key, b"value key")), mode).decryptor()
    decryptor.authenticate_additional_data(associated)
    try:
        return decryptor.update(header.sealed[:-16]) + decryptor.finalize()
    except InvalidTag:
        raise RefusedError("WrongCellError") from None


def _expanded(info_of: Wrong) -> Methods:
    """Another info string."""
    return {"expand": lambda self, key, purpose: right("expand")(self, key, info_of(purpose))}


MISTAKES: Mistakes = {
    "6.2 padding: length must be a multiple of 16": asking("unpad", lambda p: len(p) % 16 == 0),
    "6.2 padding: length must be a multiple of 8": asking("unpad", lambda p: len(p) % 8 == 0),
    "6.2 padding: at most 256 bytes": asking(
        "unpad", lambda p: len(p) - len(p.rstrip(b"\0")) < 256
    ),
    "6.2 padding: 80 without 00 refused": asking("unpad", lambda p: p[-1:] != b"\x80"),
    "6.2 padding: value of no bytes refused": asking("unpad", lambda p: len(p.rstrip(b"\0")) != 1),
    "6.2 padding: the first 80 ends the value": {
        "unpad": lambda _, p: asserted(p[: p.find(b"\x80")], b"\x80" in p)
    },
    "6.2 padding: the last 80 ends the value": {
        "unpad": lambda _, p: asserted(p[: p.rfind(b"\x80")], b"\x80" in p)
    },
    "6.2 padding: each 80 at the end dropped": after("unpad", lambda p: p.rstrip(b"\x80")),
    "6.2 padding: 00 before the mark dropped too": after("unpad", lambda p: p.rstrip(b"\0")),
    "6.2 padding: mark not asked for": {
        "unpad": lambda _, p: p.rstrip(b"\0").removesuffix(b"\x80")
    },
    "6.2 padding: only 00 is a value of no bytes": mapped(
        "unpad", lambda p: b"\x80" if p and not p.strip(b"\0") else p
    ),
    "6.2 padding: payload of no bytes is a value of no bytes": mapped(
        "unpad", lambda p: p or b"\x80"
    ),
    "6.2 padding: PKCS 7 taken too": mapped(
        "unpad",
        lambda p: (
            p[: -p[-1]] + b"\x80" if p and 0 < p[-1] <= 16 and p.endswith(p[-1:] * p[-1]) else p
        ),
    ),
    "6.2 bit 80 of the type ignored for bytes": mapped("value", lambda t: 1 if t == 0x81 else t),
    "6.2 payload cut of 00 at its end without bit 80": {
        "value": lambda self, t, p: right("value")(
            self, t, p if t & 0x80 or t in (1, 4) else p.rstrip(b"\0") or p
        )
    },
    "9.1 type 0e taken as text": _types(lambda low, _: 1 <= low <= 0x0E),
    "9.1 types: four bits looked at": _types(lambda low, _: 0 < low & 0x0F <= 0x0D),
    "9.1 types: 8e to ff not refused": _types(lambda low, t: low and (low <= 0x0D or t > 0x80)),
    "9.1 types: refused only behind authentication": _types(lambda *_: True),
    "9.1 suite not checked": _fields(lambda version, _, kind: (version, kind) == (1, 0)),
    "9.1 suite: high bit ignored": _fields(
        lambda v, suite, kind: (v, suite & 0x7F, kind) == (1, 1, 0)
    ),
    "9.1 kind not checked": _fields(lambda version, suite, _: (version, suite) == (1, 1)),
    "9.1 kind: high bit ignored": _fields(
        lambda v, suite, kind: (v, suite, kind & 0x7F) == (1, 1, 0)
    ),
    "9.1 kind: only 01 and 02 refused": _fields(
        lambda v, suite, kind: (v, suite, kind in (1, 2)) == (1, 1, False)
    ),
    "3.1 n at most 6,143": _lengths(lambda n: 1 <= n < 6144),
    "3.1 n at most 6,145": _lengths(lambda n: 1 <= n <= 6145),
    "3.1 n of 0 taken": _lengths(lambda n: n <= 6144),
    "3.1 n of 1 refused": _lengths(lambda n: 1 < n <= 6144),
    "3.1 n not bounded": _lengths(bool),
    "3.1 n at most 4,096": _lengths(lambda n: 1 <= n <= 4096),
    "3.1 n little-endian": _parsed(length=lambda field: int.from_bytes(field, "little")),
    "3.1 n in one byte": _parsed(length=lambda field: field[1]),
    "9.1 at least one byte of ciphertext asked for": _parsed(84),
    "9.1 82 + n bytes are enough": _parsed(82),
    "9.1 tag not counted in the length": _parsed(67),
    "9.1 86 bytes asked for at first": _parsed(first=86),
    "2.1 envelopes of more than 8,192 bytes refused": asking(
        "parse", lambda stored: len(stored) <= 8192
    ),
    "9.2 key before version, suite, kind, type": _order(
        "key", "fields", "unwrap", "commitment", "decrypt"
    ),
    "9.1 unwrapped before version, suite, kind, type": _order(
        "key", "unwrap", "fields", "commitment", "decrypt"
    ),
    "9.1 decrypted before version, suite, kind, type": _order(
        "key", "unwrap", "commitment", "decrypt", "fields"
    ),
    "9.2 unwrapped before the fingerprint": _order(
        "fields", "unwrap", "key", "commitment", "decrypt"
    ),
    "9.2 commitment before the fingerprint": _order(
        "fields", "unwrap", "commitment", "key", "decrypt"
    ),
    "9.2 fingerprint not looked at": _order("fields", "unwrap", "commitment", "decrypt"),
    "5.3 commitment not looked at": _order("fields", "key", "unwrap", "decrypt"),
    "9.1 fingerprint before the lengths": {"open": _key_before_lengths},
    "3.2 fingerprint: Region never taken out": _fingerprint(str),
    "3.2 fingerprint: Region taken out of each ARN": _fingerprint(_without_region),
    "3.2 fingerprint: colon of the Region taken out too": _fingerprint(
        lambda arn: re.sub(r"(:kms):[^:]*(?=.*:key/mrk-)", r"\1", arn)
    ),
    "3.2 fingerprint: Region only recognised as xx-name-1": _fingerprint(
        lambda arn: re.sub(r"(:kms:)[a-z]{2}-[a-z]+-\d(?=:.*:key/mrk-)", r"\1", arn)
    ),
    "3.2 fingerprint: partition always aws for multi-Region keys": mapped(
        "fingerprint", lambda arn: re.sub(r"^arn:[^:]*:(?=.*:key/mrk-)", "arn:aws:", arn)
    ),
    "3.2 fingerprint: ARN in small letters": mapped("fingerprint", str.lower),
    "3.2 fingerprint: mrk- anywhere in the key id": _fingerprint(
        lambda arn: _without_region(arn) if "mrk-" in arn else arn
    ),
    "3.2 fingerprint: mrk without its hyphen is enough": _fingerprint(
        lambda arn: _without_region(arn) if ":key/mrk" in arn else arn
    ),
    "3.2 fingerprint: first 4 bytes compared": _alike(slice(4)),
    "3.2 fingerprint: last 4 bytes compared": _alike(slice(4, None)),
    "3.2 fingerprint of zeros taken": {
        "names": lambda self, h, arn: h.fingerprint in (bytes(8), self.fingerprint(arn))
    },
    "3.3 hint of zeros refused": asking("check_fields", lambda header: any(header.hint)),
    "3.3 hint other than zeros refused": asking(
        "check_fields", lambda header: not any(header.hint)
    ),
    "9.2 the first KMS key asked alone": after("arns", lambda arns: arns[:1]),
    "9.2 the last KMS key asked alone": after("arns", lambda arns: arns[-1:]),
    "9.2 replicas refused": asking(
        "key", lambda h, arns: len(arns) < 2 or not _is_multi_region(arns[0])
    ),
    "5.3 commitment: first 8 bytes compared": _committed(lambda c: c[:8]),
    "5.3 commitment: last byte not compared": _committed(lambda c: c[:31]),
    "5.3 commitment: last 16 bytes compared": _committed(lambda c: c[16:]),
    "5.3 commitment: the middle not compared": _committed(lambda c: c[:8] + c[24:]),
    "5.3 commitment: compared as C strings (up to 00)": _committed(lambda c: c.split(b"\0")[0]),
    "5.3 commitment of zeros means none": {
        "check_commitment": lambda self, h, key: (
            any(h.commitment) and right("check_commitment")(self, h, key)
        )
    },
    "5.1 commitment: info with a terminator": _expanded(
        lambda purpose: purpose + b"\0" * (purpose == b"commitment")
    ),
    "5.1 value key: info with a terminator": _expanded(
        lambda purpose: purpose + b"\0" * (purpose == b"value key")
    ),
    "1.4 data key of any length taken": {"check_data_key": lambda *_: None},
    "1.4 longer data keys taken": {
        "check_data_key": lambda _, key: require(len(key) >= 32, "KeyServiceError")
    },
    "1.4 shorter data keys taken": {
        "check_data_key": lambda _, key: require(len(key) <= 32, "KeyServiceError")
    },
    "5.4 tag cut to its first 12 bytes": {"decrypt": _short_tag},
    "5.4 payload of no bytes taken without its tag checked": {
        "decrypt": lambda self, h, *rest: (
            b"" if len(h.sealed) == 16 else right("decrypt")(self, h, *rest)
        )
    },
}
