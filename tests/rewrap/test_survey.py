import json
from typing import Any

import pytest

from sqlalchemy_kmsenv import Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.rewrap import Counts, survey
from tests.rewrap.conftest import Notes


def test_a_survey_counts_by_key_and_by_material(notes: Notes, tmp_path):
    """Before and after a rotation, an operator wants one number: what is not yet there."""
    first = notes.key.material_ids[-1][:16]
    notes.key.rotate()
    attach_keyrings(notes.metadata, default=Keyring(notes.key))
    notes.fill(10, start=100)

    told: dict[str, Counts] = {}
    report = survey(
        notes.engine,
        notes.metadata,
        batch_size=7,
        workers=2,
        on_progress=lambda progress: told.update({progress.column: progress.counts}),
    )

    found = report.columns[0]
    assert told[found.column] == Counts(rows=40, current=36, null=4)
    arn = notes.key.resolve()
    assert [(k.key_arn, k.material_hint, k.envelopes, k.at_target) for k in found.keys] == [
        (arn, notes.key.material_ids[-1][:16], 9, True),
        (arn, first, 27, False),
    ]
    assert (found.envelopes, found.not_at_target, found.null) == (36, 27, 4)
    assert found.target.key_arn == arn


def test_a_survey_names_keys_that_the_keyring_does_not_list(notes: Notes, tmp_path):
    """Such values cannot be opened: better known before the old key is deleted."""
    other = LocalKms.create(tmp_path / "other.json")
    attach_keyrings(notes.metadata, default=Keyring(other))

    found = survey(notes.engine, notes.metadata).columns[0]

    assert [(k.key_arn, k.envelopes) for k in found.keys] == [(None, 27)]


def test_a_survey_calls_nothing_but_describe(notes: Notes):
    """It must be safe to run at any time, by a role that may do nothing else."""
    notes.kms.reset()

    with notes.kms.expect():
        found = survey(notes.engine, notes.metadata)

    assert set(notes.kms.inquiries) == {"describe"}
    assert found.ok


def test_what_is_no_envelope_is_counted_and_named(notes: Notes):
    """Plaintext from before the column was encrypted must not go unseen."""
    notes.overwrite(3, b"plaintext from before")

    found = survey(notes.engine, notes.metadata)

    assert not found.ok
    assert found.columns[0].not_envelopes == 1
    assert [f.row for f in found.columns[0].failures] == [("3",)]
    assert "plaintext from before" not in json.dumps(found.to_json())


def test_where_the_material_is_not_told_the_key_alone_decides(notes: Notes):
    """Older services leave it out; then a rotation cannot be seen, and the survey says so."""

    class Silent:
        def __init__(self, kms):
            self.resolve, self.generate_data_key = kms.resolve, kms.generate_data_key
            self.unwrap, self.rewrap = kms.unwrap, kms.rewrap

    notes.key.rotate()
    attach_keyrings(notes.metadata, default=Keyring(Silent(notes.key)))

    found = survey(notes.engine, notes.metadata)

    assert found.ok
    assert found.columns[0].target.material_hint is None
    assert found.columns[0].target.state == "unknown"


def test_an_option_that_a_survey_does_not_have_is_refused(notes: Notes, tmp_path):
    """Ignored, it would look as if it had been heeded."""
    options: dict[str, Any] = {"checkpoint": tmp_path / "c.json"}

    with pytest.raises(TypeError, match="checkpoint"):
        survey(notes.engine, notes.metadata, **options)
