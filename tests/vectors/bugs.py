"""Mistakes that another reader may make, and whether the vectors notice each.

``python -m tests.vectors.bugs`` plants one after the other in the independent reader.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from tests.vectors.opening import VECTORS
from tests.vectors.reader import TIME, Reader

_right = Reader()
Wrong = Callable[..., Any]


def _arn_as_it_is(_: Reader, arn: str) -> bytes:
    return hashlib.sha256(arn.encode()).digest()[:8]


def _no_region_at_all(_: Reader, arn: str) -> bytes:
    parts = arn.split(":", 5)
    return hashlib.sha256(":".join([*parts[:3], "", *parts[4:]]).encode()).digest()[:8]


def _region_with_its_colon(_: Reader, arn: str) -> bytes:
    parts = arn.split(":", 5)
    multi = parts[5].startswith("key/mrk-")
    return hashlib.sha256(":".join([*parts[:3], *parts[4:]] if multi else parts).encode()).digest()[
        :8
    ]


def _scope_text(kind: str, wrong: Callable[[str], str]) -> Wrong:
    return lambda _, k, text: wrong(text) if k == kind else _right.scope_text(k, text)


def _counts_swapped(_: Reader, cell: Any, value_type: int) -> bytes:
    bound = bytearray(_right.bound(cell, value_type))
    bound[4], bound[5] = bound[5], bound[4]
    return bytes(bound)


def _no_padding_bit(_: Reader, cell: Any, value_type: int) -> bytes:
    return _right.bound(cell, value_type & 0x7F)


def _short_lengths(_: Reader, cell: Any, value_type: int) -> bytes:
    bound = _right.bound(cell, value_type)
    names = [cell["table"].encode(), cell["column"].encode()]
    parts = bound[6 + sum(2 + len(name) for name in names) :]
    return bound[:6] + b"".join(bytes((0, len(n) & 0xFF)) + n for n in names) + parts


def _lengths_of_characters(_: Reader, cell: Any, value_type: int) -> bytes:
    bound = _right.bound(cell, value_type)
    names = [cell["table"], cell["column"]]
    parts = bound[6 + sum(2 + len(name.encode()) for name in names) :]
    return bound[:6] + b"".join(struct.pack(">H", len(n)) + n.encode() for n in names) + parts


def _parts_without_end(_: Reader, cell: Any, value_type: int) -> bytes:
    return _right.bound(cell, value_type).removesuffix(b":")


def _row_with_end(_: Reader, cell: Any) -> dict[str, str]:
    pairs = _right.context(cell)
    return {name: text + ":" if name == "kmsenv:row" else text for name, text in pairs.items()}


def _last_80(_: Reader, payload: bytes) -> bytes:
    return payload[: payload.rindex(b"\x80")]


def _first_80(_: Reader, payload: bytes) -> bytes:
    return payload[: payload.index(b"\x80")]


def _json(decode: Callable[[bytes], str]) -> Wrong:
    def text(reader: Reader, payload: bytes) -> str:
        value = json.loads(decode(payload), parse_float=reader.number, parse_constant=reader.none)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    return text


def _guessed(payload: bytes) -> str:
    return payload.decode(json.detect_encoding(payload), "surrogatepass")


def _shallow(_: Reader, payload: bytes) -> str:
    if payload.count(b"[") > 64:
        raise ValueError
    return _right.JSON_text(payload)


def _unchecked(pattern: str) -> Wrong:
    def text(_: Reader, payload: bytes) -> str:
        Reader.matched(Reader(), pattern, payload, date=pattern is not TIME)
        return payload.decode()

    return text


def _days_unsigned(_: Reader, payload: bytes) -> str:
    return " ".join(map(str, struct.unpack(">III", payload)))


def _any_duration(_: Reader, payload: bytes) -> str:
    return " ".join(map(str, struct.unpack(">iII", payload)))


def _utc_as_z(_: Reader, pattern: str, payload: bytes, *, date: bool) -> str:
    return _right.matched(pattern, payload.replace(b"Z", b"+00:00"), date=date)


def _no_small_offsets(_: Reader, pattern: str, payload: bytes, *, date: bool) -> str:
    return _right.matched(pattern, payload, date=date).replace("+00:00:00.500000", "+00:00")


def _short_fractions(_: Reader, pattern: str, payload: bytes, *, date: bool) -> str:
    return _right.matched(pattern.replace(r"\d{6}", r"\d{1,6}"), payload, date=date)


BUGS: dict[str, dict[str, Wrong]] = {
    "fingerprint of a multi-Region key with its Region": {"fingerprint": _arn_as_it_is},
    "fingerprint of every key without its Region": {"fingerprint": _no_region_at_all},
    "Region taken out with its colon": {"fingerprint": _region_with_its_colon},
    "scope text of a UUID without hyphens": {"scope_text": _scope_text("u", str)},
    "scope text of a UUID in upper case": {
        "scope_text": _scope_text("u", lambda text: str(uuid.UUID(text)).upper())
    },
    "scope text of bytes in base64": {
        "scope_text": _scope_text("b", lambda t: base64.b64encode(bytes.fromhex(t)).decode())
    },
    "scope text left in hexadecimal": {"scope_text": _scope_text("s", str)},
    "scope text of a date and time as its part": {"scope_text": _scope_text("t", str)},
    "scope text of a date without hyphens": {
        "scope_text": _scope_text("d", lambda text: text.replace("-", ""))
    },
    "row of the context with a colon at its end": {"context": _row_with_end},
    "counts of parts the other way round": {"bound": _counts_swapped},
    "padding bit left out of the associated data": {"bound": _no_padding_bit},
    "lengths of names in one byte": {"bound": _short_lengths},
    "lengths of names in characters": {"bound": _lengths_of_characters},
    "no colon behind the last part": {"bound": _parts_without_end},
    "no longest wrapped data key": {"longest": lambda _: 0xFFFF},
    "longest wrapped data key of 4,096 bytes": {"longest": lambda _: 4096},
    "length of the wrapped data key in one byte": {"size": lambda _, field: field[1]},
    "length of the wrapped data key little-endian": {
        "size": lambda _, field: int.from_bytes(field, "little")
    },
    "commitment not compared": {"same": lambda *_: True},
    "commitment compared by its first 8 bytes": {"same": lambda _, a, b: a[:8] == b[:8]},
    "padding cut at the last 80, whatever follows": {"unpadded": _last_80},
    "padding cut at the first 80": {"unpadded": _first_80},
    "integers of any length": {"int_text": lambda _, p: str(int.from_bytes(p, "big", signed=True))},
    "integers without a sign": {"int_text": lambda _, p: str(int.from_bytes(p, "big"))},
    "decimals with a small e": {"Decimal_text": lambda _, p: _right.Decimal_text(p.upper())},
    "decimals without NaN": {
        "Decimal_text": lambda _, p: str(int(b"NaN" not in p) and _right.Decimal_text(p))
    },
    "decimals without their last zeros": {
        "Decimal_text": lambda _, p: _right.Decimal_text(p.rstrip(b"0") or b"0")
    },
    "booleans of any byte": {"bool_text": lambda _, p: "true" if p != b"\0" else "false"},
    "UUIDs of the first 16 bytes": {"UUID_text": lambda _, p: str(uuid.UUID(bytes=p[:16]))},
    "UUIDs little-endian": {"UUID_text": lambda _, p: str(uuid.UUID(bytes_le=p))},
    "floats little-endian": {"float_text": lambda _, p: float(struct.unpack("<d", p)[0]).hex()},
    "floats of 7 bytes": {"float_text": lambda _, p: _right.float_text(p.rjust(8, b"\0"))},
    "JSON in whatever encoding": {"JSON_text": _json(_guessed)},
    "JSON with a byte order mark": {"JSON_text": _json(lambda p: p.decode("utf-8-sig"))},
    "JSON with surrogates": {"JSON_text": _json(lambda p: p.decode("utf-8", "surrogatepass"))},
    "JSON with infinite numbers": {"number": lambda _, text: float(text)},
    "JSON with NaN": {"none": lambda _, name: float(name.lower())},
    "JSON of 64 levels at most": {"JSON_text": _shallow},
    "text with surrogates": {"str_text": lambda _, p: p.decode("utf-8", "surrogatepass")},
    "text in Latin-1": {"str_text": lambda _, p: p.decode("latin-1")},
    "text normalised": {"str_text": lambda _, p: unicodedata.normalize("NFC", p.decode())},
    "text without its byte order mark": {"str_text": lambda _, p: p.decode("utf-8-sig")},
    "text up to a NUL": {"str_text": lambda _, p: p.decode().split("\0")[0]},
    "dates that no calendar has": {"matched": lambda _, __, p, **___: p.decode()},
    "times with a fraction of any length": {"matched": _short_fractions},
    "times with Z for UTC": {"matched": _utc_as_z},
    "offsets of less than a second as UTC": {"matched": _no_small_offsets},
    "times with zeros that say nothing": {"check_time": lambda *_: None},
    "days of a duration without a sign": {"timedelta_text": _days_unsigned},
    "durations in any spelling": {"timedelta_text": _any_duration},
    "names of an Enum as text with marks": {"Enum_text": lambda _, p: repr(p.decode())},
}


def unnoticed() -> Iterator[str]:
    """The bugs that every vector takes for a right reader."""
    document = json.loads(VECTORS.read_text(encoding="ascii"))
    for name, wrong in BUGS.items():
        reader = type("Wrong", (Reader,), wrong)()
        if all(is_right(reader, document, case) for case in document["cases"]):
            yield name


def is_right(reader: Reader, document: Any, case: Any) -> bool:
    """Whether a reader says of a case what the vectors say; one that fails otherwise does not."""
    try:
        found = reader.outcome(document, case)
    except Exception:  # noqa: BLE001  a wrong reader may do anything
        return False
    return found == {"outcome": case["outcome"], "value": case["value"]}


def main() -> int:
    """Say which bugs no vector notices."""
    left = list(unnoticed())
    for name in left:
        sys.stderr.write(f"no vector notices: {name}\n")
    sys.stdout.write(f"{len(BUGS) - len(left)} of {len(BUGS)} wrong readers noticed\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
