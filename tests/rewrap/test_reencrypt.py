from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, delete, select, update

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    Keyring,
    KeyUse,
    LocalKms,
    WrongCellError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.kms import CountingKms
from sqlalchemy_kmsenv.rewrap import CheckpointError, FormerBinding, reencrypt, verify
from tests.rewrap.conftest import Interfering, Notes, text_of


def commitments(notes: Notes, name: str = "text") -> set[bytes]:
    """The data keys that a column's values are under."""
    return {parse_header(r).reference.commitment for r in notes.stored(name).values() if r}


def test_every_value_gets_a_fresh_data_key_and_a_new_payload(notes: Notes):
    """The answer to a data key that leaked; the application may hold that key still."""
    before, keys_before = notes.stored(), commitments(notes)
    notes.kms.reset()

    with notes.kms.expect(unwrap=1 + 3, generate_data_key=1 + 3):
        report = reencrypt(notes.engine, notes.metadata, batch_size=7, workers=2)

    assert report.ok
    assert (report.counts.rewritten, report.counts.kms_calls) == (57, 8)
    assert not keys_before & commitments(notes)
    for key, raw in notes.stored().items():
        assert not raw or raw[-20:] != before[key][-20:]
    assert notes.texts() == {n: text_of(n) for n in range(30)}


def test_only_values_under_the_named_data_keys_are_sealed_anew(notes: Notes):
    """Then a second run does nothing."""
    (leaked,) = commitments(notes)
    attach_keyrings(notes.metadata, default=Keyring(notes.kms))
    notes.fill(10, start=100)
    options: dict[str, Any] = {"columns": [notes.table.c.text], "data_keys": [leaked.hex()]}

    first = reencrypt(notes.engine, notes.metadata, **options)
    second = reencrypt(notes.engine, notes.metadata, **options)

    assert (first.counts.rewritten, first.counts.current) == (27, 9)
    assert (second.counts.rewritten, second.counts.current) == (0, 36)
    assert leaked not in commitments(notes)


def renamed(notes: Notes, **encrypted) -> MetaData:
    """The same table in a model that binds its values otherwise."""
    metadata = MetaData()
    Table(
        notes.table.name,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", Integer, nullable=False),
        Column("text", Encrypted(String, **encrypted)),
    )
    attach_keyrings(metadata, default=Keyring(notes.kms))
    return metadata


@pytest.mark.parametrize(
    ("now", "former"),
    [
        ({"name": "notes.text"}, FormerBinding(name="kmsenv_rewrap_notes.text")),
        ({"scope": ["tenant"]}, FormerBinding(scope="column")),
        ({"scope": "row"}, FormerBinding(scope="column")),
        ({"identity": ["tenant", "id"]}, FormerBinding(identity=["id"])),
        ({"bind": "column"}, FormerBinding(bind="row")),
    ],
    ids=["name", "scope", "row scope", "identity", "bind"],
)
def test_values_move_to_a_changed_binding(notes: Notes, now, former):
    """A rename, or another idea of what names a row, must not be for ever."""
    metadata = renamed(notes, **now)
    with pytest.raises(WrongCellError):
        read(notes, metadata)

    first = reencrypt(notes.engine, metadata, former=former, batch_size=7, workers=2)
    second = reencrypt(notes.engine, metadata, former=former)

    assert first.ok
    assert (first.counts.rewritten, first.counts.null) == (27, 3)
    assert (second.counts.rewritten, second.counts.current) == (0, 27)
    assert read(notes, metadata) == {n: text_of(n) for n in range(30)}
    assert verify(notes.engine, metadata).ok


def test_a_killed_move_to_another_binding_goes_on(notes: Notes, tmp_path):
    """The checkpoint knows the former binding, however its columns were given."""
    metadata = renamed(notes, identity=["tenant", "id"])
    former = FormerBinding(identity=["id"])
    options: dict[str, Any] = {
        "former": former,
        "batch_size": 4,
        "checkpoint": tmp_path / "c.json",
    }
    pages: list[Any] = []
    first = reencrypt(
        notes.engine,
        metadata,
        on_progress=pages.append,
        should_stop=lambda: len(pages) == 2,
        **options,
    )

    second = reencrypt(notes.engine, metadata, **options)

    assert first.counts.rows == 8
    assert second.ok
    assert (second.counts.rows, second.counts.rewritten) == (30, 27)
    options["former"] = FormerBinding(identity=["id"], scope="row")
    with pytest.raises(CheckpointError, match="former"):
        reencrypt(notes.engine, metadata, on_progress=pages.append, **stopped(notes, options))


def stopped(notes: Notes, options: dict[str, Any]) -> dict[str, Any]:
    """The options, after a job with another former binding has left its checkpoint."""
    metadata = renamed(notes, identity=["tenant", "id"])
    reencrypt(
        notes.engine,
        metadata,
        should_stop=lambda: True,
        **{**options, "former": FormerBinding(identity=["id"])},
    )
    return options


def read(notes: Notes, metadata: MetaData) -> dict[int, str]:
    """The values as the changed model has them."""
    table = metadata.tables[notes.table.name]
    with notes.engine.connect() as connection:
        return dict(connection.execute(select(table.c.id, table.c.text)).all())


def test_values_move_to_another_keyring(notes: Notes, tmp_path):
    """Another account, which ReEncrypt cannot reach, or a keyring of its own for one column."""
    new = CountingKms(LocalKms.create(tmp_path / "new.json"))
    attach_keyrings(notes.metadata, default=Keyring(new), old=Keyring(notes.kms))

    report = reencrypt(notes.engine, notes.metadata, former=FormerBinding(keyring="old"))

    assert report.ok
    with notes.kms.expect():
        assert verify(notes.engine, notes.metadata).ok


def test_a_failing_binding_costs_one_call_a_data_key(notes: Notes):
    """Resumed, or run twice, the job meets rows that are done: not a refused call for each."""
    metadata = renamed(notes, name="notes.text")
    former = FormerBinding(name="kmsenv_rewrap_notes.text")
    reencrypt(notes.engine, metadata, former=former)
    notes.kms.reset()

    report = reencrypt(notes.engine, metadata, former=former, batch_size=4)

    assert report.counts.current == 27
    assert notes.kms.calls == {"unwrap": 2}


def test_a_concurrent_writer_wins(notes: Notes):
    """A value that the application commits meanwhile is not put back to what it was."""
    wrote: list[int] = []

    class Writing(Interfering):
        def __init__(self, kms):
            super().__init__(kms, None)
            self.unwrap = self.unwrap_meanwhile

        def unwrap_meanwhile(self, wrapped, context, *, key_arn):
            if not wrote:
                wrote.append(5)
                attach_keyrings(notes.metadata, default=Keyring(notes.key))
                same = notes.table.c.id
                with notes.engine.begin() as connection:
                    connection.execute(update(notes.table).where(same == 5).values(text="new"))
                    connection.execute(delete(notes.table).where(same == 6))
                attach_keyrings(notes.metadata, default=keyring)
            return self._kms.unwrap(wrapped, context, key_arn=key_arn)

    keyring = Keyring(Writing(notes.key))
    attach_keyrings(notes.metadata, default=keyring)
    report = reencrypt(notes.engine, notes.metadata, columns=[notes.table.c.text])

    texts = {n: text_of(n) for n in range(30) if n != 6}
    assert notes.texts() == {**texts, 5: "new"}
    assert report.ok
    assert (report.counts.rewritten, report.counts.changed) == (26, 1)


def test_large_values_are_served_a_few_at_a_time(notes: Notes):
    """A page of a thousand megabytes would be the end of the process."""
    large = "x" * (3 << 20)
    with notes.engine.begin() as connection:
        for n in range(4):
            same = notes.table.c.id == n
            connection.execute(update(notes.table).where(same).values(text=large))
    seen: list[Any] = []

    report = reencrypt(
        notes.engine,
        notes.metadata,
        columns=[notes.table.c.text],
        on_progress=lambda p: seen.append(p.counts.rows),
    )

    assert report.ok
    assert notes.texts() == {**{n: text_of(n) for n in range(30)}, **dict.fromkeys(range(4), large)}


def test_a_value_that_does_not_open_is_left_and_named(notes: Notes):
    """Sealing it anew would make a moved value look right."""
    raw = notes.stored()
    notes.overwrite(2, raw[1])

    report = reencrypt(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert (report.counts.rewritten, report.counts.failed) == (26, 1)
    (failure,) = report.columns[0].failures
    assert (failure.row, failure.finding) == (("2",), "other row or damaged")
    assert notes.stored()[2] == raw[1]


def test_a_dry_run_opens_and_writes_nothing(notes: Notes):
    """It tells whether the former binding that was given is the right one."""
    metadata = renamed(notes, name="notes.text")
    before = notes.stored()

    right = reencrypt(
        notes.engine,
        metadata,
        former=FormerBinding(name="kmsenv_rewrap_notes.text"),
        dry_run=True,
    )
    wrong = reencrypt(notes.engine, metadata, former=FormerBinding(name="nots.text"), dry_run=True)

    assert (right.counts.rewritten, wrong.counts.failed) == (27, 27)
    assert notes.stored() == before


@pytest.mark.parametrize("data_keys", ["ab" * 32, ["ab"], ["xy" * 32], [b"a" * 32]])
def test_data_keys_that_are_none_are_refused(notes: Notes, data_keys):
    """Matching nothing, the job would end as if all were well."""
    with pytest.raises(ConfigurationError, match="data_keys"):
        reencrypt(notes.engine, notes.metadata, data_keys=data_keys)


def test_data_keys_and_a_former_binding_are_not_taken_together(notes: Notes):
    """Values under a leaked data key that are bound rightly would count as current."""
    metadata = renamed(notes, name="notes.text")
    before = notes.stored()
    leaked = [each.hex() for each in commitments(notes)]

    for data_keys in (leaked, []):
        with pytest.raises(ConfigurationError, match=r"former=.* cannot go together"):
            reencrypt(
                notes.engine,
                metadata,
                former=FormerBinding(name=f"{notes.table.name}.text"),
                data_keys=data_keys,
            )

    assert notes.stored() == before


@pytest.mark.parametrize("former", [False, True])
def test_the_audit_hook_is_told_of_every_value_that_a_job_cannot_open(former, notes: Notes):
    """Once each, by kind: a job that reads a whole table finds what nobody has read yet."""
    told: list[str] = []

    def audit(use: KeyUse) -> None:
        if use.operation == "open" and use.outcome == "refused":
            told.append(str(use.refusal))

    keyring = Keyring(notes.kms, audit=audit)
    attach_keyrings(notes.metadata, default=keyring)
    notes.overwrite(2, notes.stored()[1])
    notes.overwrite(3, b"plaintext")
    how: dict[str, Any] = {"former": FormerBinding(keyring="default")} if former else {}

    report = reencrypt(notes.engine, notes.metadata, columns=[notes.table.c.text], **how)

    assert report.counts.failed + report.counts.not_envelopes == 2
    assert sorted(told) == ["no envelope", "other row or damaged"]
