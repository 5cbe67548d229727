"""What a command refuses before it begins: exit code 2, in words, and never a success."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import create_engine, insert

from sqlalchemy_kmsenv import Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.cli.keyrings import NamedUri
from sqlalchemy_kmsenv.columns.attached import attached_keyrings
from tests.cli.conftest import run, run_json, start, words
from tests.cli.models import KEYS_VARIABLE, Base, Other, Ping
from tests.conftest import on

COMMANDS = ("survey", "rewrap", "reencrypt", "verify")
MODELS = "tests.cli.models"
WRONG_METADATA = {
    "no colon": (MODELS, "is not like package.module:Base"),
    "no module": ("tests.cli.gone:Base", "there is no module 'tests.cli.gone'"),
    "no package": ("gone.models:Base", "there is no module 'gone'"),
    "no attribute": (
        f"{MODELS}:Bse",
        "has no attribute 'Bse'; these lead to a MetaData: Abroad, Base,",
    ),
    "a number": (f"{MODELS}:NUMBER", "is an object of type int; name a MetaData"),
    "no MetaData behind it": ("builtins:dict", "what it returns is neither a MetaData nor has one"),
    "raises": (f"{MODELS}:broken", "models.py, line "),
    "setting that is missing": (f"{MODELS}:unset", "KeyError: 'LOCATION_KEY_UNSET'"),
    "no encrypted column": (
        f"{MODELS}:PLAIN",
        "no encrypted column. It was looked for in 1 tables",
    ),
    "no table": (f"{MODELS}:NOTHING", "has no table at all"),
    "no keyring": (f"{MODELS}:Base", "uses keyring 'default', and importing"),
}
WRONG_URL = {
    "no URL": ("hunter2", "--url is no SQLAlchemy URL"),
    "unknown database": ("nosuch://me:hunter2@localhost/x", "knows no database 'nosuch'"),
    "no driver": ("mssql+pymssql://me:hunter2@localhost/x", "pymssql is not installed"),
    "asynchronous": ("sqlite+aiosqlite:///x.db", "is an asynchronous driver"),
    "nobody there": ("postgresql+psycopg://me:hunter2@127.0.0.1:1/x", "cannot be reached"),
    "another database": ("sqlite:///empty.db", "has no table cli_pings: is it another database?"),
}


@pytest.fixture
def keys(local_kms, tmp_path):
    """The URI of a key."""
    yield f"local://{tmp_path / 'keys.json'}"
    for base in (Base, Other):
        attached_keyrings(base.metadata).clear()


def refusal(*arguments):
    """The words of a command that must be refused, on standard error alone."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return words(result.stderr)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", WRONG_METADATA)
def test_wrong_metadata_is_refused_in_words(command, case):
    """A job that looks at the wrong MetaData and succeeds leaves everything behind."""
    path, expected = WRONG_METADATA[case]

    assert expected in refusal(command, "--url", "sqlite://", "--metadata", path)


@pytest.mark.parametrize("case", WRONG_URL)
def test_wrong_url_is_refused_and_its_password_is_not_repeated(case, keys):
    """The words go to logs."""
    url, expected = WRONG_URL[case]

    said = refusal("verify", "--url", url, "--metadata", f"{MODELS}:Base", "--keyring", keys)

    assert expected in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--column", "cli_pings.tenant"], "is not an encrypted column"),
        (["--keyring", "keys.json"], "--keyring takes [NAME=]URI"),
        (["--keyring", "vault:///x"], "the scheme 'vault' is unknown"),
        (["--keyring", "KEYS", "--keyring", "default=KEYS"], "given twice for keyring 'default'"),
        (["--keyring", "KEYS", "--unwrap-only", "old=KEYS"], "needs a --keyring of that name"),
        (["--context", "app=x"], "--context is for keyrings that are given with --keyring"),
        (["--keyring", "KEYS", "--context", "app"], "is not like NAME=VALUE"),
        (["--keyring", "KEYS", "--to", "old=KEYS"], "none of that name is attached"),
        (["--keyring", "KEYS", "--batch-size", "0"], "is not in the range"),
        (["--keyring", "KEYS", "--rows-per-second", "0"], "is not in the range"),
    ],
)
def test_wrong_option_is_refused_in_words(options, expected, keys):
    """An option that is silently ignored is found out about in production."""
    given = [option.replace("KEYS", keys) for option in options]

    said = refusal("rewrap", "--url", "sqlite://", "--metadata", f"{MODELS}:Base", *given)

    assert expected in said


@pytest.mark.parametrize(
    ("text", "name", "uri"),
    [
        ("local:///srv/keys.json", None, "local:///srv/keys.json"),
        ("old=local:///srv/a=b.json", "old", "local:///srv/a=b.json"),
        ("aws-kms:///alias/x?region=eu-west-1", None, "aws-kms:///alias/x?region=eu-west-1"),
        ("bills=aws-kms:///alias/x?region=r", "bills", "aws-kms:///alias/x?region=r"),
    ],
)
def test_name_before_a_uri_is_told_from_the_options_behind_it(text, name, uri):
    """Both have an equals sign."""
    assert NamedUri.parse("--keyring", text) == NamedUri(name, uri)


def test_to_must_say_which_keyring_where_columns_use_several(keys):
    """Wrapping the wrong column under a key is expensive to undo."""
    both = ("--keyring", keys, "--keyring", f"billing={keys}", "--to", keys)

    said = refusal("rewrap", "--url", "sqlite://", "--metadata", f"{MODELS}:Other", *both)

    assert "say which with --to NAME=URI" in said


def test_url_and_metadata_are_asked_for():
    """Neither can be guessed."""
    assert "--url" in refusal("survey", "--metadata", f"{MODELS}:Base")
    assert "--metadata" in refusal("survey", "--url", "sqlite://")


@on("sqlite")
def test_keyring_of_the_application_is_used_and_the_url_may_come_from_the_environment(
    world, monkeypatch
):
    """Neither a password nor a key need stand in a shell's history."""
    monkeypatch.setenv("KMSENV_DATABASE_URL", world.url)
    monkeypatch.setenv(KEYS_VARIABLE, world.uri)

    code, survey = run_json("survey", "--metadata", f"{MODELS}:with_keyring")

    assert code == 1
    assert [column["envelopes"] for column in survey["columns"]] == [12, 12]


@on("sqlite")
def test_context_of_the_keyring_can_be_given(world):
    """Values that were sealed under a context open under no other."""
    attach_keyrings(Base.metadata, Keyring(world.kms, context={"app": "tracker"}))
    with world.engine.begin() as connection:
        row = {"tenant": "acme", "number": 9, "position": {}, "note": None}
        connection.execute(insert(Ping), [row])

    _, without = run_json("verify", *world.about)
    _, given = run_json("verify", *world.about, "--context", "app=tracker")

    assert [column["counts"]["opened"] for column in without["columns"]] == [12, 12]
    assert [column["counts"]["opened"] for column in given["columns"]] == [1, 0]


def test_where_models_fail_is_a_line_of_theirs():
    """Of ``os.environ["X"]`` the last frame is in no file."""
    said = refusal("survey", "--url", "sqlite://", "--metadata", f"{MODELS}:unset")
    assert "models.py, line " in said
    assert "frozen" not in said


def test_models_are_found_in_the_current_directory(tmp_path, monkeypatch):
    """As with python -m: an application need not be installed."""
    keys = tmp_path / "keys.json"
    LocalKms.create(keys)
    here = tmp_path / "application"
    here.mkdir()
    (here / "here_models.py").write_text(
        "from sqlalchemy import Column, Integer, MetaData, String, Table\n"
        "from sqlalchemy_kmsenv import Encrypted\n"
        "metadata = MetaData()\n"
        "Table('here', metadata, Column('id', Integer, primary_key=True),\n"
        "      Column('secret', Encrypted(String)))\n"
    )
    engine = create_engine(f"sqlite:///{here / 'here.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE here (id INTEGER PRIMARY KEY, secret BLOB)")
    engine.dispose()
    monkeypatch.chdir(here)

    arguments = ("--url", "sqlite:///here.db", "--metadata", "here_models:metadata")
    process = start("survey", *arguments, "--keyring", f"local://{keys}")
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert "Every envelope is at the target." in out
    assert str(here) not in sys.path


def test_help_needs_neither_models_nor_database():
    """It is what an operator reads at three in the morning."""
    process = start("rewrap", "--help")
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    for option in ("--to", "--resume", "--kms-per-second", "--dask", "--dry-run", "--json"):
        assert option in out
