"""Mistakes of clauses 6.6 and 6.7: dates, times, durations."""

from __future__ import annotations

import datetime
import re
import struct

from tests.vectors.mistakes.planting import (
    Methods,
    Mistakes,
    Wrong,
    after,
    asking,
    asserted,
    loose,
    mapped,
    right,
    unless,
)
from tests.vectors.reader import Reader
from tests.vectors.values import require

_HMS = rb"([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_DATE = rb"\d{4}-\d\d-\d\d"
_DAYS = 999_999_999


def _days(condition: Wrong) -> Methods:
    """Days that the calendar does not have."""

    def read_date(self: Reader, payload: bytes) -> str:
        found = re.fullmatch(rb"(\d{4})-(\d\d)-(\d\d)", payload)
        if found and condition(*map(int, found.groups())):
            return payload.decode()
        return right("read_date")(self, payload)

    return {"read_date": read_date}


def _both(condition: Wrong) -> Methods:
    """Dates and times of which some are refused."""
    return after("read_datetime", lambda text: asserted(text, condition(text)))


def _has_utc(text: str) -> bool:
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo:
            moment.astimezone(datetime.UTC)
    except (OverflowError, ValueError):
        return False
    return True


def _duration(layout: str, condition: Wrong) -> Methods:
    """Durations of another layout or range."""

    def read_timedelta(_: Reader, payload: bytes) -> str:
        require(len(payload) == 12)
        days, seconds, micros = struct.unpack(layout, payload)
        require(condition(days, seconds, micros))
        return f"{days} {seconds} {micros}"

    return {"read_timedelta": read_timedelta}


MISTAKES: Mistakes = {
    "6.6 date: year 0000 taken": _days(lambda y, m, d: y == 0 and 1 <= m <= 12 and 1 <= d <= 28),
    "6.6 date: 29 February each year": _days(lambda y, m, d: (m, d) == (2, 29)),
    "6.6 date: leap years each four years (1900)": _days(
        lambda y, m, d: (m, d) == (2, 29) and y % 4 == 0 and y
    ),
    "6.6 date: Julian before 1582 (1500-02-29)": _days(
        lambda y, m, d: (m, d) == (2, 29) and y % 4 == 0 and 0 < y < 1582
    ),
    "6.6 date: 1582-10-05 to 14 refused": unless("read_date", rb"1582-10-(0[5-9]|1[0-4])"),
    "6.6 date: leap years never in centuries (2000)": unless("read_date", rb"..00-02-29"),
    "6.6 date: day 31 in each month": _days(lambda y, m, d: y and 1 <= m <= 12 and d == 31),
    "6.6 date: day 00 taken": _days(lambda y, m, d: y and 1 <= m <= 12 and d == 0),
    "6.6 date: month 00 taken": _days(lambda y, m, d: y and m == 0),
    "6.6 date: month 13 taken": _days(lambda y, m, d: y and m == 13),
    "6.6 date: no calendar at all": _days(lambda y, m, d: True),
    "6.6 date: a line feed at the end taken": mapped("read_date", lambda p: p.removesuffix(b"\n")),
    "6.6 date: blanks around taken": mapped("read_date", lambda p: p.strip(b" ")),
    "6.6 date: digits outside of ASCII taken": {
        "read_date": lambda s, p: (
            p.decode()
            if not p.isascii() and re.fullmatch(r"\d{4}-\d\d-\d\d", p.decode("utf-8", "replace"))
            else right("read_date")(s, p)
        )
    },
    "6.6 date: one digit of month or day taken (2024-2-9)": loose(
        "read_date", rb"\d{4}-\d{1,2}-\d|\d{4}-\d-\d{1,2}"
    ),
    "6.6 date: a time behind taken (T00:00:00)": mapped(
        "read_date", lambda p: p.removesuffix(b"T00:00:00")
    ),
    "6.6 date: ordinal date taken": loose("read_date", rb"\d{4}-\d{3}"),
    "6.6 date: week date taken": loose("read_date", rb"\d{4}-W\d\d(-\d)?"),
    "6.6 date: slashes taken": mapped("read_date", lambda p: p.replace(b"/", b"-")),
    "6.6 date: before 1000 refused": unless("read_date", rb"0.*"),
    "6.6 date: year and month alone taken": loose("read_date", rb"\d{4}-\d\d"),
    "6.6 date: more digits of a year taken (+10000)": loose(
        "read_date", rb"[+-]?\d{5,6}-\d\d-\d\d"
    ),
    "6.6 time: hour 24 taken where the rest is zero": loose("read_time", rb"24:00:00"),
    "6.6 time: minute 60 taken": loose("read_time", rb"\d\d:60:\d\d"),
    "6.6 time: second 60 taken at 23:59 alone": loose("read_time", rb"23:59:60(\.\d{6})?"),
    "6.6 time: second 60 with a fraction taken": loose("read_time", rb"\d\d:\d\d:60\.\d{6}"),
    "6.6 time: second 61 taken": loose("read_time", rb"\d\d:\d\d:61"),
    "6.6 time: a comma before the fraction taken": loose("read_time", _HMS + rb",\d{6}"),
    "6.6 time: fractions of 9 digits taken": loose("read_time", _HMS + rb"\.\d{9}"),
    "6.6 time: fractions of 1 to 5 digits taken": loose("read_time", _HMS + rb"\.\d{1,5}"),
    "6.6 time: a point without digits taken": loose("read_time", _HMS + rb"\."),
    "6.6 time: offset +HHMM taken": loose("read_time", _HMS + rb"[+-]\d{4}"),
    "6.6 time: offset +HH taken": loose("read_time", _HMS + rb"[+-]\d\d"),
    "6.6 time: offset of 60 minutes taken": loose("read_time", _HMS + rb"[+-]\d\d:60"),
    "6.6 time: offset of 60 seconds taken": loose("read_time", _HMS + rb"[+-]\d\d:\d\d:60"),
    "6.6 time: offset of 24:00 taken": loose("read_time", _HMS + rb"[+-]24:00"),
    "6.6 time: offset with a fraction of zeros and seconds taken": loose(
        "read_time", _HMS + rb"[+-]\d\d:\d\d:(?!00)\d\d\.0{6}"
    ),
    "6.6 time: offset with a fraction of three digits taken": loose(
        "read_time", _HMS + rb"[+-]\d\d:\d\d:\d\d\.\d{3}"
    ),
    "6.6 time: offset with a fraction and no seconds taken": loose(
        "read_time", _HMS + rb"[+-]\d\d:\d\d\.\d{6}"
    ),
    "6.6 time: offset -00:00:00 taken": loose("read_time", _HMS + rb"-00:00:00"),
    "6.6 time: offset -00:00 taken": loose("read_time", _HMS + rb"-00:00"),
    "6.6 time: Z taken": loose("read_time", _HMS + rb"(\.\d{6})?Z"),
    "6.6 time: small z taken": loose("read_time", _HMS + rb"(\.\d{6})?z"),
    "6.6 time: T before taken": loose("read_time", rb"T" + _HMS),
    "6.6 time: without colons taken": loose("read_time", rb"\d{6}"),
    "6.6 time: a blank before the offset taken": loose("read_time", _HMS + rb" [+-]\d\d:\d\d"),
    "6.6 time: the Unicode minus taken": loose("read_time", _HMS + rb"\xe2\x88\x92\d\d:\d\d"),
    "6.6 time: one digit of an hour taken": loose("read_time", rb"\d:\d\d:\d\d"),
    "6.6 time: a line feed at the end taken": loose("read_time", _HMS + rb"(\.\d{6})?\n"),
    "6.6 time: a zone's name behind taken": loose(
        "read_time", _HMS + rb"[+-]\d\d:\d\d\[[A-Za-z/]+\]"
    ),
    "6.6 time: +00:00:00.500000 refused": asking(
        "check_offset", lambda g, c, f: g + c != "+00:00:00"
    ),
    "6.6 time: -00:30 refused (hours -00)": asking(
        "check_offset", lambda g, c, f: not (g + c).startswith("-00:")
    ),
    "6.6 time: offsets of more than 14 hours refused": asking(
        "check_offset", lambda g, c, f: c <= "14:00"
    ),
    "6.6 time: offsets of more than 18 hours refused": asking(
        "check_offset", lambda g, c, f: c <= "18:00"
    ),
    "6.6 time: offsets of seconds refused": asking("check_offset", lambda g, c, f: len(c) == 5),
    "6.6 time: fraction of an offset refused": asking("check_offset", lambda g, c, f: not f),
    "6.6 time: offset with seconds of zero and a fraction refused": asking(
        "check_offset", lambda g, c, f: not f or not c.endswith(":00") or len(c) == 5
    ),
    "6.6 time: +00:00 is Z, refused as an offset": asking(
        "check_offset", lambda g, c, f: g + c != "+00:00"
    ),
    "6.6 time: -05:00 refused": unless("read_time", rb".*-\d\d:\d\d"),
    "6.6 time: offset's minutes not checked": mapped(
        "check_clock", lambda t: re.sub(r":[6-9]\d:", ":59:", t)
    ),
    "6.6 time: fraction of zeros not refused in offsets": {
        "check_offset": lambda s, g, c, f: right("check_offset")(
            s, g, c, f if f != ".000000" else ".000001"
        )
    },
    "6.6 date and time: refused where UTC leaves the years 1 to 9999": _both(_has_utc),
    "6.6 date and time: small t taken": mapped("read_datetime", lambda p: p.replace(b"t", b"T")),
    "6.6 date and time: a blank taken": mapped("read_datetime", lambda p: p.replace(b" ", b"T")),
    "6.6 date and time: any character between taken": mapped(
        "read_datetime", lambda p: p[:10] + b"T" + p[11:]
    ),
    "6.6 date and time: a date alone is midnight": {
        "read_datetime": lambda s, p: (
            right("read_date")(s, p) + "T00:00:00" if len(p) == 10 else right("read_datetime")(s, p)
        )
    },
    "6.6 date and time: hour 24 taken": loose("read_datetime", _DATE + rb"T24:00:00"),
    "6.6 date and time: second 60 taken": loose("read_datetime", _DATE + rb"T\d\d:\d\d:60.*"),
    "6.6 date and time: fraction of zeros taken": loose(
        "read_datetime", _DATE + rb"T\d\d:\d\d:\d\d\.000000.*"
    ),
    "6.6 date and time: fraction of three digits taken": loose(
        "read_datetime", _DATE + rb"T\d\d:\d\d:\d\d\.\d{3}([+-].*)?"
    ),
    "6.6 date and time: without seconds taken": loose("read_datetime", _DATE + rb"T\d\d:\d\d"),
    "6.6 date and time: without separators taken": loose("read_datetime", rb"\d{8}T\d{6}"),
    "6.6 date and time: the calendar not checked": loose(
        "read_datetime", _DATE + rb"T\d\d:\d\d:\d\d"
    ),
    "6.6 date and time: -00:00 taken": mapped(
        "read_datetime", lambda p: p.replace(b"-00:00", b"+00:00")
    ),
    "6.6 date and time: Z taken": mapped("read_datetime", lambda p: p.replace(b"Z", b"+00:00")),
    "6.6 date and time: seconds of zero in the offset taken": loose(
        "read_datetime", _DATE + rb"T\d\d:\d\d:\d\d[+-]\d\d:\d\d:00"
    ),
    "6.6 date and time: brought into UTC": after(
        "read_datetime",
        lambda t: (
            datetime.datetime.fromisoformat(t).astimezone(datetime.UTC).isoformat()
            if re.search(r"[+-]\d\d:\d\d$", t)
            else t
        ),
    ),
    "6.6 date and time: before 1970 refused": _both(lambda t: t >= "1970"),
    "6.6 date and time: before 1900 refused": _both(lambda t: t >= "1900"),
    "6.6 date and time: after 2262 refused": _both(lambda t: t < "2262"),
    "6.6 date and time: after 2038 refused": _both(lambda t: t < "2038"),
    "6.7 duration: seconds and microseconds signed, only checked above": _duration(
        ">iii", lambda d, s, m: abs(d) <= _DAYS and s <= 86399 and m <= 999999
    ),
    "6.7 duration: days unsigned": _duration(
        ">III", lambda d, s, m: d <= _DAYS and s <= 86399 and m <= 999999
    ),
    "6.7 duration: days not checked": _duration(">iII", lambda d, s, m: s <= 86399 and m <= 999999),
    "6.7 duration: days only checked above": _duration(
        ">iII", lambda d, s, m: d <= _DAYS and s <= 86399 and m <= 999999
    ),
    "6.7 duration: 86,400 seconds taken": _duration(
        ">iII", lambda d, s, m: abs(d) <= _DAYS and s <= 86400 and m <= 999999
    ),
    "6.7 duration: a million microseconds taken": _duration(
        ">iII", lambda d, s, m: abs(d) <= _DAYS and s <= 86399 and m <= 1000000
    ),
    "6.7 duration: as nanoseconds in 64 bits (292 years)": _duration(
        ">iII", lambda d, s, m: abs(d) <= 106751 and s <= 86399 and m <= 999999
    ),
    "6.7 duration: longer than 12 bytes cut": mapped("read_timedelta", lambda p: p[:12]),
    "6.7 duration: shorter than 12 bytes filled": mapped(
        "read_timedelta", lambda p: p.ljust(12, b"\0")
    ),
    "6.7 duration: seconds refused on the least day": _duration(
        ">iII",
        lambda d, s, m: (
            abs(d) <= _DAYS and s <= 86399 and m <= 999999 and (d > -_DAYS or s + m == 0)
        ),
    ),
    "6.6 time: offset of less than a second is UTC": after(
        "read_time", lambda t: re.sub(r"[+-]00:00:00\.\d+$", "+00:00", t)
    ),
    "6.6 time: fractions of zeros taken": {"check_fraction": lambda *_: None},
    "6.7 duration: nothing checked": _duration(">iII", lambda *_: True),
}
