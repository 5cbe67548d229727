"""Every stored value that does not open is counted by kind, told to the hook, and named."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, text

from sqlalchemy_kmsenv import (
    ConfigurationError,
    EnvelopeError,
    Keyring,
    KeyServiceDeniedError,
    KeyStateError,
    RefusalKind,
    UnboundValueError,
    WrongCellError,
    attach_keyrings,
    explain,
)
from sqlalchemy_kmsenv.rewrap import verify
from tests.columns.conftest import copy_stored, overwrite, stored
from tests.keyring.test_audit import Journal


@pytest.fixture
def journal():
    """An empty journal."""
    return Journal()


@pytest.fixture
def keyring(kms, journal):
    """A keyring that writes into it."""
    return Keyring(kms, audit=journal)


@pytest.fixture(autouse=True)
def rows(session, models, journal):
    """Two rows of two devices."""
    rows = [
        {"id": n, "device_id": f"d{n}", "note": f"n{n}", "secret": f"s{n}", "position": n}
        for n in (1, 2)
    ]
    session.connection().execute(insert(models.table), rows)
    journal.clear()


def altered(at):
    """Write a byte into the note of row 1."""

    def alter(connection, table):
        raw = bytearray(stored(connection, table.c.note, table.c.id == 1))
        raw[at] ^= 1
        overwrite(connection, table, "note", bytes(raw), 1)

    return alter


DAMAGES: dict[str, Any] = {
    "row to row": (
        RefusalKind.OTHER_ROW_OR_DAMAGED, WrongCellError, "note",
        lambda c, t: copy_stored(c, t, "note", source=2, target=1),
    ),
    "altered": (RefusalKind.OTHER_ROW_OR_DAMAGED, WrongCellError, "note", altered(-1)),
    "column to column": (
        RefusalKind.OTHER_KEY_CONTEXT, WrongCellError, "note",
        lambda c, t: overwrite(c, t, "note", stored(c, t.c.position, t.c.id == 1), 1),
    ),
    "tenant to tenant": (
        RefusalKind.OTHER_KEY_CONTEXT, WrongCellError, "secret",
        lambda c, t: copy_stored(c, t, "secret", source=2, target=1),
    ),
    "tenant changed": (
        RefusalKind.OTHER_KEY_CONTEXT, WrongCellError, "secret",
        lambda c, t: overwrite(c, t, "device_id", "d2", 1),
    ),
    "wrapped key": (RefusalKind.OTHER_KEY_CONTEXT, WrongCellError, "note", altered(120)),
    "commitment": (RefusalKind.DAMAGED_KEY, WrongCellError, "note", altered(30)),
    "fingerprint": (RefusalKind.OTHER_KMS_KEY, ConfigurationError, "note", altered(5)),
    "truncated": (
        RefusalKind.NO_ENVELOPE, EnvelopeError, "note",
        lambda c, t: overwrite(c, t, "note", stored(c, t.c.note, t.c.id == 1)[:150], 1),
    ),
    "plaintext": (
        RefusalKind.NO_ENVELOPE, EnvelopeError, "note",
        lambda c, t: overwrite(c, t, "note", b"plain", 1),
    ),
    "empty": (
        RefusalKind.NO_ENVELOPE, EnvelopeError, "note",
        lambda c, t: overwrite(c, t, "note", b"", 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_refusal_is_counted_by_kind_and_told(damage, session, models, keyring, journal):
    """An alert that looks at one number sees every attack, and what kind it is."""
    kind, error, column, write = DAMAGES[damage]
    write(session.connection(), models.table)
    target = models.table.c[column]

    with pytest.raises(error) as caught:
        session.execute(select(target).where(models.table.c.id == 1)).all()

    assert caught.value.cell.column == column
    assert str(caught.value).startswith(f"kmsenv_pings.{column}")
    assert (keyring.stats().values_refused, keyring.stats().refusals) == (1, {kind: 1})
    told = [use for use in journal if use.refusal is not None]
    assert [(use.operation, use.refusal, use.values) for use in told] == [("open", kind, 1)]
    assert told[0].to_dict()["refusal"] == kind
    assert told[0].context["kmsenv:column"] == column


@pytest.mark.parametrize("damage", DAMAGES)
def test_explaining_finds_the_same_kind(damage, session, models):
    """Two words for one thing would send people looking twice."""
    kind, _, column, write = DAMAGES[damage]
    write(session.connection(), models.table)
    device = session.scalar(select(models.table.c.device_id).where(models.table.c.id == 1))
    raw = stored(session.connection(), models.table.c[column], models.table.c.id == 1)
    found = explain(models.table.c[column], raw, {"id": 1, "device_id": device})
    assert found.finding in (kind, "other cell")


def test_a_statement_that_names_no_row_is_no_refused_value(session, models, keyring, journal):
    """It says nothing about the value, and would be a false alarm."""
    for _ in range(2):
        session.execute(select(models.table.c.note)).all()
        with pytest.raises(UnboundValueError, match="which row"):
            session.execute(
                text("SELECT note FROM kmsenv_pings").columns(models.table.c.note)
            ).all()
    assert keyring.stats().values_refused == 0
    assert not [use for use in journal if use.error]


def test_verifying_tells_of_the_same_stream(session, engine, models, keyring, journal):
    """A job that finds them is a reader too."""
    overwrite(session.connection(), models.table, "note", b"plain", 1)
    copy_stored(session.connection(), models.table, "secret", source=2, target=1)
    session.commit()
    journal.clear()
    verify(engine, models.Base.metadata)
    assert sorted(use.refusal for use in journal if use.refusal) == [
        RefusalKind.NO_ENVELOPE, RefusalKind.OTHER_KEY_CONTEXT,
    ]  # fmt: skip


class Denies:
    """A KMS that unwraps nothing any more."""

    def __init__(self, kms, error):
        self._kms = kms
        self._error = error

    def __getattr__(self, name):
        return getattr(self._kms, name)

    def unwrap(self, wrapped, context, *, key_arn):
        raise self._error


class OwnDeniedError(KeyServiceDeniedError):
    """That of a service which somebody wrote a ``Kms`` for."""

    def __init__(self, subject, *, ticket):
        super().__init__(f"{subject} may not", code="Denied", request_id="r-1")
        self.ticket = ticket


@pytest.mark.parametrize(
    "error",
    [KeyServiceDeniedError("no", code="AccessDenied", request_id="r-1"),
     OwnDeniedError("you", ticket=7)],
)  # fmt: skip
def test_a_denied_decrypt_names_the_cell(error, session, models, kms):
    """Who runs the service has to know whose key policy is to be mended."""
    attach_keyrings(models.Base.metadata, default=Keyring(Denies(kms, error)))
    with pytest.raises(type(error), match=r"kmsenv_pings\.secret, row \(2\): ") as caught:
        session.scalars(select(models.Ping.secret).where(models.Ping.id == 2)).all()
    assert (caught.value.request_id, caught.value.cell.column) == ("r-1", "secret")
    assert caught.value.code == error.code
    assert vars(caught.value).get("ticket") == vars(error).get("ticket")


def test_a_disabled_key_names_the_cell_and_counts_as_no_refused_value(
    session, models, local_kms, keyring
):
    """The value is not to blame."""
    local_kms.disable()
    keyring.forget()
    with pytest.raises(KeyStateError, match=r"kmsenv_pings\.note, row \(1\): "):
        session.scalars(select(models.Ping.note).order_by(models.Ping.id)).all()
    assert keyring.stats().values_refused == 0


def test_ways_are_not_remembered_without_end(session, models, kms):
    """A result of a million tenants must not fill the memory of a process."""
    rows = [{"id": n, "device_id": f"d{n}", "secret": "s"} for n in range(3, 261)]
    session.connection().execute(insert(models.table), rows)
    first = select(models.table.c.secret).where(models.table.c.id == 1)
    plain = Keyring(kms)
    attach_keyrings(models.Base.metadata, default=plain)
    assert len(session.execute(select(models.table.c.secret)).all()) == 260
    before = plain.stats()
    session.execute(first).all()
    after = plain.stats()
    assert after.open_hits + after.open_misses > before.open_hits + before.open_misses
