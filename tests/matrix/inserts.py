"""INSERT: through the session, through the ORM's bulk statements, through Core."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, insert, literal, select

from tests.matrix.axes import Design
from tests.matrix.registry import ALL_RETURNING, ROWS_RETURNING, one_table, shape
from tests.matrix.worlds import World

SECTION = "INSERT"
BOTH = ("one", "many")


def _nullable(design: Design) -> bool:
    return design.values in ("nullable", "onupdate", "onupdate_computed")


def _given_for_the_application(design: Design) -> bool:
    return design.key == "server" or design.given == "key_defaults"


@shape(SECTION, 'session.add(Note(text="x")); session.flush()', many=BOTH)
def insert_flush(w: World) -> None:
    """Sealed in the flush: ahead of the INSERT where the key is known, behind it elsewhere."""
    objects = [w.model.entity(**row) for row in w.objects()]
    w.session.add_all(objects)
    w.session.flush()
    w.note_objects(objects)


@shape(SECTION, "session.add_all([...])  # some with a value, some without", fits=_nullable)
def insert_flush_mixed(w: World) -> None:
    """Objects that set different attributes are different batches."""
    objects = [w.model.entity(**w.model.row(n)) for n in (3, 4, 5, 6)]
    name = w.model.encrypted[0]
    objects[1] = w.model.entity(**{k: v for k, v in w.model.row(4).items() if k != name})
    setattr(objects[2], name, None)
    w.session.add_all(objects)
    w.session.flush()
    w.note_objects(objects)


@shape(SECTION, 'insert(t).values(text="x")', returning=ALL_RETURNING, fits=one_table)
def insert_values(w: World) -> None:
    """One row."""
    w.run(insert(w.model.table).values(w.rows()[0]))


@shape(SECTION, 'execute(insert(t), [{"id": 7, "text": "x"}, ...])  # not by a default',
       returning=ALL_RETURNING, many=BOTH,
       fits=lambda d: one_table(d) and _given_for_the_application(d))  # fmt: skip
def insert_given(w: World) -> None:
    """The application gives a key that it could leave to the server, or to a default."""
    rows = [{**w.model.table_row(n), **w.model.key_of(n)} for n in w.new]
    w.run(insert(w.model.table), rows if w.many else rows[0])


@shape(SECTION, 'v = bindparam("v"); insert(t).values(text=v, other=v, name=v)',
       returning=ROWS_RETURNING, many=BOTH,
       fits=lambda d: one_table(d) and d.inner == "str")  # fmt: skip
def insert_one_parameter(w: World) -> None:
    """One parameter in several columns: each encrypted one has an envelope of its own."""
    rows = w.new_rows_of_one_parameter()
    w.run(insert(w.model.table).values(w.one_parameter()), rows if w.many else rows[0])


@shape(SECTION, 'insert(t).values([{"text": "x"}, ...])',
       returning=ROWS_RETURNING, fits=one_table)  # fmt: skip
def insert_values_list(w: World) -> None:
    """Rows inside of the statement."""
    w.many = True
    w.run(insert(w.model.table).values(w.rows()))


@shape(SECTION, 'execute(insert(t), [{"text": "x"}, ...])',
       returning=ALL_RETURNING, many=BOTH, fits=one_table)  # fmt: skip
def insert_parameters(w: World) -> None:
    """One batch."""
    rows = w.rows()
    w.run(insert(w.model.table), rows if w.many else rows[0])


@shape(SECTION, "execute(insert(t).returning(..., sort_by_parameter_order=True), [{...}, ...])",
       fits=one_table)  # fmt: skip
def insert_sorted(w: World) -> None:
    """In the order of the parameters."""
    w.many = True
    names = [*w.model.table_encrypted, "name", "stamp", "rank", *w.model.key]
    columns = [w.model.table.c[name] for name in names]
    statement = insert(w.model.table).returning(*columns, sort_by_parameter_order=True)
    w.note(w.core.execute(statement, w.rows()))


@shape(SECTION, "session.execute(insert(Note), [{...}, ...])",
       returning=ROWS_RETURNING, many=BOTH)  # fmt: skip
def insert_orm_bulk(w: World) -> None:
    """The ORM's own bulk INSERT."""
    w.run(insert(w.model.entity), w.objects(), core=False)


@shape(SECTION, "session.execute(insert(Note).values(...))", returning=ALL_RETURNING, many=BOTH,
       fits=lambda d: not d.inherit.startswith("joined"))  # fmt: skip
def insert_orm_values(w: World) -> None:
    """A Core INSERT that the ORM reads the attributes of."""
    rows = w.objects()
    w.run(insert(w.model.entity).values(rows if w.many else rows[0]), core=False)


@shape(SECTION, "session.bulk_insert_mappings(Note, [...])", returning=("no", "defaults"),
       many=BOTH)  # fmt: skip
def insert_mappings(w: World) -> None:
    """With generated keys and with given ones."""
    rows = w.objects()
    wanted = w.returning == "defaults"
    w.session.bulk_insert_mappings(w.model.entity, rows, return_defaults=wanted)
    if wanted:
        w.seen.append([{k: v for k, v in row.items() if k in w.model.key} for row in rows])


@shape(SECTION, "session.bulk_save_objects([...])", returning=("no", "defaults"), many=BOTH)
def insert_saved(w: World) -> None:
    """Objects that the session does not keep."""
    objects = [w.model.entity(**row) for row in w.objects()]
    wanted = w.returning == "defaults"
    w.session.bulk_save_objects(objects, return_defaults=wanted)
    if wanted:
        w.seen.append([[getattr(each, name) for name in w.model.key] for each in objects])


@shape(SECTION, "insert(t).from_select([...], select(t))", fits=one_table)
def insert_from_select(w: World) -> None:
    """It would copy envelopes to other rows."""
    names = list(w.model.table_row(3))
    for name in w.model.table_encrypted:
        names += [] if name in names else [name]
    given = w.model.table_row(3)
    secret = set(w.model.table_encrypted)
    columns = [
        w.model.table.c[n] if n in secret else literal(given[n], w.model.table.c[n].type)
        for n in names
    ]
    source = select(*columns).where(w.is_row(1))
    w.run(insert(w.model.table).from_select(names, source, include_defaults=True))


@shape(SECTION, "execute(insert(t), [{**row, 'id': 7} for row in execute(select(t)).mappings()])",
       fits=one_table)  # fmt: skip
def insert_read(w: World) -> None:
    """Values are opened where they were, and sealed where they go."""
    query = select(w.model.table).where(w.is_row(1))
    own = {**w.model.table_row(3), **w.model.key_of(3)}
    secret = set(w.model.table_encrypted)
    rows = [
        {**own, **{k: v for k, v in row.items() if k in secret}}
        for row in w.core.execute(query).mappings()
    ]
    w.run(insert(w.model.table), rows)


@shape(SECTION, "insert(t).from_select([...], ...)  # no encrypted column among them",
       fits=lambda d: one_table(d) and _nullable(d) and d.given == "given")  # fmt: skip
def insert_from_select_plain(w: World) -> None:
    """Nothing is sealed."""
    secret = set(w.model.table_encrypted)
    given = {k: v for k, v in w.model.table_row(3).items() if k not in secret}
    source = select(*(literal(v, w.model.table.c[k].type) for k, v in given.items()))
    w.run(insert(w.model.table).from_select(list(given), source, include_defaults=False))


@shape(SECTION, 'insert(t).values(text=func.lower("X"))',
       fits=lambda d: one_table(d) and d.inner == "str")  # fmt: skip
def insert_expression(w: World) -> None:
    """The value would be known to the database alone, in plaintext."""
    row = {**w.model.table_row(3), w.model.table_encrypted[0]: func.lower("X")}
    w.run(insert(w.model.table).values(row))


@shape(SECTION, "select(insert(t).values(...).returning(t.c.id).cte())", fits=one_table)
def insert_in_a_cte(w: World) -> None:
    """Its parameters belong to the outer statement. Only PostgreSQL has such a statement."""
    keys = [w.model.table.c[name] for name in w.model.key]
    inner = insert(w.model.table).values(w.rows()[0]).returning(*keys).cte()
    w.note(w.core.execute(select(inner)))


@shape(SECTION, "autocommit: insert(t).values(...)", fits=one_table)
def insert_autocommit(w: World) -> None:
    """Where the key is not known beforehand, a row could stay without its value."""
    engine: Any = w.session.get_bind()
    w.session.rollback()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        w.note(connection.execute(insert(w.model.table).values(w.rows()[0])))


@shape(SECTION, "insert(t).values(...)  # no encrypted column among them",
       fits=lambda d: one_table(d) and d.values != "required")  # fmt: skip
def insert_without_values(w: World) -> None:
    """Defaults are sealed; otherwise the columns are NULL."""
    secret = set(w.model.table_encrypted)
    rows = [{k: v for k, v in row.items() if k not in secret} for row in w.rows()]
    w.run(insert(w.model.table), rows[0])
