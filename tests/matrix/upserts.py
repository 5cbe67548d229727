"""ON CONFLICT DO UPDATE, ON DUPLICATE KEY UPDATE."""

from __future__ import annotations

from typing import Any

from tests.matrix.axes import Design
from tests.matrix.kinds import IDENTITIES, SCOPES
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


def _execute(w: World, statement: Any) -> None:
    rows = _conflicting(w)
    w.run(statement, rows if w.many else rows[0])


def _scope_names(w: World) -> list[str]:
    if w.model.table_encrypted and w.model.table_encrypted[0].startswith("c_"):
        own = "c_" if w.model.design.inherit.startswith("joined") else ""
    else:
        own = ""
    design = w.model.design
    names = [name for name in SCOPES[design.scope] if name != "id"]
    if design.scope == "key" and design.identity != "key":
        # On MySQL and MariaDB the row that is there may have another key.
        return ["id", *(own + name for name in IDENTITIES[design.identity])]
    return [own + name for name in (*names, *IDENTITIES[design.identity])]


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
    names = [*w.model.table_encrypted, *_scope_names(w)]
    _execute(w, w.on_conflict(w.upsert(), lambda e: {name: e[name] for name in names}))


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


@shape(SECTION, 'set_={"text": "x"}', returning=RETURNING, many=BOTH, fits=_with_values)
def upsert_own_value(w: World) -> None:
    """A value of its own."""
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
    _execute(w, w.on_conflict(w.upsert(), lambda e: {name: e[name] for name in names}))


@shape(SECTION, "on the unique key that is the identity",
       fits=lambda d: _with_values(d) and d.identity != "key" and d.given == "given")  # fmt: skip
def upsert_on_the_identity(w: World) -> None:
    """The row that survives has the identity that the value is sealed for."""
    row = {**_rows(w, 5)[0], **w.secrets(1, core=True)}
    names = IDENTITIES[w.model.design.identity]
    own = {name: w.model.table_row(1)[name] for name in _scope_names(w) if name != "id"}
    statement = w.upsert()
    encrypted = w.model.table_encrypted
    if hasattr(statement, "inserted"):
        statement = statement.on_duplicate_key_update(
            **{name: statement.inserted[name] for name in encrypted}
        )
    else:
        statement = statement.on_conflict_do_update(
            index_elements=names, set_={name: statement.excluded[name] for name in encrypted}
        )
    w.run(statement, {**row, **own})


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
