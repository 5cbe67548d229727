"""Payloads at the edges of clause 6: each catches a mistake in ``mistakes`` that no other does."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sqlalchemy_kmsenv.codecs import CODECS, PADDED
from tests.vectors.writing import Case, place, refused, sealed

HOME = place("i1")
VALUE_TYPES = {codec.name: codec.value_type for codec in CODECS}
LONG = 10**4300 + 1

OPENS: tuple[tuple[str, str, str | bytes, str | None], ...] = (
    ("text with CR LF, blanks around", "str", " a\r\nb \r\n", None),
    ("text that ends with NUL", "str", "ping\0", None),
    ("text of control characters and noncharacters", "str",
     "\x01\x1b\x7f\x85\ufdd0\uffff\U0010ffff", None),
    ("text of 9,000 bytes", "str", "a" * 9000, None),
    ("member whose name begins with U+FEFF, is not normalised, has blanks and hyphens", "Enum",
     "\ufeffe\u0301-x ", None),
    ("member with a name of no characters", "Enum", "", None),
    ("integer -32,768", "int", b"\xff\x80\0", "-32768"),
    ("integer -2^127", "int", (-(2**127)).to_bytes(17, "big", signed=True), str(-(2**127))),
    ("integer of 4,301 digits", "int", LONG.to_bytes(LONG.bit_length() // 8 + 1, "big"),
     "1" + "0" * 4299 + "1"),
    ("float: signalling NaN", "float", bytes.fromhex("7ff0000000000001"), "nan"),
    ("float: NaN with sign", "float", bytes.fromhex("fff8000000000000"), "nan"),
    ("float: NaN with digits", "float", bytes.fromhex("7ff8000000000001"), "nan"),
    ("float: negative infinity", "float", struct.pack(">d", float("-inf")), "-inf"),
    ("float: least subnormal", "float", bytes.fromhex("0000000000000001"),
     "0x0.0000000000001p-1022"),
    ("decimal of 40 digits", "Decimal", "1234567890" * 3 + ".1234567890", None),
    *((f"decimal {text}", "Decimal", text, None)
      for text in ("-0", "-0.00", "-NaN", "0.000001", "1.23E+5", "1E+999999999",
                   "1.5E-999999999")),
    *((f"date {text}", "date", text, None) for text in ("2000-02-29", "1582-10-10")),
    *((f"time {text}", "time", text, None)
      for text in ("23:59:59-05:00", "23:59:59-00:30", "12:00:00+00:00", "12:00:00+23:59",
                   "12:00:00-23:59:59.999999", "12:00:00-00:00:01", "12:00:00-00:00:00.500000",
                   "12:00:00.000001+00:00:00.000001")),
    *((f"date and time {text}", "datetime", text, None)
      for text in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59",
                   "1582-10-10T12:00:00", "1969-12-31T23:59:59.999999",
                   "2026-03-29T02:30:00+05:30")),
    ("duration of -999,999,999 days, 86,399 seconds, 999,999 microseconds", "timedelta",
     struct.pack(">iII", -999_999_999, 86_399, 999_999), "-999999999 86399 999999"),
    ("UUID of zeros", "UUID", bytes(16), "00000000-0000-0000-0000-000000000000"),
    ("UUID of ff", "UUID", b"\xff" * 16, "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    ("JSON with white space", "JSON", ' [ 1 ,\t{ "a" :\r\n2 } ] \n', '[1,{"a":2}]'),
    ("JSON with escapes that are not needed, capital digits", "JSON",
     r'"\u0041\/\u00E9\u00e9"', '"A/\u00e9\u00e9"'),
    ("JSON with an escaped surrogate pair", "JSON", r'"\ud83d\ude00"', '"\U0001f600"'),
    ("JSON beyond the BMP, a noncharacter, DEL, not normalised", "JSON",
     '"\U0001f600\uffff\x7f\x85e\u0301"', None),
    ("JSON integer 2^53 + 1", "JSON", "9007199254740993", None),
    ("JSON integer 2^64", "JSON", "18446744073709551616", None),
    ("JSON integer of 400 digits", "JSON", "9" * 400, None),
    ("JSON integer of 4,300 digits and a sign", "JSON", "-" + "9" * 4300, None),
    ("JSON -0.0", "JSON", "-0.0", None),
    ("JSON with exponents", "JSON", "[1E2,1e2,1e+2,2.5e-3]", "[100.0,100.0,100.0,0.0025]"),
    ("JSON with an empty name, an empty object, __proto__", "JSON",
     '{"":{},"__proto__":1}', None),
    ("JSON number alone", "JSON", "7", None),
    ("JSON false alone", "JSON", "false", None),
)  # fmt: skip

PADDED_OPENS = (
    ("padded to a multiple of 7", "str", b"ping\x80\0\0", "ping"),
    ("padded to a multiple of 1,000", "str", b"ping\x80".ljust(1000, b"\0"), "ping"),
    ("padded value of no bytes", "bytes", b"\x80".ljust(16, b"\0"), ""),
    ("padded value that ends with 80", "bytes", b"a\x80\x80", "6180"),
)

REFUSED: tuple[tuple[str, str, bytes], ...] = (
    ("text with a surrogate pair encoded (CESU-8)", "str", bytes.fromhex("eda0bdedb880")),
    ("text with an overlong form of three bytes", "str", bytes.fromhex("61e080af")),
    ("text beyond U+10FFFF", "str", bytes.fromhex("f4908080")),
    ("text cut inside of a character", "str", b"caf\xc3"),
    ("integer -128 in one byte", "int", b"\x80"),
    ("integer -32,768 in two bytes", "int", b"\x80\0"),
    ("float of 4 bytes", "float", struct.pack(">f", 1.5)),
    ("boolean ff", "bool", b"\xff"),
    ("boolean '1' in ASCII", "bool", b"1"),
    ("duration of -1 days, -1 seconds", "timedelta", struct.pack(">iii", -1, -1, 0)),
    ("duration of -1 days, -1 microseconds", "timedelta", struct.pack(">iii", -1, 0, -1)),
    ("duration of -1,000,000,000 days", "timedelta", struct.pack(">iII", -1_000_000_000, 0, 0)),
    ("duration of 11 bytes", "timedelta", bytes(11)),
    ("JSON with e9 alone in a string", "JSON", b'"caf\xe9"'),
)

REFUSED_TEXTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("decimal", "Decimal",
     ("007", "1E+03", "1E-3", "1E+0", "0.0000001", "10E+3", ".5", "5.", "Inf", "nan", "NaN007",
      "1\n", "1\0", "", "1,5", "\u0661", "1E+1000000000000000000", "1E-1999999999999999998",
      "1E+100000000000000000000000000000")),
    ("date", "date",
     ("0000-01-01", "1900-02-29", "1500-02-29", "2024-04-31", "2024-02-30", "2024-01-00",
      "2024-00-10", "2024-13-01", "2024-02-29\n", " 2024-02-29", "2024-02-\u0662\u0669",
      "2024-2-9", "2024-02-29T00:00:00", "2024-060", "2024/02/29", "2024-02", "-001-01-01")),
    ("time", "time",
     ("12:60:00", "23:59:60.500000", "12:00:61", "12:00:00,500000", "12:00:00.123456789",
      "12:00:00.5", "12:00:00.", "12:00:00+0530", "12:00:00+05", "12:00:00+05:60",
      "12:00:00+05:30:60", "12:00:00+01:00:01.000000", "12:00:00+01:00:00.000000",
      "12:00:00+01:00:01.500", "12:00:00+01:00.500000", "12:00:00-00:00:00",
      "12:00:00+00:00:00", "12:00:00z", "12:00:00.500000Z", "T12:00:00", "120000",
      "12:00:00 +05:30", "12:00:00\u221205:30", "1:00:00", "12:00:00\n",
      "12:00:00+01:00[Europe/Berlin]", "12:00:00.000000+01:00")),
    ("date and time", "datetime",
     ("2024-02-29", "2024-02-29_12:00:00", "2024-02-29T24:00:00", "2016-12-31T23:59:60",
      "2024-02-29T12:00:00.000000", "2024-02-29T12:00:00.500", "2024-02-29T12:00",
      "20240229T120000", "2023-02-29T12:00:00", "2024-02-30T12:00:00", "0000-01-01T00:00:00",
      "2024-02-29T12:00:00-00:00", "2024-02-29T12:00:00+01:00:00")),
    ("UUID", "UUID",
     ("12345678-9abc-4def-8123-456789abcdef", "123456789abc4def8123456789abcdef")),
    ("JSON", "JSON",
     ('"a\tb"', "['a']", "[1]/*a*/", '{"a":1,}', "{a:1}", "[01]", "[+1]", "[.5]", "[1.]",
      "[0x1]", "True", "undefined", "[nan]", "[Infinity]", "[-1e400]", " ", "null\0",
      "null\u00a0", "1\n2", r'"\x41"')),
)  # fmt: skip


def more_values() -> Iterator[Case]:
    """Payloads that open, and that are refused once they have authenticated."""
    for name, kind, given, text in OPENS:
        payload = given.encode() if isinstance(given, str) else given
        shown = payload.decode() if text is None else text
        yield sealed(name, kind, VALUE_TYPES[kind], payload, shown, cell=HOME)
    for name, kind, payload, text in PADDED_OPENS:
        yield sealed(name, kind, VALUE_TYPES[kind] | PADDED, payload, text, cell=HOME)
    for name, kind, payload in REFUSED:
        yield _refused(name, VALUE_TYPES[kind], payload)
    for word, kind, texts in REFUSED_TEXTS:
        for text in texts:
            yield _refused(f"{word} {text!a}", VALUE_TYPES[kind], text.encode())
    padded = VALUE_TYPES["str"] | PADDED
    yield _refused("padded as in PKCS 7", padded, b"ping" + b"\x04" * 4)
    name = "padded second spelling of an integer"
    yield _refused(name, VALUE_TYPES["int"] | PADDED, b"\0\0\x80\0")


def _refused(name: str, value_type: int, payload: bytes) -> Case:
    return refused(name, "EnvelopeError", sealed(name, "", value_type, payload, "", cell=HOME))
