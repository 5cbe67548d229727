"""Mistakes of clauses 1.2 and 6.1: texts, names of members, booleans, UUIDs."""

from __future__ import annotations

import re
import uuid

from tests.vectors.mistakes.planting import (
    Mistakes,
    after,
    asking,
    mapped,
    nfc,
    right,
    taking,
)

MISTAKES: Mistakes = {
    "1.2 text brought into NFC": after("read_str", nfc),
    "1.2 text: a byte order mark dropped": after("read_str", lambda t: t.removeprefix("\ufeff")),
    "1.2 text: U+FEFF at the beginning refused": asking(
        "read_str", lambda p: p[:3] != b"\xef\xbb\xbf"
    ),
    "1.2 name of an Enum in NFC": after("read_enum", nfc),
    "1.2 name of an Enum: a byte order mark dropped": after(
        "read_enum", lambda t: t.removeprefix("\ufeff")
    ),
    "6.1 name of an Enum: only ASCII identifiers": asking(
        "read_enum", lambda p: p.decode("latin-1").isidentifier()
    ),
    "6.1 name of an Enum: only Unicode identifiers": asking(
        "read_enum", lambda p: p.decode("utf-8", "replace").isidentifier()
    ),
    "6.1 name of an Enum: blanks at its ends dropped": after("read_enum", str.strip),
    "6.1 name of an Enum of no bytes refused": asking("read_enum", bool),
    "6.1 text: line ends made LF": after("read_str", lambda t: t.replace("\r\n", "\n")),
    "6.1 text: blanks at its end dropped": after("read_str", str.rstrip),
    "6.1 text: NUL at its end dropped": after("read_str", lambda t: t.rstrip("\0")),
    "6.1 text: ends at NUL": after("read_str", lambda t: t.split("\0")[0]),
    "6.1 text of no bytes refused": asking("read_str", bool),
    "6.1 text: what is not UTF-8 replaced": {"read_str": lambda s, p: p.decode("utf-8", "replace")},
    "6.1 text: surrogates taken": {"read_str": lambda s, p: p.decode("utf-8", "surrogatepass")},
    "6.1 text: surrogate pairs taken (CESU-8)": {
        "read_str": lambda s, p: right("read_str")(
            s,
            re.sub(
                rb"\xed[\xa0-\xaf].\xed[\xb0-\xbf].",
                lambda m: (
                    m[0]
                    .decode("utf-8", "surrogatepass")
                    .encode("utf-16-le", "surrogatepass")
                    .decode("utf-16-le")
                    .encode()
                ),
                p,
                flags=re.DOTALL,
            ),
        )
    },
    "6.1 text: NUL as c0 80 taken": mapped("read_str", lambda p: p.replace(b"\xc0\x80", b"\0")),
    "6.1 text: overlong forms of three bytes taken": mapped(
        "read_str", lambda p: p.replace(b"\xe0\x80\xaf", b"/")
    ),
    "6.1 text: beyond U+10FFFF taken": mapped(
        "read_str", lambda p: p.replace(b"\xf4\x90\x80\x80", b"?")
    ),
    "6.1 text: an incomplete character at the end dropped": mapped(
        "read_str",
        lambda p: re.sub(
            rb"([\xc2-\xdf]|[\xe1-\xec][\x80-\xbf]?|[\xf1-\xf3][\x80-\xbf]{0,2})$", b"", p
        ),
    ),
    "6.1 text: characters outside of the BMP refused": asking(
        "read_str", lambda p: not re.search(rb"[\xf0-\xf4]", p)
    ),
    "6.1 text: noncharacters (U+FFFF, U+FDD0) refused": asking(
        "read_str", lambda p: b"\xef\xbf\xbf" not in p and b"\xef\xb7\x90" not in p
    ),
    "6.1 text: control characters refused": asking(
        "read_str", lambda p: not re.search(rb"[\x01-\x08\x0b\x0e-\x1f\x7f]", p)
    ),
    "6.1 boolean: ff is true too": taking("read_bool", {b"\xff": "true"}),
    "6.1 boolean: ASCII 0 and 1, t and f taken": taking(
        "read_bool", {b"0": "false", b"1": "true", b"t": "true", b"f": "false"}
    ),
    "6.1 boolean: any byte but 00 is true": {
        "read_bool": lambda s, p: "true" if len(p) == 1 and p != b"\0" else right("read_bool")(s, p)
    },
    "6.1 boolean: any bytes read as integer": {
        "read_bool": lambda s, p: (
            {0: "false", 1: "true"}.get(int.from_bytes(p, "big")) or right("read_bool")(s, p)
        )
    },
    "6.1 UUID: 32 or 36 characters taken": {
        "read_uuid": lambda s, p: (
            str(uuid.UUID(p.decode())) if len(p) in (32, 36) else right("read_uuid")(s, p)
        )
    },
    "6.1 UUID: shorter filled with zeros": mapped("read_uuid", lambda p: p.rjust(16, b"\0")),
    "6.1 UUID: longer cut": mapped("read_uuid", lambda p: p[:16]),
    "6.1 UUID: little-endian fields": {"read_uuid": lambda s, p: str(uuid.UUID(bytes_le=p))},
    "6.1 UUID: other variants than RFC 9562's refused": asking(
        "read_uuid", lambda p: len(p) != 16 or p[8] >> 6 == 2
    ),
    "6.1 UUID: other versions than 1 to 8 refused": asking(
        "read_uuid", lambda p: len(p) != 16 or 1 <= p[6] >> 4 <= 8
    ),
    "6.1 UUID: other versions than 4 refused": asking(
        "read_uuid", lambda p: len(p) != 16 or p[6] >> 4 == 4
    ),
    "6.1 UUID: all zeros refused": asking("read_uuid", lambda p: p != bytes(16)),
    "6.1 text in Latin-1": {"read_str": lambda _, p: p.decode("latin-1")},
    "6.1 name of an Enum in quotes": after("read_enum", repr),
}
