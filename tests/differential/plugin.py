"""A pytest plug-in that encrypts the columns of SQLAlchemy's own test fixtures.

It converts each column of a Table that can be encrypted at all, when the Table is defined, and
writes down what became of each test. SQLAlchemy's tests compare SQL texts and count statements,
which encryption changes by design; those comparisons are let pass, so that what a test says of
values and objects counts alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqlalchemy import Column, MetaData, Table

RESULTS = "KMSENV_DIFFERENTIAL_RESULTS"
ENCRYPT = "KMSENV_DIFFERENTIAL_ENCRYPT"
EXCLUDED = "KMSENV_DIFFERENTIAL_EXCLUDED"
_DISCRIMINATORS = ("type", "discriminator", "version_id")
"""Names of the columns that SQLAlchemy itself compares in SQL, in these tests."""

# SQLAlchemy is imported in functions: its own plug-in must come first, to rewrite assertions.
_outcomes: dict[str, dict[str, Any]] = {}
_converted: set[str] = set()
_running = ""


def pytest_configure(config: pytest.Config) -> None:
    """Encrypt, where the run is the encrypted one."""
    if os.environ.get(ENCRYPT) == "1":
        _install()


def _install() -> None:
    from sqlalchemy import JSON, Table, event
    from sqlalchemy.ext.mutable import Mutable
    from sqlalchemy.orm import configure_mappers
    from sqlalchemy.testing import assertions, assertsql

    from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings

    directory = tempfile.TemporaryDirectory()
    keyring = Keyring(LocalKms.create(Path(directory.name) / "keys.json"))
    excluded = {tuple(pair) for pair in json.loads(os.environ.get(EXCLUDED, "[]"))}

    plain: set[tuple[str, str]] = set()

    def convert(table: Table, metadata: MetaData) -> None:
        _ = directory  # Removed at the end of the run, not before.
        for column in list(table.columns):
            # A test that defines a table of its fixtures anew reads what they stored.
            name = _class_of(_running), f"{table.name}.{column.name}"
            if isinstance(column.type, Encrypted) or name in plain:
                continue
            if name in excluded or not _convert(column):
                plain.add(name)
        attach_keyrings(metadata, default=keyring)

    event.listen(Table, "after_parent_attach", convert, insert=True)
    plain_as_mutable: Any = vars(Mutable)["as_mutable"]

    def as_encrypted_mutable(cls: type[Mutable], type_: Any) -> Any:
        # It goes by the identity of the type, which must be the encrypted one from the start.
        instance = type_() if isinstance(type_, type) else type_
        return plain_as_mutable.__func__(
            cls, Encrypted(instance) if type(instance) is JSON else instance
        )

    # By setattr: a type checker lets nobody replace a method.
    setattr(Mutable, "as_mutable", classmethod(as_encrypted_mutable))  # noqa: B010
    # To compile a statement of the ORM configures the mappers, which tests go by.
    configure = lambda *_, **__: configure_mappers()  # noqa: E731
    setattr(assertions.AssertsCompiledSQL, "assert_compile", configure)  # noqa: B010
    setattr(assertsql.SQLAsserter, "assert_", lambda *_: None)  # noqa: B010


def _convert(column: Column[Any]) -> bool:
    from sqlalchemy_kmsenv import Encrypted
    from sqlalchemy_kmsenv.errors import ConfigurationError

    if not _convertible(column):
        return False
    former = column.type
    encrypted = column.type = Encrypted(former)
    # A column keeps the comparator of the type that it had first.
    column.__dict__.pop("comparator", None)
    encrypted.adopt(column)
    try:
        _ = encrypted.binding
    except ConfigurationError:
        column.type = former
        column.__dict__.pop("comparator", None)
        return False
    _converted.add(f"{column.table.name}.{column.name}")
    return True


def _convertible(column: Column[Any]) -> bool:
    from sqlalchemy import types

    plain = {
        types.String, types.Text, types.Unicode, types.UnicodeText, types.Integer, types.JSON,
        types.SmallInteger, types.BigInteger, types.Boolean, types.Date, types.DateTime, types.Time,
        types.Float, types.Numeric, types.Interval, types.LargeBinary,
    }  # fmt: skip
    by_the_database = (column.server_default, column.server_onupdate, column.computed)
    return (
        type(column.type) in plain
        and not (column.primary_key or column.foreign_keys or column.unique or column.index)
        and all(each is None for each in by_the_database)
        and column.identity is None
        and column.name not in _DISCRIMINATORS
    )


def _class_of(nodeid: str) -> str:
    return nodeid.rpartition("::")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember whose tables are being defined."""
    global _running  # noqa: PLW0603 - a plug-in module is made once for a run
    _running = item.nodeid
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Write down how a test ended, with the whole chain of what it raised."""
    report = yield
    if report.skipped:
        _outcomes.setdefault(item.nodeid, {"outcome": "skipped"})
    elif report.failed and call.excinfo is not None:
        if _outcomes.get(item.nodeid, {}).get("outcome") == "failed":
            # The tear-down after a failure fails because of it.
            return report
        chain = list(_chain(call.excinfo.value))
        where = call.excinfo.traceback[-1]
        _outcomes[item.nodeid] = {
            "outcome": "failed",
            "when": report.when,
            "chain": chain,
            "at": f"{Path(str(where.path)).name}:{where.lineno + 1}",
        }
    else:
        _outcomes.setdefault(item.nodeid, {"outcome": "passed"})
    return report


def _chain(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield f"{type(error).__name__}: {str(error)[:600]}"
        error = error.__cause__ or error.__context__


def pytest_sessionfinish() -> None:
    """Keep it all as JSON."""
    document = {"outcomes": _outcomes, "columns": sorted(_converted)}
    Path(os.environ[RESULTS]).write_text(json.dumps(document))
