"""What a flush of many rows costs in statements, next to the same rows in plain columns."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from sqlalchemy import Integer, LargeBinary, String, event, select
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, attach_keyrings

ROWS = 1000


@pytest.fixture
def models(engine, keyring):
    """Three classes whose keys the server generates."""

    class Base(DeclarativeBase):
        pass

    class Plain(Base):
        __tablename__ = "kmsenv_cost_plain"
        id = mapped_column(Integer, primary_key=True)
        tenant = mapped_column(String(20), nullable=False)
        value = mapped_column(LargeBinary)
        more = mapped_column(LargeBinary)

    class Sealed(Base):
        __tablename__ = "kmsenv_cost_sealed"
        id = mapped_column(Integer, primary_key=True)
        tenant = mapped_column(String(20), nullable=False)
        value = mapped_column(Encrypted(LargeBinary))
        more = mapped_column(Encrypted(LargeBinary))

    class Scoped(Base):
        __tablename__ = "kmsenv_cost_scoped"
        id = mapped_column(Integer, primary_key=True)
        tenant = mapped_column(String(20), nullable=False)
        value = mapped_column(Encrypted(LargeBinary, scope=["tenant"]))
        more = mapped_column(Encrypted(LargeBinary, scope=["tenant"]))

    attach_keyrings(Base.metadata, default=keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield SimpleNamespace(Plain=Plain, Sealed=Sealed, Scoped=Scoped)
    Base.metadata.drop_all(engine)


@pytest.fixture
def sent(engine, models):
    """Executions by the driver and their parameter sets, by verb, since the tables were made."""
    seen = SimpleNamespace(executions=Counter(), sets=Counter())

    @event.listens_for(engine, "before_cursor_execute")
    def note(_, __, statement, parameters, ___, many):
        verb = statement.split()[0]
        seen.executions[verb] += 1
        # insertmanyvalues has one set of parameters for all of its rows.
        seen.sets[verb] += len(parameters) if many and isinstance(parameters, list) else 1

    return seen


def flushed(engine, model, sent, **given):
    """What a flush of many new objects makes the driver do."""
    with Session(engine) as session:
        session.connection()
        sent.executions.clear()
        sent.sets.clear()
        session.add_all(
            [
                model(tenant=f"t{i % 3}", value=b"value %d" % i, more=b"more %d" % i, **given)
                for i in range(ROWS)
            ]
        )
        session.flush()
        counts = Counter(sent.executions), Counter(sent.sets)
        session.commit()
    return counts


@pytest.mark.parametrize("name", ["Sealed", "Scoped"])
def test_generated_keys_cost_one_statement_more(name, models, engine, kms, sent):
    """PostgreSQL: one query for the keys. Elsewhere: one batch of UPDATEs.

    SQLite takes it in one call of its driver; MariaDB's would send each row by itself, so
    there a hundred rows share a statement.
    """
    plain, _ = flushed(engine, models.Plain, sent)
    with kms.expect(generate_data_key=2 if name == "Sealed" else 6):
        sealed, sets = flushed(engine, getattr(models, name), sent)
    more = sealed - plain
    if engine.dialect.name == "postgresql":
        assert more == Counter(SELECT=1)
        assert sets["SELECT"] == 1
    elif engine.dialect.name == "sqlite":
        assert more == Counter(UPDATE=1)
        assert sets["UPDATE"] == ROWS
    else:
        assert more == Counter(UPDATE=ROWS // 100)
        assert sets["UPDATE"] == ROWS // 100
    assert sealed["INSERT"] == plain["INSERT"]


def test_a_second_flush_of_a_process_costs_no_kms_call(models, engine, kms, sent):
    """Data keys outlive the flush, whether rows are sealed ahead or afterwards."""
    first = flushed(engine, models.Scoped, sent)
    with kms.expect():
        assert flushed(engine, models.Scoped, sent) == first


def test_changes_cost_no_statement_more(models, engine, kms, sent):
    """The objects know their keys and scopes: the UPDATE is that of plain columns."""
    counts = []
    for model in (models.Plain, models.Scoped):
        flushed(engine, model, sent)
        with Session(engine) as session:
            objects = session.scalars(select(model)).all()
            sent.executions.clear()
            sent.sets.clear()
            for each in objects:
                each.value = b"changed"
            with kms.expect():
                session.flush()
            counts.append((Counter(sent.executions), Counter(sent.sets)))
    assert counts[0] == counts[1] == (Counter(UPDATE=1), Counter(UPDATE=ROWS))


@pytest.mark.parametrize("rows", [2, 99, 100, 101, 250])
def test_rows_that_share_a_statement_get_each_its_own_value(rows, models, engine):
    """Values, NULLs, and some that are large, which end a statement sooner."""
    large = b"x" * 400_000
    given = [
        {"value": None if i % 7 == 3 else b"value %d" % i, "more": large if i % 50 == 1 else b"m"}
        for i in range(rows)
    ]
    with Session(engine) as session:
        session.add_all([models.Scoped(tenant=f"t{i % 3}", **row) for i, row in enumerate(given)])
        session.commit()
    with Session(engine) as session:
        stored = session.scalars(select(models.Scoped).order_by(models.Scoped.id)).all()
        assert [{"value": each.value, "more": each.more} for each in stored] == given
