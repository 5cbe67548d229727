"""Headers are not authenticated: what decides is what the KMS says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sqlalchemy_kmsenv import Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.envelope import (
    key_fingerprint,
    material_hint,
    parse_header,
    serialize_header,
)
from sqlalchemy_kmsenv.kms import CountingKms
from sqlalchemy_kmsenv.rewrap import rewrap, survey, verify
from tests.rewrap.conftest import Notes, text_of
from tests.rewrap.test_one_form import ReWrapRole


def forge(notes: Notes, target: LocalKms, name: str = "text") -> int:
    """Let the headers of a column say that their data keys are at the target."""
    said = target.describe()
    stored = {key: raw for key, raw in notes.stored(name).items() if raw}
    for key, raw in stored.items():
        header = parse_header(raw)
        false = replace(
            header.reference,
            fingerprint=key_fingerprint(said.arn),
            material_hint=material_hint(said.material_id),
        )
        made = serialize_header(false, header.value_type) + raw[header.size :]
        notes.overwrite(key, made, name)
    return len(stored)


@pytest.fixture(params=["another key", "older material"])
def forged(request, notes: Notes, tmp_path) -> LocalKms:
    """The headers name the target, the data keys are not there; the key that they need to open."""
    if request.param == "older material":
        notes.key.rotate()
        target = notes.key
        attach_keyrings(notes.metadata, default=Keyring(ReWrapRole(target)))
    else:
        target = LocalKms.create(tmp_path / "new.json", rewraps_from=[notes.key])
        attach_keyrings(
            notes.metadata, default=Keyring(ReWrapRole(target), unwrap_only=[notes.key])
        )
    forge(notes, target)
    return target


def test_headers_alone_are_believed_unless_the_kms_is_asked(notes: Notes, forged):
    """The docs must not let anybody disable a key on their word."""
    columns: list[Any] = [notes.table.c.text]

    assert survey(notes.engine, notes.metadata, columns=columns).ok
    assert rewrap(notes.engine, notes.metadata, columns=columns).ok
    proof = rewrap(
        notes.engine, notes.metadata, columns=columns, dry_run=True, verify_material=True
    )

    assert not proof.ok
    assert (proof.counts.false_headers, proof.counts.rewritten) == (27, 27)


def test_false_headers_are_mended_and_told(notes: Notes, forged):
    """A forged header said that the old key may go, and with it went the values."""
    columns: list[Any] = [notes.table.c.text]

    told = rewrap(notes.engine, notes.metadata, columns=columns, verify_material=True)
    again = rewrap(notes.engine, notes.metadata, columns=columns, verify_material=True)

    assert not told.ok
    assert (told.counts.false_headers, told.counts.rewritten) == (27, 27)
    assert again.ok
    assert again.counts.false_headers == 0
    # Without the former key: nothing needs it any more.
    attach_keyrings(notes.metadata, default=Keyring(forged))
    assert verify(notes.engine, notes.metadata, columns=columns).ok
    assert notes.texts() == {n: text_of(n) for n in range(30)}


def test_a_proof_costs_a_call_for_each_wrapped_data_key(notes: Notes):
    """However many rows share it."""
    kms = CountingKms(notes.key)
    attach_keyrings(notes.metadata, default=Keyring(kms))

    with kms.expect(rewrap=4):
        report = rewrap(
            notes.engine, notes.metadata, verify_material=True, batch_size=7, dry_run=True
        )

    assert report.ok
    assert report.counts.current == 57


def test_what_no_key_has_wrapped_is_a_failure(notes: Notes):
    """Nothing is written over it: there is nothing better."""
    raw = bytearray(notes.stored()[4])
    raw[60] ^= 1
    notes.overwrite(4, bytes(raw))
    attach_keyrings(notes.metadata, default=Keyring(ReWrapRole(notes.key)))

    report = rewrap(
        notes.engine, notes.metadata, columns=[notes.table.c.text], verify_material=True
    )

    assert [failure.row for failure in report.columns[0].failures] == [("4",)]
    assert notes.stored()[4] == bytes(raw)
