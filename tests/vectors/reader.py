"""A second reader of format 1, written from FORMAT.md and the vectors alone.

No line of the package is in it. Each step is a method of its own, so that ``bugs`` can put a
wrong one in its place and see whether the vectors notice.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.values import RefusedError, Values, require

LABEL = b"sqlalchemy-kmsenv format 1 suite 1 "
Given = Mapping[str, Any]


class Header(NamedTuple):
    """2.1 and 3.1, and what stands behind the header: nonce, and ciphertext with tag."""

    version: int
    suite: int
    kind: int
    fingerprint: bytes
    hint: bytes
    commitment: bytes
    wrapped: bytes
    value_type: int
    nonce: bytes
    sealed: bytes


class Reader(Values):
    """Reads one value of one cell."""

    def outcome(self, document: Given, case: Given) -> dict[str, Any]:
        """10.2: `opens` and the value, or the error of clause 9 and no value."""
        try:
            name, text = self.open({**document, **case})
        except RefusedError as error:
            return {"outcome": str(error), "value": None}
        return {"outcome": "opens", "value": {"type": name, "text": text}}

    def open(self, case: Given) -> tuple[str, str]:
        """9.1 to 9.5, in their order."""
        cell, envelope = self.found(case)
        header = self.parse(envelope)
        self.check_fields(header)
        arn = self.key(header, self.arns(case))
        context = self.context(case["keyring_context"], cell)
        data_key = self.unwrap(header, context, case, arn)
        self.check_data_key(data_key)
        self.check_commitment(header, data_key)
        payload = self.decrypt(header, data_key, self.associated_data(header, cell))
        return self.value(header.value_type, payload)

    def found(self, case: Given) -> tuple[Given, bytes]:
        """8.1, 8.3: the cell with the parts that the SELECT gave, and the envelope."""
        cell = case["cell"]
        parts, envelope = self.unpack(self.packed(case), self.part_count(cell))
        listed = parts.decode("latin-1").split(":")[:-1]
        rows = len(cell["row"])
        return {**cell, "row": listed[:rows], "scope": listed[rows:]}, envelope

    def packed(self, case: Given) -> bytes:
        """8.1, 10.2: what the SELECT returns."""
        if "packed" in case:
            return bytes.fromhex(case["packed"])
        cell = case["cell"]
        return self.section([*cell["row"], *cell["scope"]]) + bytes.fromhex(case["envelope"])

    def unpack(self, packed: bytes, count: int) -> tuple[bytes, bytes]:
        """8.3, 2.2: parts end at the first `e5 01`; another number of parts is refused."""
        end = packed.find(b"\xe5\x01")
        require(end >= 0)
        parts = packed[:end]
        require(parts.count(b":") == count and (not parts or parts.endswith(b":")))
        return parts, packed[end:]

    def part_count(self, cell: Given) -> int:
        """4.4, 8.3: how many parts a column has."""
        return len(cell["row"]) + (0 if cell["scope_is_row"] else len(cell["scope_columns"]))

    def parse(self, envelope: bytes) -> Header:
        """2.1, 3.1, 9.1: 54 bytes to read n, then 83 + n in all; first byte `e5`."""
        require(len(envelope) >= 54 and envelope[0] == 0xE5)
        n = int.from_bytes(envelope[52:54], "big")
        self.check_wrapped_length(n)
        require(len(envelope) >= 83 + n)
        version, suite, kind = envelope[1:4]
        reference = envelope[4:12], envelope[12:20], envelope[20:52], envelope[54 : 54 + n]
        rest = envelope[54 + n], envelope[55 + n : 67 + n], envelope[67 + n :]
        return Header(version, suite, kind, *reference, *rest)

    def check_wrapped_length(self, n: int) -> None:
        """3.1, 9.1: 1 to 6,144."""
        require(1 <= n <= 6144)

    def check_fields(self, header: Header) -> None:
        """9.1, 2.3, 3.4, 5: version, suite and kind of reference that the text defines."""
        require((header.version, header.suite, header.kind) == (1, 1, 0))
        self.check_type(header.value_type)

    def check_type(self, value_type: int) -> None:
        """6.1, 6.2, 6.4, 9.1: 01 to 0d, with or without bit 80."""
        require(0x01 <= value_type & 0x7F <= 0x0D)

    def arns(self, case: Given) -> list[str]:
        """10.2: the KMS keys of the reader."""
        return list(case.get("key_arns", [case["key_arn"]]))

    def fingerprint(self, arn: str) -> bytes:
        """3.2: 8 bytes of SHA-256 of the ARN, without the Region of a multi-Region key."""
        fields = arn.split(":", 5)
        if fields[5].startswith("key/mrk-"):
            fields[3] = ""
        return hashlib.sha256(":".join(fields).encode()).digest()[:8]

    def key(self, header: Header, arns: list[str]) -> str:
        """9.2: before any KMS key is asked; the hint (3.3) is not looked at."""
        named = [arn for arn in arns if self.names(header, arn)]
        require(named, "ConfigurationError")
        return named[0]

    def names(self, header: Header, arn: str) -> bool:
        """9.2: whether the envelope names this KMS key."""
        return header.fingerprint == self.fingerprint(arn)

    def context(self, keyring: Given, cell: Given) -> dict[str, str]:
        """7.1, 9.2: of the cell and the keyring alone, nothing of the envelope."""
        self.check_names(keyring, cell["scope_columns"])
        pairs = {**keyring, **self.name_pairs(cell), **self.scope_pairs(cell)}
        if cell["scope_is_row"]:
            pairs["kmsenv:row"] = self.row_value(cell)
        return pairs

    def name_pairs(self, cell: Given) -> dict[str, str]:
        """7.1: always."""
        return {"kmsenv:table": cell["table"], "kmsenv:column": cell["column"]}

    def scope_pairs(self, cell: Given) -> dict[str, str]:
        """7.1: one pair a scope column; a part of another form was written for no row (4.6)."""
        pairs = zip(cell["scope_columns"], self.scope_parts(cell), strict=False)
        try:
            return {name: self.scope_value(part[:1], part[1:]) for name, part in pairs}
        except ValueError:
            raise RefusedError("WrongCellError") from None

    def row_value(self, cell: Given) -> str:
        """7.1: row parts joined by `:`, none at the end."""
        return ":".join(self.row_parts(cell))

    def check_names(self, keyring: Given, columns: list[str]) -> None:
        """7.3: reserved names, and names given twice or that differ by case alone."""
        names = [name.lower() for name in (*keyring, *columns)]
        reserved = any(name.startswith(("kmsenv:", "aws:")) for name in names)
        require(len(set(names)) == len(names) and not reserved, "ConfigurationError")

    def scope_value(self, kind: str, text: str) -> str:
        """7.2: the value of a scope column, from its part (4.3)."""
        if kind == "s":
            return bytes.fromhex(text).decode()
        if kind == "u":
            return str(uuid.UUID(hex=text))
        if kind == "t":
            return f"{text[:4]}-{text[4:6]}-{text[6:11]}:{text[11:13]}:{text[13:]}"
        return text

    def unwrap(self, header: Header, context: Given, case: Given, arn: str) -> bytes:
        """10.1, 9.3: the assumed KMS: `wrapped` to `data_key` under `context`, nothing else."""
        wrapped = header.wrapped == bytes.fromhex(case["wrapped"])
        known = wrapped and context == case["context"] and _replicas(arn, case["key_arn"])
        require(known, "WrongCellError")
        return bytes.fromhex(case["data_key"])

    def check_data_key(self, data_key: bytes) -> None:
        """1.4, 9.3: 32 bytes."""
        require(len(data_key) == 32, "KeyServiceError")

    def row_parts(self, cell: Given) -> list[str]:
        """4.4: in declared order."""
        return list(cell["row"])

    def scope_parts(self, cell: Given) -> list[str]:
        """4.4: none where each row has data keys of its own."""
        return [] if cell["scope_is_row"] else list(cell["scope"])

    def section(self, parts: list[str]) -> bytes:
        """4.1, 8.1: each part followed by `:`."""
        return "".join(part + ":" for part in parts).encode("latin-1")

    def name(self, text: str) -> bytes:
        """4.1, 4.2: `u16` length, then UTF-8, not normalised (1.2)."""
        return len(text.encode()).to_bytes(2, "big") + text.encode()

    def associated_data(self, header: Header, cell: Given) -> bytes:
        """4.1; the value type keeps its padding bit."""
        rows, scopes = self.row_parts(cell), self.scope_parts(cell)
        head = bytes([0xE5, header.version, header.suite, header.value_type])
        names = self.name(cell["table"]) + self.name(cell["column"])
        return head + bytes([len(rows), len(scopes)]) + names + self.section([*rows, *scopes])

    def expand(self, data_key: bytes, purpose: bytes) -> bytes:
        """5.1: HKDF-Expand to 32 bytes is one HMAC, of the info and the counter 01."""
        return hmac.new(data_key, LABEL + purpose + b"\x01", "sha256").digest()

    def check_commitment(self, header: Header, data_key: bytes) -> None:
        """5.3, 9.3: in constant time, before it decrypts."""
        commitment = self.expand(data_key, b"commitment")
        require(hmac.compare_digest(header.commitment, commitment), "WrongCellError")

    def decrypt(self, header: Header, data_key: bytes, associated: bytes) -> bytes:
        """5.4, 9.3: AES-256-GCM under the value key; a payload of no bytes is one (9.1)."""
        cipher = AESGCM(self.expand(data_key, b"value key"))
        try:
            return cipher.decrypt(header.nonce, header.sealed, associated)
        except InvalidTag:
            raise RefusedError("WrongCellError") from None


def _replicas(one: str, other: str) -> bool:
    """Whether two ARNs name one KMS key, or replicas of one; what the KMS knows."""
    alike = [re.sub(r"(:kms:)[^:]*(?=:[^:]*:key/mrk-)", r"\1", arn) for arn in (one, other)]
    return alike[0] == alike[1]
