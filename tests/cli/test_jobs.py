"""Survey, re-wrap, re-encrypt and verify from the command line, on every database."""

from __future__ import annotations

import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings, seal_cells
from sqlalchemy_kmsenv.envelope import parse_header
from tests.cli.conftest import run, run_json, words
from tests.cli.models import Base
from tests.conftest import on


def payloads(stored):
    """Nonces, ciphertexts and tags: what must not change when a data key is wrapped anew."""
    return {key: value[parse_header(value).size :] for key, value in stored.items()}


def materials(stored):
    """The key materials that the envelopes are under."""
    return {parse_header(value).reference.material_hint for value in stored.values()}


def counts(document):
    """The counts of each column."""
    return {column["column"]: column["counts"] for column in document["columns"]}


def test_survey_rewrap_survey_verify(world):
    """The four commands of a rotation, and their exit codes."""
    values, before = world.read(), world.stored()

    surveyed = run("survey", *world.about)
    rewrapped = run("rewrap", *world.about)
    again = run("survey", *world.about)
    verified = run("verify", *world.about)

    assert [r.exit_code for r in (surveyed, rewrapped, again, verified)] == [1, 0, 0, 0]
    assert "20 envelopes are not at the target." in surveyed.stdout
    assert "Every row is at the target." in rewrapped.stdout
    assert (
        "Every envelope is at the target. Headers only: kmsenv verify shows whether they open."
        in again.stdout
    )
    assert "Headers only" not in surveyed.stdout
    assert "Every value opens." in verified.stdout
    assert world.read() == values
    assert payloads(world.stored()) == payloads(before)
    assert (len(materials(before)), len(materials(world.stored()))) == (2, 1)


@on("sqlite")
def test_second_rewrap_has_nothing_to_do(world):
    """A job in a timer runs again and again."""
    run("rewrap", *world.about)

    code, report = run_json("rewrap", *world.about)

    assert code == 0
    for column in counts(report).values():
        assert (column["current"], column["rewritten"], column["kms_calls"]) == (12, 0, 0)


@on("sqlite")
def test_rewrap_costs_a_call_for_each_data_key(world):
    """KMS calls are money and quota."""
    _, report = run_json("rewrap", *world.about)

    # Positions share data keys by tenant, notes all of them; 10 and 10 rows are due.
    found = counts(report)
    assert found["cli_pings.position"]["kms_calls"] == 2
    assert found["cli_pings.note"]["kms_calls"] == 1


@on("sqlite")
def test_dry_run_writes_nothing_and_says_what_is_due(world):
    """Exit code 1: somebody who asks whether anything is due is told so."""
    before = world.stored()

    shown = run("rewrap", *world.about, "--dry-run")
    code, report = run_json("rewrap", *world.about, "--dry-run")

    assert (shown.exit_code, code) == (1, 1)
    assert "10 to re-wrap" in words(shown.stdout)
    assert "A dry run: 20 rows would be re-wrapped; nothing was written." in shown.stdout
    assert (report["dry_run"], report["ok"], report["complete"]) == (True, False, True)
    assert world.stored() == before
    run("rewrap", *world.about)
    assert run("rewrap", *world.about, "--dry-run").exit_code == 0


@on("sqlite")
def test_only_the_named_column_is_touched(world):
    """A large table is served column by column."""
    before = world.stored()

    code, report = run_json("rewrap", *world.about, "--column", "cli_pings.note")

    assert code == 0
    assert list(counts(report)) == ["cli_pings.note"]
    assert world.stored() == before


def test_to_moves_everything_to_another_key_and_leaves_the_former(world, tmp_path):
    """The last step before a key is retired."""
    LocalKms.create(tmp_path / "next.json")
    to = f"local://{tmp_path / 'next.json'}"
    values = world.read()

    code, report = run_json("rewrap", *world.about, "--to", to)
    moved = run("survey", *world.about, "--to", to)
    attach_keyrings(Base.metadata, Keyring(to))

    assert code == 0
    assert {column["rewritten"] for column in counts(report).values()} == {12}
    assert moved.exit_code == 0
    assert "also in use" not in moved.stdout
    assert world.read() == values


@on("sqlite")
def test_former_keys_are_given_with_unwrap_only(world, tmp_path):
    """Where the application has moved on already, the command must know what was before."""
    LocalKms.create(tmp_path / "next.json")
    keys = ("--keyring", f"local://{tmp_path / 'next.json'}", "--unwrap-only", world.uri)

    alone, foreign = run_json("rewrap", *world.about[:4], *keys[:2])
    code, report = run_json("rewrap", *world.about[:4], *keys)

    assert alone == 1
    failures = [failure for column in foreign["columns"] for failure in column["failures"]]
    assert {failure["error"] for failure in failures} == {"ConfigurationError"}
    assert code == 0
    assert {column["rewritten"] for column in counts(report).values()} == {12}


def test_bad_rows_are_named_and_the_others_are_served(world):
    """One bad row must neither stop the job nor be passed over."""
    victim = world.stored()["acme", 1]
    world.write_raw("acme", 2, victim)
    world.write_raw("initech", 3, b"plaintext")

    rewrapped = run("rewrap", *world.about)
    verified = run("verify", *world.about)
    code, report = run_json("verify", *world.about)

    assert (rewrapped.exit_code, verified.exit_code, code) == (1, 1, 1)
    assert "row (initech, 3): EnvelopeError" in rewrapped.stdout
    assert "1 of 24 rows failed." in rewrapped.stdout
    assert "row (acme, 2): WrongCellError (other row or damaged)" in verified.stdout
    assert "2 of 24 rows failed." in verified.stdout
    assert counts(report)["cli_pings.position"]["opened"] == 10
    shown = rewrapped.output + verified.output
    assert "plaintext" not in shown.replace("in plaintext before", "")


@on("sqlite")
def test_survey_of_values_that_are_no_envelopes_is_no_success(world):
    """Plaintext in an encrypted column is what a survey is for."""
    run("rewrap", *world.about)
    world.write_raw("acme", 0, b"plaintext")

    result = run("survey", *world.about)

    assert result.exit_code == 1
    assert "1 values are no envelopes." in result.stdout
    assert "row (acme, 0): EnvelopeError" in result.stdout


@on("postgresql", "mariadb")
def test_workers_share_the_rows(world):
    """Threads that count a row twice, or not at all, would be noticed here."""
    world.store(range(10, 200))

    options = ("--workers", 3, "--partitions", 5, "--batch-size", 20)
    code, report = run_json("reencrypt", *world.about, *options)

    assert code == 0
    assert {(c["rows"], c["rewritten"]) for c in counts(report).values()} == {(392, 392)}
    assert run("verify", *world.about).exit_code == 0


def test_reencrypt_seals_a_leaked_data_key_anew(world):
    """Nothing else helps against a data key that got out; rows under others stay."""
    values, before = world.read(), world.stored()
    shown = run("inspect", before["acme", 1].hex(), "--json")
    leaked = parse_header(before["acme", 1]).reference.commitment.hex()
    assert leaked in shown.stdout

    options = ("--column", "cli_pings.position", "--data-key", leaked)
    code, report = run_json("reencrypt", *world.about, *options)

    found = counts(report)["cli_pings.position"]
    assert (code, found["rewritten"], found["current"]) == (0, 5, 7)
    after = world.stored()
    changed = {key for key in before if after[key] != before[key]}
    assert changed == {("acme", number) for number in range(5)}
    assert world.read() == values
    again = run("reencrypt", *world.about, *options)
    assert f"Keyring(..., revoked=['{leaked}'])" in again.stderr


@on("sqlite")
@pytest.mark.parametrize(
    ("options", "former"),
    [
        (["--former-name", "pings.position"], {"name": "pings.position", "scope": ["tenant"]}),
        (["--former-scope", "column"], {"scope": "column"}),
        (["--former-scope", "number"], {"scope": ["number"]}),
        (
            ["--former-scope", "tenant", "--former-scope", "number"],
            {"scope": ["tenant", "number"]},
        ),
        (["--former-bind", "column"], {"bind": "column", "scope": ["tenant"]}),
        (
            ["--former-identity", "number", "--former-identity", "tenant", "--former-scope", "row"],
            {"identity": ["number", "tenant"], "scope": "row"},
        ),
    ],
    ids=" ".join,
)
def test_reencrypt_brings_values_from_a_former_binding(options, former, world):
    """A rename, or another scope, would otherwise make values unreadable for good."""
    values = world.read()
    about = (*world.about, "--column", "cli_pings.position")
    seal_as_formerly(world, values, former)
    assert run("verify", *about).exit_code == 1

    code, report = run_json("reencrypt", *about, *options)

    assert (code, counts(report)["cli_pings.position"]["rewritten"]) == (0, 12)
    assert run("verify", *about).exit_code == 0
    attach_keyrings(Base.metadata, Keyring(world.kms))
    assert world.read() == values


@on("sqlite")
@pytest.mark.parametrize("former", [{"name": "pings.position", "scope": ["tenant"]}, {}])
def test_failures_that_are_alike_are_told_once_with_a_likely_cause(former, world):
    """After a rename, every row says the same; ten times the same hides what to do."""
    values = world.read()
    if former:
        seal_as_formerly(world, values, former)
    else:
        for number in (0, 2):
            world.write_raw("acme", number, world.stored()["acme", 1])

    result = run("verify", *world.about, "--column", "cli_pings.position")
    code, report = run_json("verify", *world.about, "--column", "cli_pings.position")

    number = 12 if former else 2
    said = words(result.stdout)
    assert said.count("WrongCellError") == 1
    assert f"{number} x WrongCellError (" in said
    rows = "(acme, 0), (acme, 1), (acme, 2), (acme, 3), (acme, 4), ..."
    assert f"; rows {rows if former else '(acme, 0), (acme, 2)'}" in said
    assert ("--former-name OLD_TABLE.OLD_COLUMN --dry-run" in said) is bool(former)
    assert (code, len(report["columns"][0]["failures"])) == (1, number)


def seal_as_formerly(world, values, former):
    """Store the positions as a model with another binding has sealed them."""
    metadata = MetaData()
    table = Table(
        "cli_pings",
        metadata,
        Column("tenant", String(20), primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("position", Encrypted(JSON, **former)),
    )
    attach_keyrings(metadata, Keyring(world.kms))
    rows = [{"tenant": tenant, "number": number} for tenant, number in values]
    sealed = seal_cells(table.c.position, values.values(), rows)
    for row, stored in zip(rows, sealed, strict=True):
        world.write_raw(row["tenant"], row["number"], stored)


@on("sqlite")
def test_reencrypt_brings_values_from_a_former_keyring(world, tmp_path):
    """A column that gets a keyring of its own, and another KMS key with it."""
    LocalKms.create(tmp_path / "own.json")
    keys = ("--keyring", f"local://{tmp_path / 'own.json'}", "--keyring", f"old={world.uri}")
    values = world.read()

    code, report = run_json("reencrypt", *world.about[:4], *keys, "--former-keyring", "old")

    assert (code, counts(report)["cli_pings.position"]["rewritten"]) == (0, 12)
    attach_keyrings(Base.metadata, Keyring(keys[1]))
    assert world.read() == values


@on("sqlite")
def test_refused_reencrypt_says_what_a_commitment_is(world):
    """It is given by hand, from the output of inspect."""
    result = run("reencrypt", *world.about, "--data-key", "abcd")

    assert result.exit_code == 2
    assert "64 hexadecimal digits" in words(result.stderr)


@on("sqlite")
def test_missing_permission_is_refused_before_the_first_row(world, tmp_path):
    """Half of a table under a new key helps nobody."""
    LocalKms.create(tmp_path / "next.json").disable()
    before = world.stored()

    result = run("rewrap", *world.about, "--to", f"local://{tmp_path / 'next.json'}")

    assert result.exit_code == 2
    assert "disabled" in words(result.stderr).lower()
    assert world.stored() == before


@on("sqlite")
def test_refused_rows_are_passed_over_as_far_as_the_command_allows(world, tmp_path):
    """Tenants whose keys are gone must not keep the others from their new key."""
    LocalKms.create(tmp_path / "next.json")
    about = (*world.about[:-1], f"local://{tmp_path / 'next.json'}", "--column", "cli_pings.note")
    kms = LocalKms(tmp_path / "keys.json")
    kms.disable()
    more = ("--unwrap-only", world.uri, "--batch-size", "1")

    asked = run("verify", *about, *more)
    stopped = run("verify", *about, *more, "--no-preflight", "--give-up-after", "3")
    code, report = run_json("verify", *about, *more, "--no-preflight", "--checkpoint", "other")

    assert asked.exit_code == 2
    assert stopped.exit_code == 1
    assert "the key service refused 3 rows in a row" in stopped.stdout
    assert (code, report["complete"], report["columns"][0]["counts"]["failed"]) == (1, True, 12)


def test_rows_are_not_counted_where_that_is_not_wanted(world):
    """A count of a billion rows takes longer than many a statement timeout."""
    counted = run("rewrap", *world.about)
    uncounted = run("rewrap", *world.about, "--no-count")

    assert "cli_pings.note: 12 of 12 rows" in counted.stderr
    assert "cli_pings.note: 12 rows" in uncounted.stderr
