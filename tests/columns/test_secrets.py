"""Nothing that is printed, raised, logged or kept in an error holds a plaintext or a key."""

import io
import json
import logging
import traceback

import pytest
from sqlalchemy import create_engine, func, insert, literal, select, update
from sqlalchemy.orm import Session

from sqlalchemy_kmsenv import Encrypted, Keyring, KmsEnvError
from sqlalchemy_kmsenv.columns import Sealed
from tests.columns.conftest import overwrite, stored

CANARY = "canary-plaintext-6d1f"


def everything_in(error):
    """All text that a log, a crash report or a debugger shows of an error and its causes."""
    seen, texts = [], []
    while error is not None and error not in seen:
        seen.append(error)
        texts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        texts += [repr(getattr(error, name, None)) for name in ("params", "statement", "orig")]
        texts += ["".join(traceback.format_exception(error))]
        error = error.__cause__ or error.__context__
    # The source lines of a traceback quote the test itself, which names the constant only.
    return "\n".join(texts)


@pytest.fixture
def log(engine):
    """What echo and every other logger print."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    level, root.level = root.level, logging.DEBUG
    engine.echo = "debug"
    yield stream
    engine.echo = False
    root.removeHandler(handler)
    root.level = level


def failures(models):
    """Ways to fail with a plaintext in hand."""
    Ping, table = models.Ping, models.table
    return {
        "unbound update": lambda s: s.execute(update(Ping).values(note=CANARY)),
        "no key": lambda s: s.execute(insert(table), {"note": CANARY}),
        "key of another type": lambda s: s.execute(insert(table), {"id": "x", "note": CANARY}),
        "wrong type": lambda s: s.execute(insert(table), {"id": 1, "note": [CANARY]}),
        "no json": lambda s: s.execute(insert(table), {"id": 1, "position": {CANARY, "x"}}),
        "no utf-8": lambda s: s.execute(insert(table), {"id": 1, "note": CANARY + "\ud800"}),
        "comparison": lambda s: s.execute(select(Ping).where(Ping.note == CANARY)),
        "function": lambda s: s.execute(select(func.coalesce(Ping.note, CANARY))),
        "typed literal": lambda s: s.execute(
            select(Ping.id).where(Ping.id == func.length(literal(CANARY, Ping.note.type)))
        ),
        "literal binds": lambda s: (
            insert(table)
            .values(id=1, note=CANARY)
            .compile(s.get_bind(), compile_kwargs={"literal_binds": True})
        ),
        "duplicate key": lambda s: s.execute(
            insert(table), [{"id": 1, "note": CANARY}, {"id": 1, "note": CANARY}]
        ),
        "missing parameter": lambda s: s.execute(
            insert(table), [{"id": 1, "note": CANARY}, {"id": 2}]
        ),
        "many inline": lambda s: s.execute(
            insert(table).values([{"id": 1, "note": CANARY}, {"id": 1, "note": CANARY}])
        ),
        "flush without key": lambda s: (s.add(Ping(note=CANARY)), s.flush()),
        "no such table": lambda s: (
            s.connection().exec_driver_sql("DROP TABLE kmsenv_pings"),
            s.execute(insert(table), {"id": 1, "note": CANARY}),
        ),
    }


FAILURES = ["unbound update", "no key", "key of another type", "wrong type", "no json", "no utf-8",
            "comparison", "function", "typed literal", "literal binds", "duplicate key",
            "missing parameter", "many inline", "flush without key", "no such table"]  # fmt: skip


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_shows_no_plaintext(name, session, models, log):
    """Errors and logs go to places that are not trusted with personal data."""
    assert set(FAILURES) == set(failures(models))
    with pytest.raises(Exception) as caught:  # noqa: PT011  each its own class
        failures(models)[name](session)
    assert CANARY not in everything_in(caught.value)
    session.rollback()
    assert CANARY not in log.getvalue()


def test_a_key_service_failure_shows_no_plaintext(session, models, local_kms, log):
    """The KMS refuses while the values are in hand."""
    local_kms.disable()
    with pytest.raises(KmsEnvError) as caught:
        session.execute(insert(models.table), [{"id": 1, "note": CANARY}])
    assert CANARY not in everything_in(caught.value)
    assert CANARY not in log.getvalue()


def test_a_value_that_does_not_open_or_decode_shows_nothing(session, models, keyring, log):
    """Neither the plaintext nor the ciphertext of the cell is in the error."""
    table = models.table
    session.execute(insert(table), {"id": 1, "note": CANARY})
    raw = stored(session, table.c.note)
    overwrite(session.connection(), table, "note", raw[:-1] + bytes([raw[-1] ^ 1]), 1)
    with pytest.raises(KmsEnvError) as caught:
        session.execute(select(table.c.note)).all()
    shown = everything_in(caught.value)
    assert CANARY not in shown
    assert raw.hex()[:40] not in shown


def test_a_successful_round_trip_logs_no_plaintext(session, models, log):
    """Echo prints parameters: they must be envelopes by then."""
    Ping = models.Ping
    session.add(Ping(id=1, note=CANARY, position={"p": CANARY}, secret=CANARY))
    session.flush()
    session.execute(update(Ping).where(Ping.id == 1).values(note=CANARY + "2"))
    session.expire_all()
    # Rows are logged as the driver gives them, before they are opened.
    assert session.scalars(select(Ping.note)).all() == [CANARY + "2"]
    assert CANARY not in log.getvalue()


def test_reprs_hold_no_key_and_no_value(tmp_path, kms, keyring, session, models):
    """What a debugger or a log line shows of our own objects."""
    session.execute(insert(models.table), {"id": 1, "note": CANARY})
    session.execute(select(models.table.c.note)).all()
    keys = [m["key"] for m in json.loads((tmp_path / "keys.json").read_text())["materials"]]
    sealing = list(keyring._sealing._entries.values())
    opening = list(keyring._opening._entries.values())
    shown = repr(
        [
            keyring,
            kms,
            Sealed(b"abc"),
            Encrypted(models.table.c.note.type.inner),
            sealing,
            opening,
            [k.cipher for k in sealing],
            vars(keyring),
        ]
    )
    assert CANARY not in shown
    assert not [key for key in keys if key in shown]
    generated = kms.generate_data_key({"a": "b"})
    assert bytes(generated.plaintext).hex() not in repr(generated)
    assert repr(bytes(generated.plaintext)) not in repr(generated)


def test_a_keyring_is_not_pickled(keyring):
    """A pickle would carry data keys to disk or to another machine."""
    import pickle

    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(keyring)


def test_the_data_key_is_overwritten_once_derived(local_kms):
    """Best effort: the buffer that we own does not stay filled."""
    given = []

    class Watched:
        def resolve(self):
            return local_kms.resolve()

        def generate_data_key(self, context):
            made = local_kms.generate_data_key(context)
            given.append(made.plaintext)
            return made

        def unwrap(self, wrapped, context, *, key_arn):
            return local_kms.unwrap(wrapped, context, key_arn=key_arn)

        def rewrap(self, wrapped, context, *, key_arn, new_context=None):
            return local_kms.rewrap(wrapped, context, key_arn=key_arn, new_context=new_context)

    Keyring(Watched()).seal_many((("a", "b"),), 1, b"", [b""], [b"x"])
    assert given == [bytearray(32)]


def test_an_in_memory_database_holds_no_plaintext(keyring, models, tmp_path):
    """The file as a thief of the backup sees it."""
    engine = create_engine(f"sqlite:///{tmp_path / 'theft.db'}")
    models.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(models.Ping(id=1, note=CANARY, position=[CANARY], secret=CANARY))
        session.commit()
    engine.dispose()
    assert CANARY.encode() not in (tmp_path / "theft.db").read_bytes()
