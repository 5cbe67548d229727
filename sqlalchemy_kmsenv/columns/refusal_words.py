"""What a refused operator, or place, would have done to envelopes, and what to do instead."""

from __future__ import annotations

from typing import Any

from sqlalchemy.sql import operators as ops

_EQUALITY = (
    "two envelopes of one value differ, so {} in SQL would compare nothing. Find the row by a"
    " plain column and compare in the application; is_(None) and is_not(None) work"
)
_ORDER = (
    "envelopes are in no order of their values, so {} in SQL would pick rows at random. Select the"
    " rows by a plain column and compare in the application"
)
_SORTING = (
    "envelopes are in no order of their values, so {} would sort them at random. Order by a plain"
    " column, or sort in the application"
)
_SEARCH = (
    "an envelope holds no text to search, so {} in SQL would find nothing. Select the rows by a"
    " plain column and search in the application"
)
_INSIDE = (
    "SQL cannot look inside of a value that is sealed, so {} has nothing to take from. Select the"
    " column and take it from the value in the application"
)
_ARITHMETIC = (
    "{} in SQL would compute with the bytes of envelopes. Select the value, compute in the"
    " application, and write what comes out"
)
_NULL_ONLY = (
    "{} in SQL would ask that of an envelope. is_(None) and is_not(None) of the column itself work"
    " (for a subquery, inside of it, under exists()); ask for anything else in the application"
)
_DISTINCT = (
    "two envelopes of one value differ, so {} would find no two alike. Select the column together"
    " with its key and tell values apart in the application"
)
_COLLATE = (
    "an envelope is binary, so {} has no text to apply to. Select the column and sort or compare"
    " in the application"
)
_OTHER = (
    "{} in SQL would work on its envelopes, of which two of one value differ. Select the column"
    " and compute in the application; is_(None) and is_not(None) work"
)

_SENTENCES: dict[str, tuple[Any, ...]] = {
    _EQUALITY: (
        ops.eq, ops.ne, ops.in_op, ops.not_in_op, ops.is_distinct_from, ops.is_not_distinct_from,
        ops.any_op, ops.all_op,
    ),
    _ORDER: (ops.lt, ops.le, ops.gt, ops.ge, ops.between_op, ops.not_between_op),
    _SORTING: (ops.asc_op, ops.desc_op, ops.nulls_first_op, ops.nulls_last_op),
    _SEARCH: (
        ops.like_op, ops.not_like_op, ops.ilike_op, ops.not_ilike_op,
        ops.startswith_op, ops.not_startswith_op, ops.istartswith_op, ops.not_istartswith_op,
        ops.endswith_op, ops.not_endswith_op, ops.iendswith_op, ops.not_iendswith_op,
        ops.contains_op, ops.not_contains_op, ops.icontains_op, ops.not_icontains_op,
        ops.match_op, ops.not_match_op, ops.regexp_match_op, ops.not_regexp_match_op,
        ops.regexp_replace_op,
    ),
    _INSIDE: (ops.getitem, ops.json_getitem_op, ops.json_path_getitem_op),
    _ARITHMETIC: (
        ops.add, ops.sub, ops.mul, ops.truediv, ops.floordiv, ops.mod, ops.neg, ops.concat_op,
        ops.bitwise_and_op, ops.bitwise_or_op, ops.bitwise_xor_op, ops.bitwise_not_op,
        ops.bitwise_lshift_op, ops.bitwise_rshift_op, ops.and_, ops.or_, ops.inv,
    ),
    _NULL_ONLY: (ops.is_, ops.is_not),
    _DISTINCT: (ops.distinct_op,),
    _COLLATE: (ops.collate,),
}  # fmt: skip
_SENTENCE_OF = {operator: sentence for sentence, all_ in _SENTENCES.items() for operator in all_}


_PLACES = {
    "ORDER BY": _SORTING,
    "GROUP BY": (
        "two envelopes of one value differ, so {} would make a group of each row. Group by a plain"
        " column, or in the application"
    ),
    "DISTINCT ON": _DISTINCT,
    "CASE": (
        "what {} chooses belongs to no row. Select the column, and the condition beside it, and"
        " choose in the application"
    ),
    "a cast": (
        "{} would make text or numbers of its envelopes. Select the column and convert in the"
        " application; type_coerce(column, LargeBinary) gives the stored bytes"
    ),
    "the value of another column": (
        "as {} its envelope would not open. Read the value, and write it there"
    ),
    "the rows of an INSERT": (
        "among {} its envelopes would not open. Read the rows, and insert them in the application"
    ),
    "the rows of another table": (
        "among {} its envelopes would not open. Read the rows, and write them there"
    ),
    "table_valued()": "{} makes one value of a whole row. Select its columns instead",
}
_ANY_PLACE = (
    "{} would work on its envelopes, of which two of one value differ. Select the column and"
    " compute in the application; IS NULL and count() work in SQL, and"
    " type_coerce(column, LargeBinary) gives the stored bytes"
)


def refused_operator(operator: Any) -> str:
    """Why an operator is refused on an encrypted column, and what to do instead."""
    return _SENTENCE_OF.get(operator, _OTHER).format(_named(operator))


def refused_place(place: str) -> str:
    """The same for a place in a statement where an encrypted column may not stand."""
    return _PLACES.get(place, _ANY_PLACE).format(place)


def _named(operator: Any) -> str:
    """An operator as whoever wrote it knows it: ``==``, ``like()``, ``@>``."""
    symbol = _SYMBOLS.get(operator) or getattr(operator, "opstring", None)
    if symbol is not None:
        return str(symbol)
    return str(getattr(operator, "__name__", operator)).removesuffix("_op") + "()"


_SYMBOLS: dict[Any, str] = {
    ops.eq: "==", ops.ne: "!=", ops.lt: "<", ops.le: "<=", ops.gt: ">", ops.ge: ">=",
    ops.add: "+", ops.sub: "-", ops.mul: "*", ops.truediv: "/", ops.floordiv: "//", ops.mod: "%",
    ops.neg: "-", ops.concat_op: "||", ops.in_op: "in_()", ops.not_in_op: "not_in()",
    ops.and_: "&", ops.or_: "|", ops.inv: "~", ops.is_: "is_()", ops.is_not: "is_not()",
    ops.getitem: "[...]", ops.json_getitem_op: "[...]", ops.json_path_getitem_op: "[...]",
}  # fmt: skip
