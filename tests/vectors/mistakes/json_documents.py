"""Mistakes of clause 6.8: JSON documents."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from tests.vectors.mistakes.planting import (
    Methods,
    Mistakes,
    Wrong,
    asserted,
    nfc,
)
from tests.vectors.reader import Reader
from tests.vectors.values import RefusedError

_STRING = re.compile(r'("(?:[^"\\]|\\.)*")', re.DOTALL)


def _parsed(prepare: Wrong = lambda text: text, **options: Any) -> Methods:
    """Another parser: what is done to the text before, and how its numbers and names are read."""

    def read_json(self: Reader, payload: bytes) -> str:
        hooks = {"parse_constant": self.constant, "parse_float": self.number, **options}
        try:
            document = json.loads(prepare(self.read_str(payload)), **hooks)
        except (ValueError, RecursionError):
            raise RefusedError("EnvelopeError") from None
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False)

    return {"read_json": read_json}


def _decoded(text_of: Wrong) -> Methods:
    """Another encoding."""

    def read_json(self: Reader, payload: bytes) -> Any:
        try:
            text = text_of(payload)
        except UnicodeDecodeError:
            raise RefusedError("EnvelopeError") from None
        return _parsed(lambda _: text)["read_json"](self, b"")

    return {"read_json": read_json}


def _outside(function: Wrong) -> Wrong:
    """Maps what is outside of strings."""
    return lambda text: "".join(
        each if each.startswith('"') else function(each) for each in _STRING.split(text)
    )


def _inside(function: Wrong) -> Wrong:
    """Maps strings."""
    return lambda text: _STRING.sub(lambda found: function(found[0]), text)


def _replace(pattern: str, new: Any) -> Wrong:
    """Takes what is none as if it were."""
    return lambda text: re.sub(pattern, new, text, flags=re.DOTALL)


def _refuse(pattern: str) -> Wrong:
    """Refuses what is one."""
    return lambda text: asserted(text, not re.search(pattern, text, re.DOTALL))


def _integers(condition: Wrong) -> Wrong:
    """Takes integers where the condition holds."""
    return lambda text: asserted(int(text), condition(text))


def _is_utf_8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


MISTAKES: Mistakes = {
    "6.8 JSON: white space refused": _parsed(_outside(_refuse(r"[ \t\r\n]"))),
    "6.8 JSON: white space around the document refused": _parsed(_refuse(r"^[ \t\r\n]|[ \t\r\n]$")),
    "6.8 JSON: other white space taken (U+00A0, form feed)": _parsed(
        _outside(_replace(r"[\xa0\f\v\u2003]", " "))
    ),
    "6.8 JSON: escapes that are not needed refused (\\/, \\u0041)": _parsed(
        _inside(_refuse(r"\\/|\\u00[2-7]"))
    ),
    "6.8 JSON: escapes with capital digits refused": _parsed(
        _inside(_refuse(r"\\u[0-9a-f]*[A-F]"))
    ),
    "6.8 JSON: an escaped surrogate pair kept as two surrogates": _parsed(
        _inside(
            lambda t: re.sub(
                r"(\\u[dD][89abAB]..)(\\u[dD][c-fC-F]..)",
                lambda m: json.loads(f'"{m[1]}"') + json.loads(f'"{m[2]}"'),
                t,
            )
        )
    ),
    "6.8 JSON: control characters in strings taken": _parsed(strict=False),
    "6.8 JSON: U+2028 refused in strings": _parsed(_refuse("[\u2028\u2029]")),
    "6.8 JSON: escaped NUL refused": _parsed(_refuse(r"\\u0000")),
    "6.8 JSON: strings in NFC": _parsed(_inside(nfc)),
    "6.8 JSON: unknown escapes taken (\\x)": _parsed(_inside(_replace(r"\\(?![\"\\/bfnrtu])", ""))),
    "6.8 JSON: single quotes taken": _parsed(lambda t: t.replace("'", '"') if '"' not in t else t),
    "6.8 JSON: comments taken": _parsed(_outside(_replace(r"/\*.*?\*/|//[^\n]*", ""))),
    "6.8 JSON: comma too many in an array taken": _parsed(_outside(_replace(r",\s*\]", "]"))),
    "6.8 JSON: comma too many in an object taken": _parsed(_outside(_replace(r",\s*\}", "}"))),
    "6.8 JSON: names without quotes taken": _parsed(
        _outside(lambda t: re.sub(r"\b([A-Za-z_]+)\s*:", r'"\1":', t))
    ),
    "6.8 JSON: zeros before numbers taken (01)": _parsed(
        _outside(_replace(r"(?<![\d.eE+-])(-?)0+(?=\d)", r"\1"))
    ),
    "6.8 JSON: plus before numbers taken": _parsed(_outside(_replace(r"(?<![\deE])\+(?=\d)", ""))),
    "6.8 JSON: no digit before the point taken (.5)": _parsed(
        _outside(_replace(r"(?<!\d)\.(?=\d)", "0."))
    ),
    "6.8 JSON: no digit behind the point taken (1.)": _parsed(
        _outside(_replace(r"(?<=\d)\.(?!\d)", ".0"))
    ),
    "6.8 JSON: hexadecimal numbers taken": _parsed(
        _outside(_replace(r"0x([0-9a-f]+)", lambda m: str(int(m[1], 16))))
    ),
    "6.8 JSON: True, None taken (Python)": _parsed(
        _outside(lambda t: t.lower().replace("none", "null"))
    ),
    "6.8 JSON: undefined taken": _parsed(_outside(lambda t: t.replace("undefined", "null"))),
    "6.8 JSON: NaN taken": _parsed(parse_constant=float),
    "6.8 JSON: 1e400 taken as infinity": _parsed(parse_float=float),
    "6.8 JSON: 1e400 taken as the greatest binary64": _parsed(
        parse_float=lambda t: max(min(float(t), sys.float_info.max), -sys.float_info.max)
    ),
    "6.8 JSON: integers by way of binary64": _parsed(parse_int=lambda t: int(float(t))),
    "6.8 JSON: integers beyond 2^53 refused": _parsed(
        parse_int=_integers(lambda t: abs(int(t)) < 2**53)
    ),
    "6.8 JSON: integers beyond 64 bits refused": _parsed(
        parse_int=_integers(lambda t: -(2**63) <= int(t) < 2**63)
    ),
    "6.8 JSON: integers beyond 64 bits become binary64": _parsed(
        parse_int=lambda t: int(t) if -(2**63) <= int(t) < 2**64 else float(t)
    ),
    "6.8 JSON: integers that become infinite in binary64 refused": _parsed(
        parse_int=_integers(lambda t: len(t) < 309)
    ),
    "6.8 JSON: sign counted as a digit": _parsed(parse_int=_integers(lambda t: len(t) <= 4300)),
    "6.8 JSON: 1.0 becomes 1": _parsed(
        parse_float=lambda t: int(float(t)) if float(t).is_integer() else float(t)
    ),
    "6.8 JSON: -0.0 becomes 0.0": _parsed(parse_float=lambda t: Reader().number(t) + 0.0),
    "6.8 JSON: exponents refused": _parsed(_outside(_refuse(r"\d[eE]"))),
    "6.8 JSON: exponent on an integer is an integer": _parsed(
        parse_float=lambda t: int(float(t)) if "." not in t else Reader().number(t)
    ),
    "6.8 JSON: empty names refused": _parsed(
        object_pairs_hook=lambda p: asserted(dict(p), all(n for n, _ in p))
    ),
    "6.8 JSON: name __proto__ dropped": _parsed(
        object_pairs_hook=lambda p: {n: v for n, v in p if n != "__proto__"}
    ),
    "6.8 JSON: only arrays and objects at the top": _parsed(_refuse(r"^[^\[{]")),
    "6.8 JSON: null at the top refused": _parsed(_refuse(r"^null")),
    "6.8 JSON: only white space is null": _parsed(lambda t: t if t.strip() or not t else "null"),
    "6.8 JSON: byte order mark taken": _parsed(lambda t: t.removeprefix("\ufeff")),
    "6.8 JSON: NUL behind taken": _parsed(lambda t: t.rstrip("\0")),
    "6.8 JSON: more behind ignored": _parsed(
        lambda t: json.dumps(json.JSONDecoder().raw_decode(t)[0]) if t[:1] in '[{"' else t
    ),
    "6.8 JSON: two documents on two lines taken": _parsed(lambda t: t.split("\n")[0]),
    "6.8 JSON: at most 64 levels": _parsed(_refuse(r"(\[\{\"a\":){33}|\[{65}")),
    "6.8 JSON: at most 99 levels": _parsed(_refuse(r"(\[\{\"a\":){50}|\[{100}")),
    "6.8 JSON: noncharacters refused": _parsed(_refuse("[\ufdd0\ufffe\uffff]")),
    "6.8 JSON: characters outside of the BMP refused": _parsed(_refuse("[\U00010000-\U0010ffff]")),
    "6.8 JSON: UTF-16 and UTF-32 taken where there is no mark": _decoded(
        lambda p: p.decode(
            "utf-8" if p[:2] in (b"\xff\xfe", b"\xfe\xff") else json.detect_encoding(p)
        )
    ),
    "6.8 JSON: UTF-8 not checked inside of strings": _decoded(
        lambda p: p.decode("utf-8", "replace")
    ),
    "6.8 JSON: Latin-1 taken where it is not UTF-8": _decoded(
        lambda p: p.decode() if b"\xed" in p or _is_utf_8(p) else p.decode("latin-1")
    ),
    "6.8 JSON: surrogates taken": _decoded(lambda p: p.decode("utf-8", "surrogatepass")),
    "6.8 JSON in whatever encoding": _decoded(lambda p: p.decode(json.detect_encoding(p))),
}
