"""ON CONFLICT DO UPDATE, ON DUPLICATE KEY UPDATE."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, bindparam

from tests.matrix.axes import Design
from tests.matrix.kinds import IDENTITIES, IDENTITY_COLUMNS, SCOPE_COLUMNS, SCOPES
from tests.matrix.registry import one_table, shape
from tests.matrix.worlds import World

SECTION = "ON CONFLICT DO UPDATE, ON DUPLICATE KEY UPDATE"
BOTH = ("one", "many")
RETURNING = ("no", "columns", "key")


def _with_values(design: Design) -> bool:
    return one_table(design) and design.values not in ("default", "callable", "computed")


def _names_columns(design: Design) -> bool:
    """Whether values are bound to columns that are no part of the key."""
    return design.identity != "key" or design.scope not in ("column", "row", "key")


def _rows(w: World, *numbers: int) -> list[dict[str, Any]]:
    """Rows with their keys, also where the server or a default would give them."""
    return [{**w.model.table_row(n), **w.model.key_of(n)} for n in numbers]


def _conflicting(w: World) -> list[dict[str, Any]]:
    """Row 1 again with other values, and a new one."""
    again = {**_rows(w, 1)[0], **w.secrets(1, core=True)}
    return [again, *_rows(w, 3)] if w.many else [again]


def _told(w: World, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with what the server would make of what values are bound to."""
    if w.model.design.given != "server_defaults":
        return rows
    names = [name for name in _scope_names(w) if name not in ("id", "code")]
    kinds = {**SCOPE_COLUMNS, **IDENTITY_COLUMNS}
    keys = w.model.keys_of(names)
    return [
        {**row, **{key: kinds[name].value(n) for key, name in zip(keys, names, strict=True)}}
        for n, row in zip((1, 3), rows, strict=False)
    ]


def _execute(w: World, statement: Any, rows: list[dict[str, Any]] | None = None) -> None:
    rows = rows or _conflicting(w)
    w.run(statement, rows if w.many else rows[0])


def _scope_names(w: World) -> list[str]:
    """Attributes that an upsert has to bring with a value."""
    design = w.model.design
    names = [name for name in SCOPES[design.scope] if name != "id"]
    if design.scope == "key" and design.identity != "key":
        # On MySQL and MariaDB the row that is there may have another key.
        return ["id", *IDENTITIES[design.identity]]
    return [*names, *IDENTITIES[design.identity]]


@shape(SECTION, 'on the primary key, set_={"text": new.excluded.text}  # MySQL: new.inserted.text',
       returning=RETURNING, many=BOTH,
       fits=lambda d: _with_values(d) and not _names_columns(d))  # fmt: skip
def upsert_excluded(w: World) -> None:
    """The row that survives is the one that the value is sealed for."""
    names = w.model.table_encrypted
    _execute(w, w.on_conflict(w.upsert(), lambda e: {name: e[name] for name in names}))


@shape(SECTION, 'set_={"text": new.excluded.text}  # without the scope or identity it has',
       fits=lambda d: _with_values(d) and _names_columns(d))  # fmt: skip
def upsert_without_scope(w: World) -> None:
    """The row that survives may have another one."""
    names = w.model.table_encrypted
    _execute(w, w.on_conflict(w.upsert(), lambda e: {name: e[name] for name in names}))


@shape(SECTION, 'set_={"secret": new.excluded.secret, "tenant": new.excluded.tenant}',
       returning=RETURNING, many=BOTH, fits=_with_values)  # fmt: skip
def upsert_with_scope(w: World) -> None:
    """The scope goes with the value."""
    names = [*w.model.table_encrypted, *w.model.keys_of(_scope_names(w))]
    statement = w.on_conflict(w.upsert(), lambda e: {name: e[name] for name in names})
    _execute(w, statement, _told(w, _conflicting(w)))


@shape(SECTION, 'set_={"text": None}', many=BOTH,
       fits=lambda d: _with_values(d) and d.values != "required")  # fmt: skip
def upsert_null(w: World) -> None:
    """NULL is bound to nothing."""
    names = w.model.table_encrypted
    _execute(w, w.on_conflict(w.upsert(), lambda _: dict.fromkeys(names)))


@shape(SECTION, 'set_={"name": "new"}  # a plain column', returning=RETURNING, many=BOTH,
       fits=_with_values)  # fmt: skip
def upsert_plain(w: World) -> None:
    """The row keeps its values."""
    _execute(w, w.on_conflict(w.upsert(), lambda _: {"name": "n"}))


@shape(SECTION, 'set_={"text": "x"}', returning=RETURNING, many=BOTH,
       fits=lambda d: _with_values(d) and not _names_columns(d))  # fmt: skip
def upsert_own_value(w: World) -> None:
    """A value of its own, sealed for the row that survives."""
    values = w.secrets(2, core=True)
    _execute(w, w.on_conflict(w.upsert(), lambda _: values))


# Of a scope that the server makes a message of its own tells, once this one is followed.
@shape(SECTION, 'set_={"text": "x"}  # without the scope or identity it has', many=BOTH,
       fits=lambda d: _with_values(d) and _names_columns(d)
       and d.given != "server_defaults")  # fmt: skip
def upsert_own_value_without_scope(w: World) -> None:
    """The row that survives may have another one."""
    values = w.secrets(2, core=True)
    _execute(w, w.on_conflict(w.upsert(), lambda _: values))


@shape(SECTION, 'set_={"tenant": ...}  # leaves values behind',
       fits=lambda d: _with_values(d) and d.scope not in ("column", "row", "key"))  # fmt: skip
def upsert_scope_alone(w: World) -> None:
    """They would not open any more."""
    names = [name for name in _scope_names(w) if not name.endswith(("code", "slot"))]
    moved = {name: w.model.makers[name](4) for name in names}
    if not all(isinstance(value, str | int) or value for value in moved.values()):
        return
    keys = w.model.keys_of(names)
    _execute(w, w.on_conflict(w.upsert(), lambda e: {key: e[key] for key in keys}))


def _with_identity(design: Design) -> bool:
    return _with_values(design) and design.identity != "key" and design.given == "given"


def _on_the_identity(w: World, **target: Any) -> None:
    """Row 1 is found by its identity; the primary key is another one."""
    names = [name for name in _scope_names(w) if name != "id"]
    again = w.model.table_row(1)
    own = {key: again[key] for key in w.model.keys_of(names)}
    row = {**_rows(w, 5)[0], **w.secrets(1, core=True), **own}
    statement = w.upsert()
    encrypted = w.model.table_encrypted
    if hasattr(statement, "inserted"):
        new = statement.inserted
        statement = statement.on_duplicate_key_update(**{name: new[name] for name in encrypted})
    else:
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            **target, set_={name: new[name] for name in encrypted}
        )
    w.run(statement, [row, _rows(w, 3)[0]] if w.many else row)


def _identity(w: World) -> list[Any]:
    return [w.model.table.c[key] for key in w.model.keys_of(IDENTITIES[w.model.design.identity])]


@shape(SECTION, "on the unique key that is the identity", many=BOTH,
       fits=_with_identity)  # fmt: skip
def upsert_on_the_identity(w: World) -> None:
    """The row that survives has the identity that the value is sealed for."""
    _on_the_identity(w, index_elements=[column.name for column in _identity(w)])


@shape(SECTION, "on the identity, index_elements=[t.c.code]  # columns, not texts",
       returning=RETURNING, fits=_with_identity)  # fmt: skip
def upsert_on_identity_columns(w: World) -> None:
    """Likewise."""
    _on_the_identity(w, index_elements=_identity(w))


@shape(SECTION, 'on the identity, constraint="name"', returning=RETURNING,
       fits=lambda d: _with_identity(d) and d.identity == "code+slot")  # fmt: skip
def upsert_on_identity_constraint(w: World) -> None:
    """Likewise. Only PostgreSQL has such a clause."""
    if w.dialect != "postgresql":
        raise NotImplementedError(w.dialect)
    _on_the_identity(w, constraint=f"{w.model.table.name}_uq")


@shape(SECTION, 'v = bindparam("v"); values(text=v), set_={"text": v, "name": v}',
       returning=RETURNING, many=BOTH,
       fits=lambda d: one_table(d) and d.inner == "str" and not _names_columns(d))  # fmt: skip
def upsert_one_parameter(w: World) -> None:
    """One parameter in VALUES and in the clause; the plain column gets the value."""
    values: Any = bindparam("v", type_=String())
    names = (*w.model.table_encrypted, "name")
    inserted = {**w.one_parameter(), **{key: bindparam(f"b_{key}") for key in w.model.key}}
    statement = w.on_conflict(w.upsert().values(inserted), lambda _: dict.fromkeys(names, values))
    numbers = (1, 3) if w.many else (1,)
    rows = [
        {**row, **{f"b_{key}": value for key, value in w.model.key_of(n).items()}}
        for n, row in zip(numbers, w.new_rows_of_one_parameter(*numbers), strict=True)
    ]
    w.run(statement, rows if w.many else rows[0])


@shape(SECTION, "on_conflict_do_nothing()  # MySQL: on_duplicate_key_update(id=t.c.id)",
       returning=RETURNING, many=BOTH, fits=one_table)  # fmt: skip
def upsert_nothing(w: World) -> None:
    """A row that is there stays as it is."""
    statement = w.upsert()
    if hasattr(statement, "inserted"):
        key = w.model.key[0]
        statement = statement.on_duplicate_key_update(**{key: w.model.table.c[key]})
    else:
        statement = statement.on_conflict_do_nothing()
    rows = _rows(w, 1, 3) if w.many else _rows(w, 1)
    w.run(statement, rows if w.many else rows[0])


@shape(SECTION, "on_conflict_do_nothing()  # the server or a default gives the key",
       returning=RETURNING, many=BOTH, fits=one_table)  # fmt: skip
def upsert_nothing_new_keys(w: World) -> None:
    """No key is given, so that only another unique key can be hit."""
    statement = w.upsert()
    if hasattr(statement, "inserted"):
        key = w.model.key[0]
        statement = statement.on_duplicate_key_update(**{key: w.model.table.c[key]})
    else:
        statement = statement.on_conflict_do_nothing()
    rows = w.rows()
    w.run(statement, rows if w.many else rows[0])


@shape(SECTION, 'insert(t).prefix_with("IGNORE")  # SQLite: OR IGNORE',
       fits=one_table)  # fmt: skip
def insert_ignore(w: World) -> None:
    """It would change a key that is out of range, and the value is sealed for the one given."""
    prefix = {"sqlite": "OR IGNORE"}.get(w.dialect, "IGNORE")
    w.run(w.upsert().prefix_with(prefix), w.rows()[0])
