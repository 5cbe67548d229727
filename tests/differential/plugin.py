"""A pytest plug-in that encrypts the columns of SQLAlchemy's own test fixtures.

It converts each column of a Table that can be encrypted at all, when the Table is defined, and
writes down what became of each test. SQLAlchemy's tests compare SQL texts and count statements,
which encryption changes by design; those comparisons are let pass, so that what a test says of
values and objects counts alone. What they compare is compiled all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqlalchemy import Column, MetaData, Table

RESULTS = "KMSENV_DIFFERENTIAL_RESULTS"
ENCRYPT = "KMSENV_DIFFERENTIAL_ENCRYPT"
EXCLUDED = "KMSENV_DIFFERENTIAL_EXCLUDED"
_MOST_OF_A_MESSAGE = 4000
_DISCRIMINATORS = ("type", "discriminator", "version_id")
"""Names of the columns that SQLAlchemy itself compares in SQL, in these tests."""

# SQLAlchemy is imported in functions: its own plug-in must come first, to rewrite assertions.
_outcomes: dict[str, dict[str, Any]] = {}
_counts: Callable[[], int] = int
_running = ""


def pytest_configure(config: pytest.Config) -> None:
    """Encrypt, where the run is the encrypted one."""
    if os.environ.get(ENCRYPT) == "1":
        _install()


def _install() -> None:
    from sqlalchemy import JSON, Table, event
    from sqlalchemy.ext.mutable import Mutable
    from sqlalchemy.testing import assertions, assertsql

    from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings

    directory = tempfile.TemporaryDirectory()
    keyring = Keyring(LocalKms.create(Path(directory.name) / "keys.json"))
    excluded: set[tuple[str, str]] = set()
    if left_plain := os.environ.get(EXCLUDED):
        excluded = {(tests, name) for tests, name in json.loads(Path(left_plain).read_text())}

    plain: set[tuple[str, str]] = set()
    global _counts  # noqa: PLW0603 - a plug-in module is made once for a run
    _counts = lambda: keyring.counts.sealed + keyring.counts.opened  # noqa: E731

    def convert(table: Table, metadata: MetaData) -> None:
        _ = directory  # Removed at the end of the run, not before.
        for column in list(table.columns):
            # A test that defines a table of its fixtures anew reads what they stored.
            tests, name = _class_of(_running), (_class_of(_running), f"{table.name}.{column.name}")
            if isinstance(column.type, Encrypted) or name in plain:
                continue
            refused = name in excluded or (tests, column.name) in excluded
            why_plain = "was refused" if refused else _convert(column)
            if why_plain:
                plain.add(name)
            _write("column", "::".join(name), why_plain or "encrypted")
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
    compile_and_compare = assertions.AssertsCompiledSQL.assert_compile

    def compile_alone(*arguments: Any, **named: Any) -> None:
        with contextlib.suppress(AssertionError):
            compile_and_compare(*arguments, **named)

    setattr(assertions.AssertsCompiledSQL, "assert_compile", compile_alone)  # noqa: B010
    setattr(assertsql.SQLAsserter, "assert_", lambda *_: None)  # noqa: B010


def _convert(column: Column[Any]) -> str:
    """Encrypt it; or say why it stays plain."""
    from sqlalchemy_kmsenv import Encrypted
    from sqlalchemy_kmsenv.errors import ConfigurationError

    if why_plain := _why_plain(column):
        return why_plain
    former = column.type
    encrypted = column.type = Encrypted(former)
    # A column keeps the comparator of the type that it had first.
    column.__dict__.pop("comparator", None)
    encrypted.adopt(column)
    try:
        _ = encrypted.binding
    except ConfigurationError as refusal:
        column.type = former
        column.__dict__.pop("comparator", None)
        return f"has no row to bind to: {str(refusal)[:200]}"
    return ""


def _why_plain(column: Column[Any]) -> str:
    from sqlalchemy import types

    plain = {
        types.String, types.Text, types.Unicode, types.UnicodeText, types.Integer, types.JSON,
        types.SmallInteger, types.BigInteger, types.Boolean, types.Date, types.DateTime, types.Time,
        types.Float, types.Numeric, types.Interval, types.LargeBinary,
    }  # fmt: skip
    defaults = column.server_default, column.server_onupdate, column.computed, column.identity
    reasons = {
        "is a key": column.primary_key or column.foreign_keys,
        "is unique or has an index": column.unique or column.index,
        "is filled by the database": any(each is not None for each in defaults),
        "is compared by SQLAlchemy itself": column.name in _DISCRIMINATORS,
        "has a type that is left alone": type(column.type) not in plain,
    }
    return next((reason for reason, given in reasons.items() if given), "")


def _write(kind: str, name: str, what: object) -> None:
    """Keep it at once, as a line of JSON: the process may end in the next test."""
    with Path(os.environ[RESULTS]).open("a") as lines:
        print(json.dumps([kind, name, what]), file=lines)


def _class_of(nodeid: str) -> str:
    return nodeid.rpartition("::")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember whose tables are being defined."""
    global _running  # noqa: PLW0603 - a plug-in module is made once for a run
    _running = item.nodeid
    before = _counts()
    result = yield
    outcome = _outcomes.setdefault(_running, {"outcome": "not run"})
    _write("test", _running, {**outcome, "values": _counts() - before})
    return result


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
        yield f"{type(error).__name__}: {str(error)[:_MOST_OF_A_MESSAGE]}"
        error = error.__cause__ or error.__context__
