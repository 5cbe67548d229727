"""Every shape of statement on every database, as docs/statements.md says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sqlalchemy import ForeignKey, Integer, String, Text, select
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, relationship

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from tests.columns import shapes


@pytest.fixture
def models(engine, keyring):
    """``Note`` with keys of the server, ``Given`` with keys of the application; two rows each."""

    class Base(DeclarativeBase):
        pass

    class Columns:
        tenant = mapped_column(String(20), nullable=False)
        text = mapped_column(Encrypted(Text))
        secret = mapped_column(Encrypted(String, scope=["tenant"]))
        loose = mapped_column(Encrypted(String, bind="column"))

    class Note(Columns, Base):
        __tablename__ = "kmsenv_shapes"
        id = mapped_column(Integer, primary_key=True)
        name = mapped_column(String(20), unique=True)
        replies = relationship("Reply")

    class Given(Columns, Base):
        __tablename__ = "kmsenv_shapes_given"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        name = mapped_column(String(20))

    class Reply(Base):
        __tablename__ = "kmsenv_shapes_replies"
        id = mapped_column(Integer, primary_key=True)
        note_id = mapped_column(ForeignKey(Note.id))

    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for key, (name, values) in enumerate(shapes.BEFORE.items(), 1):
            text, secret = values or (None, None)
            session.add(Note(name=name, tenant="t1", text=text, secret=secret))
            session.add(Given(id=key, name=name, tenant="t1", text=text, secret=secret))
            session.flush()
        session.commit()
    yield SimpleNamespace(Note=Note, Given=Given, note=Note.__table__, given=Given.__table__)
    Base.metadata.drop_all(engine)


@pytest.mark.parametrize(
    ("database", "name"),
    [
        (database, name)
        for database in shapes.DATABASES
        for name, shape in shapes.SHAPES.items()
        if database not in shape.absent
    ],
    indirect=["database"],
)
def test_a_shape_does_what_the_page_says(name, database, engine, models):
    """What works leaves every row readable; what is refused leaves them as they were."""
    shape = shapes.SHAPES[name]
    expected = dict(shapes.BEFORE)
    changed = None
    with Session(engine) as session:
        error = shape.refused.get(database)
        if error is None:
            changed = shape.run(session, models) or {}
        else:
            with pytest.raises(error):
                shape.run(session, models)
        session.commit() if error is None else session.rollback()
    before = {k: v for k, v in expected.items() if v is not None}
    after = {k: v for k, v in {**expected, **(changed or {})}.items() if v is not None}
    with Session(engine) as session:
        found = [
            {row.name: (row.text, row.secret) for row in session.scalars(select(model))}
            for model in (models.Note, models.Given)
        ]
    assert before in found
    assert after in found
