"""The values of the second reader (``reader``): payloads to texts, clause 6 to clause 10.3."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import struct
import uuid
from typing import Any, NoReturn

TYPES = [
    "bytes",
    "str",
    "int",
    "float",
    "Decimal",
    "bool",
    "date",
    "time",
    "datetime",
    "timedelta",
    "UUID",
    "JSON",
    "Enum",
]
GREATEST, LEAST = 999_999_999_999_999_999, -1_999_999_999_999_999_997
"""Clause 6.5: of the first digit, and of the last."""


class RefusedError(Exception):
    """Clauses 9.1 to 9.4; its text is the outcome of clause 10.2."""


def require(condition: object, error: str = "EnvelopeError") -> None:
    """Clauses 9.1 to 9.5: what is refused is refused for good."""
    if not condition:
        raise RefusedError(error)


class Values:
    """Reads the payload of a value; each step is a method, so that a wrong one can replace it."""

    def value(self, value_type: int, payload: bytes) -> tuple[str, str]:
        """6.1, 6.2, 9.4: the name of the type and the text of 10.3."""
        if value_type & 0x80:
            payload = self.unpad(payload)
        name = TYPES[(value_type & 0x7F) - 1]
        return name, getattr(self, "read_" + name.lower())(payload)

    def unpad(self, payload: bytes) -> bytes:
        """6.2, 9.4: drops all `00` at the end and the `80` before them, which must be there."""
        payload = payload.rstrip(b"\0")
        require(payload.endswith(b"\x80"))
        return payload[:-1]

    def match(self, pattern: str, payload: bytes) -> re.Match[str]:
        """6.1: ASCII of one form."""
        found = re.fullmatch(pattern, payload.decode("latin-1"), re.ASCII)
        require(found)
        assert found is not None
        return found

    def read_bytes(self, payload: bytes) -> str:
        """6.1 type 01; 10.3 in hexadecimal."""
        return payload.hex()

    def read_str(self, payload: bytes) -> str:
        """6.1 type 02, 1.2."""
        try:
            return payload.decode("utf-8")
        except UnicodeDecodeError:
            raise RefusedError("EnvelopeError") from None

    def read_int(self, payload: bytes) -> str:
        """6.1 type 03; 9.4: one length for each integer; 10.3 in decimal."""
        number = int.from_bytes(payload, "big", signed=True)
        require(len(payload) == (abs(number).bit_length() + 8) // 8)
        return str(decimal.Decimal(number))  # without Python's limit of digits

    def read_float(self, payload: bytes) -> str:
        """6.1 type 04, 6.9; 10.3 as `float.hex`."""
        require(len(payload) == 8)
        return float(struct.unpack(">d", payload)[0]).hex()

    def read_decimal(self, payload: bytes) -> str:
        """6.1 type 05, 6.5, 9.4: to-scientific-string, and no second spelling."""
        number = r"(?P<i>[0-9]+)(\.(?P<f>[0-9]+))?(E(?P<e>[+-][0-9]{1,20}))?"
        found = self.match(rf"(?P<s>-?)(Infinity|s?NaN([1-9][0-9]*)?|{number})", payload)
        if found["i"]:
            digits = (found["i"] + (found["f"] or "")).lstrip("0") or "0"
            exponent = int(found["e"] or 0) - len(found["f"] or "")
            self.check_exponents(exponent, exponent + len(digits) - 1)
            require(found[0] == found["s"] + self.scientific(digits, exponent))
        return found[0]

    def check_exponents(self, last: int, first: int) -> None:
        """6.5: what Python holds."""
        require(last >= LEAST and first <= GREATEST)

    def scientific(self, digits: str, exponent: int) -> str:
        """6.5: to-scientific-string of a coefficient and an exponent."""
        adjusted = exponent + len(digits) - 1
        if exponent <= 0 and adjusted >= -6:
            digits = digits.rjust(1 - exponent, "0")
            return f"{digits[:exponent]}.{digits[exponent:]}" if exponent else digits
        return digits[0] + "." * (len(digits) > 1) + digits[1:] + f"E{adjusted:+d}"

    def read_bool(self, payload: bytes) -> str:
        """6.1 type 06; 10.3."""
        require(payload in (b"\0", b"\1"))
        return "true" if payload == b"\1" else "false"

    def read_date(self, payload: bytes) -> str:
        """6.1 type 07, 6.6: years 0001 to 9999, days that the calendar has."""
        found = self.match(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", payload)
        try:
            datetime.date(int(found[1]), int(found[2]), int(found[3]))
        except ValueError:
            raise RefusedError("EnvelopeError") from None
        return found[0]

    def read_time(self, payload: bytes) -> str:
        """6.1 type 08, 6.6: a time of day and perhaps an offset."""
        fraction = r"(\.[0-9]{6})?"
        found = self.match(rf"([0-9:]{{8}}){fraction}(([+-])([0-9:]+){fraction})?", payload)
        self.check_clock(found[1])
        self.check_fraction(found[2])
        if found[3]:
            self.check_offset(found[4], found[5], found[6])
        return found[0]

    def check_clock(self, text: str) -> None:
        """6.6: no hour 24, no second 60."""
        require(re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]", text))

    def check_fraction(self, text: str | None) -> None:
        """6.6: left out where it is zero."""
        require(text != ".000000")

    def check_offset(self, sign: str, clock: str, fraction: str | None) -> None:
        """6.6: less than 24 hours; UTC is `+00:00`; seconds left out where all are zero."""
        self.check_fraction(fraction)
        if len(clock) == 5:
            require(fraction is None and sign + clock != "-00:00")
            clock += ":00"
        else:
            require(fraction or not clock.endswith(":00"))
        self.check_clock(clock)

    def read_datetime(self, payload: bytes) -> str:
        """6.1 type 09: a date, `T`, a time."""
        require(payload[10:11] == b"T")
        return self.read_date(payload[:10]) + "T" + self.read_time(payload[11:])

    def read_timedelta(self, payload: bytes) -> str:
        """6.1 type 0a, 6.7."""
        require(len(payload) == 12)
        days, seconds, micros = struct.unpack(">iII", payload)
        require(abs(days) <= 999_999_999 and seconds <= 86_399 and micros <= 999_999)
        return f"{days} {seconds} {micros}"

    def read_uuid(self, payload: bytes) -> str:
        """6.1 type 0b; 10.3 with hyphens."""
        require(len(payload) == 16)
        return str(uuid.UUID(bytes=payload))

    def read_json(self, payload: bytes) -> str:
        """6.1 type 0c, 6.8, 9.4; 10.3 without white space."""
        hooks: Any = {"parse_constant": self.constant, "parse_float": self.number}
        try:
            document = json.loads(self.read_str(payload), **hooks)
        except (ValueError, RecursionError):
            raise RefusedError("EnvelopeError") from None
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False)

    def constant(self, text: str) -> NoReturn:
        """6.8: infinities and NaN are refused."""
        raise ValueError(text)

    def number(self, text: str) -> float:
        """6.8: also a number that is infinite in binary64."""
        return self.constant(text) if math.isinf(float(text)) else float(text)

    def read_enum(self, payload: bytes) -> str:
        """6.1 type 0d: a name in UTF-8."""
        return self.read_str(payload)
