"""Where an encrypted column may stand in a statement, and where nothing is sent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    case,
    cast,
    column,
    delete,
    desc,
    distinct,
    except_,
    exists,
    extract,
    func,
    insert,
    literal,
    null,
    select,
    text,
    tuple_,
    type_coerce,
    union,
    union_all,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.conftest import on


@pytest.fixture
def other(models, engine, keyring):
    """Another table of the same shape."""
    table = Table(
        "kmsenv_other", models.Base.metadata, Column("id", Integer, primary_key=True),
        Column("note", Encrypted(String)), Column("name", String(400)),
    )  # fmt: skip
    attach_keyrings(models.Base.metadata, keyring)
    table.drop(engine, checkfirst=True)
    table.create(engine)
    return table


REFUSED = {
    "order by": lambda m: select(m.t.c.id).order_by(m.t.c.note),
    "order by label": lambda m: select(m.t.c.note.label("n")).order_by("n"),
    "order by desc label": lambda m: select(m.t.c.note.label("n")).order_by(desc("n")),
    "order by the label itself": lambda m: select(n := m.t.c.note.label("n")).order_by(n),
    "order by name": lambda m: select(m.t.c.note).order_by("note"),
    "order by in a subquery": lambda m: select(
        select(m.t.c.id).order_by(m.t.c.note).limit(1).subquery().c.id
    ),
    "order by in the orm": lambda m: select(m.Ping).order_by(m.Ping.note),
    "group by": lambda m: select(func.count()).group_by(m.t.c.note),
    "group by label": lambda m: select(
        m.t.c.note.label("n"), func.count()
    ).group_by("n"),
    "having": lambda m: select(m.t.c.id).group_by(m.t.c.id).having(func.max(m.t.c.note) == "x"),
    "distinct": lambda m: select(m.t.c.note).distinct(),
    "distinct in a subquery": lambda m: select(
        func.count()
    ).select_from(select(m.t.c.note).distinct().subquery()),
    "count distinct": lambda m: select(func.count(distinct(m.t.c.note))),
    "union": lambda m: union(select(m.t.c.note), select(m.t.c.note)),
    "union of two columns": lambda m: union_all(
        select(m.t.c.id, m.t.c.note), select(m.o.c.id, m.o.c.note)
    ),
    "union of two columns of a table": lambda m: union_all(
        select(m.t.c.id, m.t.c.note), select(m.t.c.id, m.t.c.secret)
    ),
    "union with plaintext": lambda m: union_all(
        select(m.t.c.id, m.t.c.note), select(m.o.c.id, type_coerce(m.o.c.name, LargeBinary))
    ),
    "union of plaintext with it": lambda m: union_all(
        select(m.o.c.id, m.o.c.name), select(m.t.c.id, m.t.c.note)
    ),
    "union in a subquery": lambda m: select(
        union_all(select(m.t.c.id, m.t.c.note), select(m.o.c.id, m.o.c.note)).subquery()
    ),
    "except": lambda m: except_(select(m.t.c.note), select(m.t.c.note)),
    "function": lambda m: select(func.lower(m.t.c.note)),
    "function in where": lambda m: select(m.t.c.id).where(
        func.coalesce(m.t.c.note, "canary") == "canary"
    ),
    "aggregate": lambda m: select(func.max(m.t.c.note)),
    "window": lambda m: select(
        func.row_number().over(partition_by=m.t.c.note)
    ),
    "cast": lambda m: select(cast(m.t.c.note, String(100))),
    "cast compared": lambda m: select(m.t.c.id).where(cast(m.t.c.note, String(100)) == "canary"),
    "coerced to text": lambda m: select(type_coerce(m.t.c.note, String)),
    "coerced and compared": lambda m: select(m.t.c.id).where(
        type_coerce(m.t.c.note, String) == "canary"
    ),
    "case": lambda m: select(case((m.t.c.id == 1, m.t.c.note))),
    "case in where": lambda m: select(m.t.c.id).where(
        case((m.t.c.id == 1, m.t.c.note)) == "canary"
    ),
    "tuple": lambda m: select(m.t.c.id).where(tuple_(m.t.c.id, m.t.c.note).in_([(1, "canary")])),
    "to itself": lambda m: select(m.t.c.id).where(m.t.c.note == m.t.c.note),
    "in a subquery": lambda m: select(m.o.c.id).where(m.o.c.name.in_(select(m.t.c.note))),
    "scalar subquery": lambda m: select(m.o.c.id).where(
        m.o.c.name == select(m.t.c.note).limit(1).scalar_subquery()
    ),
    "join": lambda m: select(m.t.c.id).join(m.o, func.lower(m.t.c.note) == m.o.c.name),
    "subquery column ordered": lambda m: select(s := select(m.t).subquery()).order_by(s.c.note),
    "cte column ordered": lambda m: select(s := select(m.t).cte()).order_by(s.c.note),
    "alias ordered": lambda m: select(a := aliased(m.Ping)).order_by(a.note),
    "delete": lambda m: delete(m.t).where(func.lower(m.t.c.note) == "canary"),
    "update where": lambda m: update(m.t).where(func.lower(m.t.c.note) == "canary").values(
        plain="x"
    ),
    "update of a plain column": lambda m: update(m.t).where(m.t.c.id == 1).values(plain=m.t.c.note),
    "orm update of a plain column": lambda m: update(m.Ping).values(plain=m.Ping.note),
    "insert into a plain column": lambda m: insert(m.o).values(
        id=1, name=select(m.t.c.note).limit(1).scalar_subquery()
    ),
    "insert from select into a plain column": lambda m: insert(m.o).from_select(
        ["id", "name"], select(m.t.c.id, m.t.c.note)
    ),
    "expression": lambda m: select(extract("year", m.t.c.note)),
    "count of a function": lambda m: select(func.count(func.lower(m.t.c.note))),
    "count distinct in having": lambda m: select(m.t.c.id).group_by(m.t.c.id).having(
        func.count(distinct(m.t.c.note)) > 1
    ),
    "count over it": lambda m: select(func.count(m.t.c.note).over(order_by=m.t.c.note)),
    "count filtered by it": lambda m: select(
        func.count(m.t.c.note).filter(func.lower(m.t.c.note) == "canary")
    ),
    "max beside count": lambda m: select(func.count(m.t.c.note) + func.length(m.t.c.note)),
    "whole rows": lambda m: select(m.t.table_valued()),
    "whole rows in a function": lambda m: select(func.row_to_json(m.t.table_valued())),
    "whole rows in where": lambda m: select(m.t.c.id).where(
        func.row_to_json(m.t.table_valued()) == "canary"
    ),
    "exists": lambda m: select(m.o.c.id).where(
        exists(select(m.t.c.id).where(func.lower(m.t.c.note) == "canary"))
    ),
    "exists selected": lambda m: select(
        exists(select(m.t.c.id).where(func.lower(m.t.c.note) == "canary"))
    ),
    "null of a subquery that orders": lambda m: select(func.count()).where(
        select(m.t.c.id, m.t.c.note).order_by(m.t.c.note).limit(1).subquery().c.note.is_(None)
    ),
    "left of a join": lambda m: select(m.o.c.id).select_from(
        (s := select(m.t.c.id).order_by(m.t.c.note).limit(1).subquery()).join(
            m.o, m.o.c.id == s.c.id
        )
    ),
    "right of a join": lambda m: select(m.o.c.id).select_from(
        m.o.join(
            s := select(m.t.c.id).order_by(m.t.c.note).limit(1).subquery(), m.o.c.id == s.c.id
        )
    ),
    "select in from and in a condition": lambda m: select(
        (s := select(m.t.c.note)).subquery()
    ).where(literal("canary").in_(s)),
    "returning a function": lambda m: delete(m.t).returning(func.lower(m.t.c.note)),
}  # fmt: skip


@pytest.mark.parametrize("shape", REFUSED)
def test_nothing_that_works_on_envelopes_is_sent(shape, session, models, other, statements):
    """Nothing silently finds no rows, sorts noise, or copies an envelope away."""
    names = SimpleNamespace(t=models.table, o=other, Ping=models.Ping)
    with pytest.raises(UnboundValueError, match="encrypted"):
        session.execute(REFUSED[shape](names))
    assert statements == []
    assert session.execute(select(func.count()).select_from(models.table)).scalar() == 0


SAYS = {
    "whole rows": "makes one value of a whole row",
    "function": r"lower\(\) would work on",
    "count of a function": r"lower\(\) would work on",
    "expression": "an expression would work on",
    "insert from select into a plain column": "among the rows of an INSERT",
    "in a subquery": r"in_\(\) in SQL",
}


@pytest.mark.parametrize("shape", SAYS)
def test_the_place_is_named(shape, session, models, other):
    """Whoever reads the refusal has to find what it is about."""
    names = SimpleNamespace(t=models.table, o=other, Ping=models.Ping)
    with pytest.raises(UnboundValueError, match=SAYS[shape]):
        session.execute(REFUSED[shape](names))


WORKS = {
    "columns": lambda m: select(m.t.c.id, m.t.c.note),
    "label": lambda m: select(m.t.c.id, m.t.c.note.label("n")).order_by("id"),
    "entity": lambda m: select(m.Ping.id, m.Ping.note).distinct(),
    "where null": lambda m: select(m.t.c.id, m.t.c.note).where(m.t.c.note.is_not(None)),
    "not null": lambda m: select(m.t.c.id, m.t.c.note).where(~m.t.c.note.is_(None)),
    "distinct": lambda m: select(m.t.c.id, m.t.c.note).distinct(),
    "subquery": lambda m: select(
        s := select(m.t.c.id, m.t.c.note).order_by(m.t.c.id).limit(5).subquery()
    ).order_by(s.c.id),
    "cte": lambda m: select(select(m.t.c.id, m.t.c.note).cte()),
    "alias": lambda m: select((a := m.t.alias()).c.id, a.c.note).join(m.t, a.c.id == m.t.c.id),
    "lateral or join": lambda m: select(m.t.c.id, m.t.c.note).join(
        m.o, m.o.c.id == m.t.c.id, isouter=True
    ),
    "exists": lambda m: select(m.t.c.id, m.t.c.note).where(
        exists(select(m.t.c.note).where(m.t.c.note.is_not(None)).correlate(None))
    ),
    "union": lambda m: union(
        select(m.t.c.id, m.t.c.note), select(m.t.c.id, m.t.c.note)
    ),
    "union all with null": lambda m: union_all(
        select(m.t.c.id, m.t.c.note), select(m.o.c.id, null())
    ),
    "union all in a subquery": lambda m: select(union_all(
        select(m.t.c.id, m.t.c.note).where(m.t.c.id < 0), select(m.t.c.id, m.t.c.note)
    ).subquery()),
    "group by the key": lambda m: select(m.t.c.id, func.max(m.t.c.id)).group_by(m.t.c.id),
    "orm aliased": lambda m: select((a := aliased(m.Ping)).id, a.note),
    "orm subquery": lambda m: select(
        (a := aliased(m.Ping, select(m.Ping).limit(1).subquery())).id, a.note
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", WORKS)
def test_what_only_reads_goes_on(shape, session, models, other):
    """Selecting, in any depth, and asking for NULL."""
    session.connection().execute(insert(models.table), {"id": 1, "note": "x"})
    names = SimpleNamespace(t=models.table, o=other, Ping=models.Ping)
    rows = session.execute(WORKS[shape](names)).all()
    assert [tuple(row) for row in rows] == [(1, 1 if shape == "group by the key" else "x")]


COUNTS = {
    "plus": lambda c: select(c + 1),
    "having": lambda c: select(c + 1).having(c > 0),
    "order by": lambda c: select(c + 1).order_by(c.desc()),
    "coalesce": lambda c: select(func.coalesce(c, 0) + 1),
    "filter": lambda c: select(c.filter(literal(1) == 1) + 1),
    "over": lambda c: select(c.over() + 1).limit(1),
    "case": lambda c: select(case((c > 5, 0), else_=c + 1)),
    "label": lambda c: select((c + 1).label("n")).order_by("n"),
    "subquery": lambda c: select(select((c + 1).label("n")).subquery()),
    "scalar subquery": lambda c: select(select(c).scalar_subquery() + 1),
}


@pytest.mark.parametrize("shape", COUNTS)
def test_counting_works_wherever_a_number_does(shape, session, models, database):
    """The refusals of everything else say that it does."""
    if (shape, database) == ("filter", "mariadb"):
        return
    table = models.table
    rows = [{"id": 1, "note": "x"}, {"id": 2, "note": None}, {"id": 3, "note": "y"}]
    session.connection().execute(insert(table), rows)
    assert session.scalars(COUNTS[shape](func.count(table.c.note))).all() == [3]


def test_counting_and_stored_bytes_work_anywhere(session, models, other):
    """count() counts what is not NULL; type_coerce says that envelopes are wanted."""
    table = models.table
    session.connection().execute(insert(table), [{"id": 1, "note": "x"}, {"id": 2, "note": None}])
    assert session.scalar(select(func.count(table.c.note))) == 1
    assert session.query(models.Ping).count() == 2
    size = func.length(type_coerce(table.c.note, LargeBinary))
    assert session.scalar(select(size).order_by(size.desc()).where(size > 1)) > 48
    kept = select(table.c.id, type_coerce(table.c.note, LargeBinary).label("raw")).subquery()
    assert session.scalar(select(kept.c.raw).where(kept.c.id == 1))[:2] == b"\xe5\x01"


@on("sqlite", "postgresql")
def test_an_upsert_may_not_ask_for_an_envelope(session, models, database):
    """The condition decides which rows are written over."""
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[database]
    new = dialect.insert(models.table).values(id=1, note="x")
    statement = new.on_conflict_do_update(
        index_elements=["id"], set_={"note": new.excluded.note},
        where=models.table.c.note != new.excluded.note,
    )  # fmt: skip
    with pytest.raises(UnboundValueError, match="!= in SQL would compare nothing"):
        session.execute(statement)


def test_a_new_table_or_view_may_not_be_made_of_envelopes(engine, models):
    """They would not open there."""
    if not hasattr(Select, "into"):
        pytest.skip("SQLAlchemy 2.1 has CREATE TABLE AS")
    made = select(models.table.c.id, models.table.c.note).into("kmsenv_copy")
    with engine.connect() as connection, pytest.raises(UnboundValueError, match="another table"):
        connection.execute(made)


def test_an_upsert_may_not_put_an_envelope_into_another_column(session, models, other, database):
    """Nor into a plain column, nor into another encrypted one."""
    if database == "mariadb":
        new = mysql.insert(other).values(id=1, note="x", name="n")
        statement = new.on_duplicate_key_update(name=new.inserted.note)
    else:
        new = {"sqlite": sqlite, "postgresql": postgresql}[database].insert(other)
        new = new.values(id=1, note="x", name="n")
        statement = new.on_conflict_do_update(
            index_elements=["id"], set_={"name": new.excluded.note}
        )
    with pytest.raises(UnboundValueError, match="value of another column"):
        session.execute(statement)


def test_a_refused_statement_leaves_the_transaction_usable(session, models):
    """It is refused before the database sees it, each time it is tried."""
    table = models.table
    session.connection().execute(insert(table), {"id": 1, "note": "x"})
    for _ in range(3):
        with pytest.raises(UnboundValueError):
            session.execute(select(table).order_by(table.c.note))
    assert session.scalars(select(table.c.note)).all() == ["x"]


def test_text_has_no_row_and_says_how_to_read_instead(session, models, engine):
    """Raw SQL gives envelopes; an entity that is read through it says so."""
    session.connection().execute(insert(models.table), {"id": 1, "note": "x"})
    session.commit()
    for statement in (
        select(models.Ping).from_statement(text("SELECT * FROM kmsenv_pings")),
        text("SELECT id, note FROM kmsenv_pings").columns(models.table.c.id, models.table.c.note),
    ):
        with Session(engine) as fresh, pytest.raises(UnboundValueError, match="text"):
            fresh.execute(statement).all()


def test_what_is_checked_of_a_statement_exists():
    """The private attributes that the walk reads."""
    table = Table("t", MetaData(), Column("id", Integer), Column("v", Encrypted(String)))
    statement = select(table).where(literal(1) == 1).order_by("v").group_by("v").having(text("1"))
    for name in ("_where_criteria", "_order_by_clauses", "_group_by_clauses", "_having_criteria"):
        assert len(getattr(statement, name)) == 1
    assert select(table).distinct()._distinct is True
    assert delete(table).returning(table.c.id)._returning
    assert insert(table).return_defaults(table.c.v)._return_defaults_columns
    (label,) = select(column("x")).order_by("x")._order_by_clauses
    assert label.element == "x"
