"""Mistakes of clauses 6.1, 6.5 and 6.9: integers, floating point, decimals."""

from __future__ import annotations

import decimal
import re
import struct

from tests.vectors.mistakes.planting import (
    Methods,
    Mistakes,
    Wrong,
    after,
    loose,
    mapped,
    right,
    taking,
    unless,
)
from tests.vectors.reader import Reader
from tests.vectors.values import require


def _integer(check: Wrong, signed: Wrong = lambda _: True) -> Methods:
    """Integers of other lengths, or of another sign."""

    def read_int(_: Reader, payload: bytes) -> str:
        number = int.from_bytes(payload, "big", signed=signed(payload))
        require(check(number, payload))
        return str(decimal.Decimal(number))

    return {"read_int": read_int}


def _right(number: int, payload: bytes) -> bool:
    return len(payload) == (abs(number).bit_length() + 8) // 8


def _short(number: int, payload: bytes) -> bool:
    """The shortest two's complement."""
    bits = (number if number >= 0 else ~number).bit_length()
    return len(payload) == max(1, (bits + 8) // 8)


def _is_python(text: str) -> bool:
    try:
        decimal.Decimal(text)
    except decimal.InvalidOperation:
        return False
    return True


def _decimal(condition: Wrong) -> Methods:
    """Decimals that Python reads besides."""

    def read_decimal(self: Reader, payload: bytes) -> str:
        text = payload.decode("utf-8", "replace")
        if condition(text) and _is_python(text):
            return text
        return right("read_decimal")(self, payload)

    return {"read_decimal": read_decimal}


def _scientific(condition: Wrong) -> Methods:
    """Scientific notation elsewhere than it should be."""

    def scientific(self: Reader, digits: str, exponent: int) -> str:
        adjusted = exponent + len(digits) - 1
        if not condition(digits, exponent, adjusted):
            return right("scientific")(self, digits, exponent)
        return digits[0] + "." * (len(digits) > 1) + digits[1:] + f"E{adjusted:+d}"

    return {"scientific": scientific}


MISTAKES: Mistakes = {
    "6.1 integer: shortest two's complement (-128 as 80) instead": _integer(_short),
    "6.1 integer: shortest two's complement taken too (-128 as 80)": _integer(
        lambda n, p: _right(n, p) or _short(n, p)
    ),
    "9.4 integer: zeros before refused, ff not": _integer(
        lambda n, p: _right(n, p) if n >= 0 else True
    ),
    "9.4 integer: ff before refused, zeros not": _integer(
        lambda n, p: _right(n, p) if n < 0 else len(p) > 0
    ),
    "9.4 integer: no bytes is 0": _integer(lambda n, p: _right(n, p) or not p),
    "6.1 integer: at most 64 bits": _integer(lambda n, p: _right(n, p) and len(p) <= 8),
    "6.1 integer: at most 16 bytes": _integer(lambda n, p: _right(n, p) and len(p) <= 16),
    "6.1 integer: at most 4,300 digits": _integer(lambda n, p: _right(n, p) and len(p) <= 1785),
    "6.1 integer: at most 255 bytes": _integer(lambda n, p: _right(n, p) and len(p) <= 255),
    "6.1 integer: by way of binary64 where more than 8 bytes": {
        "read_int": lambda s, p: (
            right("read_int")(s, p) if len(p) <= 8 else str(int(float(right("read_int")(s, p))))
        )
    },
    "6.1 integer: little-endian": mapped("read_int", lambda p: p[::-1]),
    "6.9 float: NaN refused": unless("read_float", rb"[\x7f\xff][\xf1-\xff].{6}"),
    "6.9 float: a NaN other than 7ff8000000000000 refused": unless(
        "read_float", rb"(?!\x7f\xf8\0{6})[\x7f\xff][\xf0-\xff](?!\0{6}).{6}|\xff\xf8\0{6}"
    ),
    "6.9 float: signalling NaN refused": unless(
        "read_float", rb"[\x7f\xff][\xf0-\xf7](?!\0{6}).{6}"
    ),
    "6.1 float: all with exponent 7ff are infinities": {
        "read_float": lambda s, p: (
            right("read_float")(s, p)
            if not re.fullmatch(rb"[\x7f\xff][\xf0-\xff].{6}", p, re.DOTALL) or p[1] >= 0xF8
            else ("-" if p[0] & 128 else "") + "inf"
        )
    },
    "6.1 float: infinities refused": unless("read_float", rb"[\x7f\xff]\xf0\0{6}"),
    "6.1 float: subnormal numbers are 0": {
        "read_float": lambda s, p: right("read_float")(
            s, p if len(p) != 8 or p[0] & 0x7F or p[1] & 0xF0 else p[:1] + b"\0" * 7
        )
    },
    "6.1 float: by way of binary32": {
        "read_float": lambda s, p: float(
            struct.unpack(">f", struct.pack(">f", float.fromhex(right("read_float")(s, p))))[0]
        ).hex()
    },
    "6.1 float: -0 is 0": after("read_float", lambda t: t.replace("-0x0.0p", "0x0.0p")),
    "6.1 float of 4 bytes taken": {
        "read_float": lambda s, p: (
            float(struct.unpack(">f", p)[0]).hex() if len(p) == 4 else right("read_float")(s, p)
        )
    },
    "9.4 decimal: no second spelling refused": loose(
        "read_decimal", rb"-?(\d+(\.\d+)?(E[+-]\d+)?|Infinity|s?NaN\d*)"
    ),
    "6.5 decimal: zeros before taken (007)": loose("read_decimal", rb"-?0+\d+(\.\d+)?"),
    "6.5 decimal: zeros before in the exponent taken (1E+03)": loose(
        "read_decimal", rb"-?\d(\.\d+)?E[+-]0\d+"
    ),
    "6.5 decimal: 1E-3 taken (0.001)": loose("read_decimal", rb"-?\d(\.\d+)?E-[1-6]"),
    "6.5 decimal: exponent of zero taken (1E+0)": loose("read_decimal", rb"-?\d(\.\d+)?E[+-]0"),
    "6.5 decimal: plain notation taken below 1E-6 (0.0000001)": loose(
        "read_decimal", rb"-?0\.0{6,}\d+"
    ),
    "6.5 decimal: engineering notation taken (10E+3)": loose(
        "read_decimal", rb"-?\d{2,3}(\.\d+)?E[+-]\d+"
    ),
    "6.5 decimal: scientific from 1E-5 on": {
        "scientific": lambda s, d, e: (
            right("scientific")(s, d, e)
            if e > 0 or e + len(d) - 1 >= -5
            else d[0] + "." * (len(d) > 1) + d[1:] + f"E{e + len(d) - 1:+d}"
        )
    },
    "6.5 decimal: plain down to 1E-7": {
        "scientific": lambda s, d, e: (
            right("scientific")(s, d, e) if e + len(d) - 1 != -7 else "0." + "0" * 6 + d
        )
    },
    "6.5 decimal: zero always plain when its exponent is negative": {
        "scientific": lambda s, d, e: (
            "0." + "0" * -e if d == "0" and e < 0 else right("scientific")(s, d, e)
        )
    },
    "6.5 decimal: no digit before the point taken (.5)": loose("read_decimal", rb"-?\.\d+"),
    "6.5 decimal: no digit behind the point taken (5.)": loose("read_decimal", rb"-?\d+\."),
    "6.5 decimal: a small e taken": _decimal(lambda t: "e" in t),
    "6.5 decimal: Inf, infinity, INFINITY taken": _decimal(lambda t: "inf" in t.lower()),
    "6.5 decimal: nan, NAN taken": _decimal(lambda t: "nan" in t.lower() and "NaN" not in t),
    "6.5 decimal: NaN0, NaN007 taken": loose("read_decimal", rb"-?s?NaN0\d*"),
    "6.5 decimal: digits of a NaN refused": unless("read_decimal", rb".*NaN\d+"),
    "6.5 decimal: sNaN refused": unless("read_decimal", rb".*sNaN.*"),
    "6.5 decimal: -NaN refused": unless("read_decimal", rb"-NaN\d*"),
    "6.5 decimal: -0 refused": unless("read_decimal", rb"-[0.]+(E.*)?"),
    "6.5 decimal: -0 is 0": after(
        "read_decimal", lambda t: t[1:] if re.fullmatch(r"-[0.]+(E.*)?", t) else t
    ),
    "6.5 decimal: at most 28 digits": unless("read_decimal", rb"-?(\.?\d){29,}(E.*)?"),
    "6.5 decimal: at most 38 digits": unless("read_decimal", rb"-?(\.?\d){39,}(E.*)?"),
    "6.5 decimal: exponent of at most 4 digits (6,144 in decimal128)": unless(
        "read_decimal", rb".*E[+-]\d{5,}"
    ),
    "6.5 decimal: zeros at the end dropped": after(
        "read_decimal", lambda t: re.sub(r"(\.\d*?)0+$", r"\1", t)
    ),
    "6.5 decimal: digits outside of ASCII taken": _decimal(lambda t: not t.isascii()),
    "6.5 decimal: a line feed at the end taken": mapped(
        "read_decimal", lambda p: p.removesuffix(b"\n")
    ),
    "6.5 decimal: NUL at the end taken": mapped("read_decimal", lambda p: p.rstrip(b"\0")),
    "6.5 decimal of no bytes is 0": taking("read_decimal", {b"": "0"}),
    "6.5 decimal: underscores taken": _decimal(lambda t: "_" in t),
    "6.5 decimal: blanks around taken": _decimal(lambda t: t != t.strip()),
    "6.5 decimal: a plus taken": _decimal(lambda t: t.startswith("+")),
    "6.5 decimal: a comma as point taken": loose("read_decimal", rb"-?\d+,\d+"),
    "6.5 decimal: adjusted exponent of several digits wrong": {
        "scientific": lambda s, d, e: (
            right("scientific")(s, d, e) if len(d) == 1 or e <= 0 else d + f"E{e:+d}"
        )
    },
    "6.5 decimal: no bound of exponents": {"check_exponents": lambda *_: None},
    "6.5 decimal: no least exponent": {
        "check_exponents": lambda _, __, first: require(first <= 10**18 - 1)
    },
    "6.1 integers without a sign": _integer(lambda *_: True, lambda _: False),
    "6.1 floats little-endian": mapped("read_float", lambda p: p[::-1]),
    "6.1 floats of 7 bytes": mapped("read_float", lambda p: p.rjust(8, b"\0")),
    "9.4 integer: no second spelling refused": _integer(lambda *_: True),
    "6.5 decimal: NaN refused": unless("read_decimal", rb".*NaN.*"),
}
