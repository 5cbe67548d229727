"""A second reader of format 1, beside the library: no line of the package is in it.

Each step is a method of its own, so that ``bugs`` can put a wrong one in its place and see
whether the vectors notice.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import re
import struct
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NAMES = {
    1: "bytes", 2: "str", 3: "int", 4: "float", 5: "Decimal", 6: "bool", 7: "date", 8: "time",
    9: "datetime", 10: "timedelta", 11: "UUID", 12: "JSON", 13: "Enum",
}  # fmt: skip
DATE = r"(\d{4})-(\d\d)-(\d\d)"
TIME = r"(\d\d):(\d\d):(\d\d)(?:\.(\d{6}))?(?:([+-])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{6}))?)?)?"
DECIMAL = r"-?(?:(?:0|[1-9]\d*)(?:\.\d+)?(?:E[+-]\d+)?|Infinity|s?NaN\d*)"


class RefusedError(Exception):
    """Not opened; its text is the error of clause 9."""


class Reader:
    """Opens the cases of the vectors."""

    def outcome(self, document: Mapping[str, Any], case: Mapping[str, Any]) -> dict[str, Any]:
        """``outcome`` and ``value``, as a case of the vectors has them."""
        try:
            kind, text = self.open(document, case)
        except RefusedError as refused:
            return {"outcome": str(refused), "value": None}
        return {"outcome": "opens", "value": {"type": kind, "text": text}}

    def open(self, document: Mapping[str, Any], case: Mapping[str, Any]) -> tuple[str, str]:
        """Type and text of the value of a case."""
        stored = bytes.fromhex(case["envelope"])
        fingerprint, commitment, wrapped, value_type, at = self.parsed(stored)
        if fingerprint != self.fingerprint(case.get("key_arn", document["key_arn"])):
            raise RefusedError("ConfigurationError")
        cell = case["cell"]
        context = {**document["keyring_context"], **self.context(cell)}
        if wrapped != bytes.fromhex(case["wrapped"]) or context != case["context"]:
            raise RefusedError("WrongCellError")
        data_key = bytes.fromhex(case["data_key"])
        if not self.same(commitment, self.expanded(data_key, b"commitment")):
            raise RefusedError("WrongCellError")
        key = AESGCM(self.expanded(data_key, b"value key"))
        try:
            payload = key.decrypt(
                stored[at : at + 12], stored[at + 12 :], self.bound(cell, value_type)
            )
        except InvalidTag:
            raise RefusedError("WrongCellError") from None
        name = NAMES[value_type & 0x7F]
        try:
            plain = self.unpadded(payload) if value_type & 0x80 else payload
            return name, getattr(self, f"{name}_text")(plain)
        except (ValueError, IndexError, struct.error, OverflowError):
            raise RefusedError("EnvelopeError") from None

    def parsed(self, stored: bytes) -> tuple[bytes, bytes, bytes, int, int]:
        """Fingerprint, commitment, wrapped data key, value type, and where the nonce begins."""
        if len(stored) < 54 or stored[:4] != b"\xe5\x01\x01\x00":
            raise RefusedError("EnvelopeError")
        size = self.size(stored[52:54])
        at = 54 + size + 1
        if not 1 <= size <= self.longest() or len(stored) < at + 12 + 16:
            raise RefusedError("EnvelopeError")
        value_type = stored[at - 1]
        if value_type & 0x7F not in NAMES:
            raise RefusedError("EnvelopeError")
        return stored[4:12], stored[20:52], stored[54 : at - 1], value_type, at

    def size(self, field: bytes) -> int:
        """Clause 3.1."""
        return int.from_bytes(field, "big")

    def longest(self) -> int:
        """Clause 3.1."""
        return 6144

    def fingerprint(self, arn: str) -> bytes:
        """Clause 3.2."""
        parts = arn.split(":", 5)
        if parts[5].startswith("key/mrk-"):
            parts[3] = ""
        return hashlib.sha256(":".join(parts).encode()).digest()[:8]

    def context(self, cell: Mapping[str, Any]) -> dict[str, str]:
        """Clause 7."""
        pairs = {"kmsenv:table": cell["table"], "kmsenv:column": cell["column"]}
        for name, part in zip(cell["scope_columns"], cell["scope"], strict=True):
            pairs[name] = self.scope_text(part[0], part[1:])
        if cell["scope_is_row"]:
            pairs["kmsenv:row"] = ":".join(cell["row"])
        return pairs

    def scope_text(self, kind: str, text: str) -> str:
        """Clause 7.2."""
        if kind == "s":
            return bytes.fromhex(text).decode()
        if kind == "u":
            return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        if kind == "t":
            day, time = text.split("T")
            return f"{day[:4]}-{day[4:6]}-{day[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}"
        return text

    def same(self, one: bytes, other: bytes) -> bool:
        """Clause 5.3."""
        return hmac.compare_digest(one, other)

    def expanded(self, data_key: bytes, purpose: bytes) -> bytes:
        """Clause 5.1."""
        info = b"sqlalchemy-kmsenv format 1 suite 1 " + purpose
        return hmac.new(data_key, info + b"\x01", hashlib.sha256).digest()

    def bound(self, cell: Mapping[str, Any], value_type: int) -> bytes:
        """Clause 4."""
        fixed = bytes((0xE5, 1, 1, value_type, len(cell["row"]), len(cell["scope"])))
        names = [cell["table"].encode(), cell["column"].encode()]
        lengths = b"".join(len(name).to_bytes(2, "big") + name for name in names)
        return fixed + lengths + "".join(f"{p}:" for p in [*cell["row"], *cell["scope"]]).encode()

    def unpadded(self, payload: bytes) -> bytes:
        """Clause 6.2."""
        stripped = payload.rstrip(b"\0")
        if stripped[-1] != 0x80:
            raise ValueError
        return stripped[:-1]

    def bytes_text(self, payload: bytes) -> str:
        """Types 01 to 0d of clause 6.1, as clause 10.3 writes them."""
        return payload.hex()

    def str_text(self, payload: bytes) -> str:
        return payload.decode("utf-8")

    Enum_text = str_text

    def int_text(self, payload: bytes) -> str:
        value = int.from_bytes(payload, "big", signed=True)
        if len(payload) != (abs(value).bit_length() + 8) // 8:
            raise ValueError
        return str(value)

    def float_text(self, payload: bytes) -> str:
        return float(struct.unpack(">d", payload)[0]).hex()

    def Decimal_text(self, payload: bytes) -> str:  # noqa: N802
        text = payload.decode("ascii")
        if re.fullmatch(DECIMAL, text) is None or str(Decimal(text)) != text:
            raise ValueError
        return text

    def bool_text(self, payload: bytes) -> str:
        return ["false", "true"][[b"\0", b"\x01"].index(payload)]

    def date_text(self, payload: bytes) -> str:
        return self.matched(DATE, payload, date=True)

    def time_text(self, payload: bytes) -> str:
        return self.matched(TIME, payload, date=False)

    def datetime_text(self, payload: bytes) -> str:
        return self.matched(f"{DATE}T{TIME}", payload, date=True)

    def matched(self, pattern: str, payload: bytes, *, date: bool) -> str:
        """Clause 6.6."""
        text = payload.decode("ascii")
        found = re.fullmatch(pattern, text)
        if found is None:
            raise ValueError
        groups = found.groups()
        if date:
            datetime.date(*map(int, groups[:3]))
        if pattern != DATE:
            self.check_time(*groups[3 if date else 0 :])
        return text

    def check_time(self, *groups: str | None) -> None:
        """A fraction or a seconds part of zeros is a second spelling."""
        hour, minute, second, fraction, sign, off_hour, off_minute, off_second, off_part = groups
        datetime.time(int(hour or 0), int(minute or 0), int(second or 0))
        if fraction == "000000" or off_part == "000000" or (off_second == "00" and not off_part):
            raise ValueError
        zero = not any(int(each or 0) for each in (off_hour, off_minute, off_second, off_part))
        if int(off_hour or 0) > 23 or int(off_minute or 0) > 59 or int(off_second or 0) > 59:
            raise ValueError
        if sign == "-" and zero:
            raise ValueError

    def timedelta_text(self, payload: bytes) -> str:
        days, seconds, microseconds = struct.unpack(">iII", payload)
        if abs(days) > 999_999_999 or seconds >= 86_400 or microseconds >= 1_000_000:
            raise ValueError
        return f"{days} {seconds} {microseconds}"

    def UUID_text(self, payload: bytes) -> str:  # noqa: N802
        return str(uuid.UUID(bytes=payload))

    def JSON_text(self, payload: bytes) -> str:  # noqa: N802
        value = json.loads(
            payload.decode("utf-8"), parse_float=self.number, parse_constant=self.none
        )
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def number(self, text: str) -> float:
        """Clause 6.8."""
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError
        return value

    def none(self, name: str) -> Any:
        """Clause 6.8."""
        raise ValueError(name)
