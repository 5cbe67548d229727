"""UPDATE and DELETE."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, bindparam, delete, func, lambda_stmt, select, update

from tests.matrix.axes import Design
from tests.matrix.kinds import SCOPE_COLUMNS, SCOPES
from tests.matrix.registry import ALL_RETURNING, ROWS_RETURNING, shape
from tests.matrix.worlds import World

SECTION = "UPDATE"
BOTH = ("one", "many")


def _scoped(design: Design) -> bool:
    return any(name in SCOPE_COLUMNS for name in SCOPES[design.scope])


def _movable(design: Design) -> bool:
    return not design.inherit.startswith("joined") and design.key != "server" and _apart(design)


def _apart(design: Design) -> bool:
    """Whether no plain column looks at what else an UPDATE sets: one that moves sets more."""
    return design.values != "digest"


def _moved(w: World, *, core: bool) -> dict[str, Any]:
    """Another scope for row 1."""
    own = "c_" if core and w.model.design.inherit == "joined_child" else ""
    names = [name for name in SCOPES[w.model.design.scope] if name in SCOPE_COLUMNS]
    keys = w.model.keys_of(own + name for name in names) if core else names
    return {key: SCOPE_COLUMNS[name].value(4) for key, name in zip(keys, names, strict=True)}


@shape(SECTION, 'note.text = "x"; session.flush()', many=BOTH)
def update_flush(w: World) -> None:
    """One batch for the objects that changed the same attributes."""
    objects = [w.load(n) for n in w.old]
    for n, each in zip(w.old, objects, strict=True):
        for name, value in w.secrets(n, core=False).items():
            setattr(each, name, value)
    w.session.flush()
    w.note_objects(objects)


@shape(SECTION, 'note.name = "x"; session.flush()  # a plain column', many=BOTH)
def update_flush_plain(w: World) -> None:
    """What ``onupdate`` gives is sealed for the row, and set on the object."""
    objects = [w.load(n) for n in w.old]
    for each in objects:
        each.name = "n"
    w.session.flush()
    w.note_objects(objects)


@shape(SECTION, "note.text = None; session.flush()", fits=lambda d: d.values != "required")
def update_flush_null(w: World) -> None:
    """NULL is bound to nothing."""
    each = w.load(1)
    setattr(each, w.model.encrypted[0], None)
    w.session.flush()
    w.note_objects([each])


@shape(SECTION, 'note.id = 9, note.tenant = "t2"; session.flush()', fits=_movable)
def update_flush_move(w: World) -> None:
    """Every value is sealed again, for where the row is now."""
    each = w.load(1)
    for name, value in {**w.model.key_of(6), **_moved(w, core=False)}.items():
        setattr(each, name, value)
    w.session.flush()
    w.note_objects([each])


@shape(SECTION, 'note.tenant = "t2"; session.flush()',
       fits=lambda d: _scoped(d) and _apart(d))  # fmt: skip
def update_flush_scope(w: World) -> None:
    """Likewise."""
    each = w.load(1)
    own = "c_" if w.model.design.inherit == "joined_child" else ""
    for name, value in _moved(w, core=False).items():
        setattr(each, own + name, value)
    w.session.flush()
    w.note_objects([each])


@shape(SECTION, 'note.text = func.lower("X"); session.flush()', fits=lambda d: d.inner == "str")
def update_flush_expression(w: World) -> None:
    """The value would be known to the database alone, in plaintext."""
    setattr(w.load(1), w.model.encrypted[0], func.lower("X"))
    w.session.flush()


@shape(SECTION, 'update(t).where(t.c.id == 1).values(text="x")', returning=ALL_RETURNING)
def update_key(w: World) -> None:
    """The key names the row; the scope is read in the same transaction."""
    w.run(update(w.model.table).where(w.is_row(1)).values(w.secrets(1, core=True)))


@shape(SECTION, 'update(t).where(t.c.id == 1).ordered_values((t.c.text, "x"))',
       returning=ROWS_RETURNING)  # fmt: skip
def update_ordered(w: World) -> None:
    """In the order that is given."""
    values = {"name": "n", **w.secrets(1, core=True)}
    if "name" not in w.model.table.c:
        values.pop("name")
    pairs = [(w.model.table.c[name], value) for name, value in values.items()]
    w.run(update(w.model.table).where(w.is_row(1)).ordered_values(*pairs))


@shape(SECTION, 'execute(update(t).where(t.c.id == bindparam("k")), [{"k": 1, "text": "x"}, ...])',
       returning=ROWS_RETURNING, many=BOTH)  # fmt: skip
def update_parameters(w: World) -> None:
    """Core's executemany."""
    rows = [{**w.bound(n), **w.secrets(n, core=True)} for n in w.old]
    w.run(update(w.model.table).where(w.is_bound()), rows if w.many else rows[0])


@shape(SECTION, 'update(t).where(t.c.id == bindparam("k")).values(text=bindparam("v"))', many=BOTH)
def update_bound_values(w: World) -> None:
    """Values by other names than the columns'."""
    names = w.model.table_encrypted
    statement = update(w.model.table).where(w.is_bound())
    statement = statement.values({name: bindparam("v_" + name) for name in names})
    rows = []
    for n in w.old:
        given = {"v_" + name: value for name, value in w.secrets(n, core=True).items()}
        rows.append({**w.bound(n), **given})
    w.run(statement, rows if w.many else rows[0])


@shape(SECTION, 'v = bindparam("v"); update(t).where(t.c.id == ..., t.c.name == v).values(text=v)',
       returning=ROWS_RETURNING, many=BOTH, fits=lambda d: d.inner == "str")  # fmt: skip
def update_one_parameter(w: World) -> None:
    """One parameter in several places: WHERE compares with the value, not with its envelope."""
    value: Any = bindparam("v", type_=String())
    name = "name" if "name" in w.model.table.c else "c_name"
    statement = update(w.model.table).where(w.is_bound(), w.model.table.c[name] == value)
    statement = statement.values(dict.fromkeys(w.model.table_encrypted, value))
    rows = [{**w.bound(n), "v": w.model.makers[name](n)} for n in w.old]
    w.run(statement, rows if w.many else rows[0])


@shape(SECTION, 'session.execute(update(Note), [{"id": 1, "text": "x"}, ...])', many=BOTH)
def update_orm_bulk(w: World) -> None:
    """By primary key."""
    rows = [{**w.model.key_of(n), **w.secrets(n, core=False)} for n in w.old]
    w.note(w.session.execute(update(w.model.entity), rows))


@shape(SECTION, 'session.execute(update(Note).where(Note.id == 1).values(text="x"))',
       returning=("no", "entity", "columns", "key"),
       fits=lambda d: d.inherit not in ("joined_child", "joined_both", "joined_same"))  # fmt: skip
def update_orm_where(w: World) -> None:
    """With the objects of the session brought up to date."""
    each = w.load(1)
    statement = update(w.model.entity).where(w.is_row(1, w.model.entity))
    w.run(statement.values(w.secrets(1, core=False)), core=False)
    w.note_objects([each])


@shape(SECTION, "session.bulk_update_mappings(Note, [...])", many=BOTH)
def update_mappings(w: World) -> None:
    """By primary key."""
    rows = [{**w.model.key_of(n), **w.secrets(n, core=False)} for n in w.old]
    w.session.bulk_update_mappings(w.model.entity, rows)


@shape(SECTION, "session.merge(Note(id=1, ...))")
def update_merge(w: World) -> None:
    """Loads, compares in the application, and writes what differs."""
    row = {**w.model.key_of(1), **w.secrets(1, core=False)}
    each = w.session.merge(w.model.entity(**row))
    w.session.flush()
    w.note_objects([each])


@shape(SECTION, "update(t).values(text=None)  # any number of rows",
       fits=lambda d: d.values != "required")  # fmt: skip
def update_null(w: World) -> None:
    """NULL is bound to nothing."""
    w.run(update(w.model.table).values(dict.fromkeys(w.model.table_encrypted)))


@shape(SECTION, 'update(t).values(text="x")  # any number of rows')
def update_all(w: World) -> None:
    """One envelope cannot be bound to several rows; with bind="column" it belongs to none."""
    w.run(update(w.model.table).values(w.secrets(1, core=True)))


@shape(SECTION, "update(t).values(text=t.c.other)", fits=lambda d: d.layout == "three")
def update_from_a_column(w: World) -> None:
    """It would copy an envelope to where it does not open."""
    first, second, *_ = w.model.table_encrypted
    w.run(update(w.model.table).where(w.is_row(1)).values({first: w.model.table.c[second]}))


@shape(SECTION, "update(t).values(name=t.c.text)",
       fits=lambda d: d.inherit != "joined_child" and d.inner == "str")  # fmt: skip
def update_plain_from_encrypted(w: World) -> None:
    """It would put an envelope where a text belongs."""
    w.run(update(w.model.table).values(name=w.model.table.c[w.model.table_encrypted[0]]))


@shape(SECTION, "update(t).where(t.c.id == 1).values(name=row.text)  # read before",
       fits=lambda d: d.inherit != "joined_child" and d.inner == "str")  # fmt: skip
def update_plain_read(w: World) -> None:
    """The value, in plaintext."""
    name = w.model.table_encrypted[0]
    query = select(w.model.table.c[name]).where(w.is_row(1))
    w.run(update(w.model.table).where(w.is_row(1)).values(name=w.core.execute(query).scalar()))


@shape(SECTION, 'update(t).where(t.c.id == 1).values(tenant="t2")', fits=_scoped)
def update_scope_alone(w: World) -> None:
    """It would leave values behind that do not open any more."""
    w.run(update(w.model.table).where(w.is_row(1)).values(_moved(w, core=True)))


@shape(SECTION, 'update(t).where(t.c.id == 1).values(tenant="t2", text="x")', fits=_scoped)
def update_scope_and_values(w: World) -> None:
    """With every encrypted column that is bound to what changes."""
    values = {**_moved(w, core=True), **w.secrets(1, core=True)}
    w.run(update(w.model.table).where(w.is_row(1)).values(values))


@shape(SECTION, "update(t).where(...).values(name=...)  # a plain column",
       returning=ROWS_RETURNING)  # fmt: skip
def update_plain(w: World) -> None:
    """Nothing is sealed, unless ``onupdate`` gives a value."""
    name = "name" if "name" in w.model.table.c else "c_name"
    w.run(update(w.model.table).where(w.is_row(1)).values({name: "n"}))


@shape(SECTION, 'update(t.alias()).values(text="x")')
def update_alias(w: World) -> None:
    """Nothing can be sealed through an alias, a join, or several tables."""
    alias: Any = w.model.table.alias()
    w.core.execute(update(alias).values(w.secrets(1, core=True)))


@shape(SECTION, 'lambda_stmt(lambda: update(t).values(text="x"))')
def update_lambda(w: World) -> None:
    """The engine's events do not see the UPDATE; so in from_statement() and CTEs."""
    table, [(name, value), *_] = w.model.table, w.secrets(1, core=True).items()
    w.core.execute(lambda_stmt(lambda: update(table).values({name: value})))


@shape(SECTION, "session.delete(note); session.flush()")
def delete_flush(w: World) -> None:
    """Untouched."""
    w.session.delete(w.load(1))
    w.session.flush()


@shape(SECTION, "delete(t).where(...)", returning=ROWS_RETURNING,
       fits=lambda d: not d.inherit.startswith("joined"))  # fmt: skip
def delete_core(w: World) -> None:
    """Untouched."""
    w.run(delete(w.model.table).where(w.is_row(1)))
