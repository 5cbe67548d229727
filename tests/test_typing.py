"""What the documents show, and what the type promises, passes mypy --strict."""

import subprocess
import sys

import pytest

from tests.test_docs import DOCUMENTS, ROOT, python_blocks, python_files

# Pages whose programs go on from others: what the reader has by then.
BEFORE = {
    "rewrap": """
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase

class Base(DeclarativeBase):
    pass

engine = create_engine("sqlite://")
"""
}
# Alembic's `op` has the operations of others at run time alone.
UNTYPED = {"command-line"}
PROMISES = """
from typing import assert_type
from uuid import UUID

from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, Uuid, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted

assert_type(Encrypted(String), Encrypted[str])
assert_type(Encrypted(Integer()), Encrypted[int])
assert_type(Encrypted(Uuid()), Encrypted[UUID])
# SQLAlchemy infers no type for a column of any TypeDecorator: it has to be said.
core: Column[str] = Column("v", Encrypted(String))


class Base(DeclarativeBase):
    pass


class Guest(Base):
    __tablename__ = "guests"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    passport: Mapped[str] = mapped_column(Encrypted(String, scope=["tenant"], check=True))
    visa: Mapped[str | None] = mapped_column(Encrypted(String(20), bind="column", scope="column"))
    room: Mapped[int] = mapped_column(Encrypted(Integer, identity=("id",), scope="row"))
    notes: Mapped[dict[str, int]] = mapped_column(Encrypted(JSON))


passport: str = Session().scalars(select(Guest.passport)).one()
table = Table("t", MetaData(), Column("v", Encrypted(String)))

# Each of these is an error, or mypy would find the comment needless.
Encrypted(String, bind="rows")  # type: ignore[arg-type]
Encrypted(String, scope="tenant")  # type: ignore[arg-type]
Encrypted(String, identity="id")  # type: ignore[arg-type]
Encrypted(str)  # type: ignore[arg-type]
Encrypted(String, scop="row")  # type: ignore[call-arg]
"""
CONFIG = """
[mypy]
# It says that it is typed, and is not.
untyped_calls_exclude = distributed
[mypy-page_testing]
# Tests of an application, whose functions need no signatures.
disallow_untyped_defs = False
disallow_untyped_decorators = False
"""
OPTIONS = ["--strict", "--no-error-summary", f"--cache-dir={ROOT / '.mypy_cache' / 'documents'}"]


def programs() -> dict[str, str]:
    """Each named file of a page, and what else a page shows as one program."""
    written = {"promises.py": PROMISES}
    for document in DOCUMENTS:
        name = document.stem
        named = python_files(document)
        written.update(named)
        blocks = [block.strip("\n") + "\n" for block in python_blocks(document)]
        others = [block for block in blocks if block not in named.values()]
        if others and name not in UNTYPED:
            module = f"page_{name.replace('-', '_').lower()}.py"
            written[module] = "\n\n".join([BEFORE.get(name, ""), *others])
    return written


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """What the type checker finds in all of them, as an application would run it."""
    directory = tmp_path_factory.mktemp("typed")
    written = {"mypy.ini": CONFIG, **programs()}
    for name, content in written.items():
        (directory / name).write_text(content, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *OPTIONS, *(name for name in written if name[-3:] == ".py")],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.timeout(600)
def test_programs_of_the_documents_are_well_typed(findings):
    """They are copied into applications that check their types."""
    assert {"page_readme.py", "release_1.py"} <= set(programs())

    assert [line for line in findings if not line.startswith("promises.py")] == []


@pytest.mark.timeout(600)
def test_type_carries_its_values_and_its_options(findings):
    """A value of the wrong type, or a misspelt option, is found before anything runs."""
    assert [line for line in findings if line.startswith("promises.py")] == []
