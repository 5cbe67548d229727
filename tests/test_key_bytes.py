"""No exception that leaves the library leads to the bytes of a key."""

import base64
import copy
import json
import os
import pickle
from dataclasses import replace

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert, select

from sqlalchemy_kmsenv import (
    AuditError,
    AwsKms,
    Encrypted,
    Keyring,
    KeyServiceError,
    KmsEnvError,
    LocalKms,
    attach_keyrings,
)
from sqlalchemy_kmsenv.aead import ValueCipher, WrappingCipher
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.kms import CountingKms, GeneratedDataKey
from sqlalchemy_kmsenv.testing import KmsServer, aws_kms
from tests.key_bytes import found_in
from tests.kms.aws_stub import Answer, running_stub, session

PAIRS = (("kmsenv:column", "note"), ("kmsenv:table", "pings"))
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PLAINTEXT = bytes(range(64, 96))


def flipped(content, at):
    """The same bytes with one bit changed."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def seal(keyring):
    """One envelope."""
    return bytes(keyring.seal_many(PAIRS, 2, b"prefix", [b"i1:"], [b"value"])[0])


def altered(reference):
    """References that do not unwrap, one for each of their parts that is altered."""
    for at in (0, 5, 20, 60, len(reference.wrapped) - 1):
        yield replace(reference, wrapped=flipped(reference.wrapped, at))
    yield replace(reference, wrapped=b"short")
    yield replace(reference, commitment=flipped(reference.commitment, 3))
    yield replace(reference, fingerprint=flipped(reference.fingerprint, 3))


def refusals(*calls):
    """What each of these calls raises."""
    for call in calls:
        with pytest.raises(KmsEnvError) as caught:
            call()
        yield caught.value


def failures_of(kms):
    """What a keyring of ``kms`` raises wherever a data key passes, with its data key in use."""
    refused: set[str] = set()

    def refuse(use):
        if use.operation in refused:
            raise OSError

    keyring = Keyring(kms, audit=refuse)
    envelope = seal(keyring)
    reference = parse_header(envelope).reference
    keyring.opening_key(PAIRS, reference)
    for bad in altered(reference):
        yield from refusals(lambda bad=bad: keyring.opening_key(PAIRS, bad))
        if bad.commitment == reference.commitment:
            yield from refusals(lambda bad=bad: keyring.would_open(PAIRS, bad))
    other = (("kmsenv:table", "other"),)
    yield from refusals(
        lambda: keyring.opening_key(other, reference),
        lambda: keyring.rewrap(other, reference),
        lambda: kms.rewrap(
            reference.wrapped, dict(PAIRS), key_arn=kms.resolve(), new_context={"a": 5}
        ),
        lambda: kms.unwrap(reference.wrapped, {"a": 5}, key_arn=kms.resolve()),
        lambda: kms.generate_data_key({"a": 5}),
    )
    for operation in ("generate", "unwrap", "rewrap", "open", "seal"):
        keyring.forget()
        refused.clear()
        refused.add(operation)
        (error,) = refusals(
            lambda: (
                seal(keyring),
                keyring.opening_key(PAIRS, reference),
                keyring.rewrap(PAIRS, reference),
                keyring.clock_for_opening(PAIRS, reference),
            )
        )
        assert isinstance(error, AuditError)
        yield error


class KeepingError(Exception):
    """One that refers to something."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept


def test_what_is_reachable_is_found():
    """A search that finds nothing proves nothing unless it finds what is there."""
    text = base64.b64encode(PLAINTEXT).decode()
    for kept in ([PLAINTEXT], {"a": (text,)}, lambda: text, Answer({"b": bytearray(PLAINTEXT)})):
        assert found_in(KeepingError(kept), [PLAINTEXT])
    assert not found_in(KeepingError((ValueCipher(PLAINTEXT), b"other")), [PLAINTEXT])


@pytest.fixture
def drawn(monkeypatch):
    """Every 32 bytes that the system gave at random: keys, material and ids of both."""
    draws = []
    urandom = os.urandom

    def recorded(size):
        draws.append(urandom(size))
        return draws[-1]

    monkeypatch.setattr(os, "urandom", recorded)
    return draws


def keys_of(path, drawn):
    """The key material in a file, and all that was drawn and is not the id of material."""
    materials = json.loads(path.read_text())["materials"]
    ids = {each["id"] for each in materials}
    keys = {base64.b64decode(each["key"]) for each in materials}
    return keys | {draw for draw in drawn if len(draw) == 32 and draw.hex() not in ids}


def test_no_failure_of_a_local_key_leads_to_key_bytes(tmp_path, drawn):
    """One altered byte of one cell would hand the key of everything to a crash reporter."""
    path = tmp_path / "k.json"
    kms = LocalKms.create(path)
    kms.rotate()
    errors = [*failures_of(kms)]
    kms.disable()
    errors += refusals(lambda: seal(Keyring(kms)), kms.rotate)
    secrets = keys_of(path, drawn)
    assert len(errors) > 20
    assert len(secrets) >= 4
    for error in errors:
        assert not found_in(error, secrets)


def file_failures(path):
    """What goes wrong with a key file, each on a file that holds a key."""
    (path.parent / f"{path.name}.new").mkdir()
    kms = LocalKms(path)
    other = path.with_name("other.json")
    (path.parent / "other.json.new").mkdir()
    yield from refusals(kms.rotate, kms.disable, lambda: LocalKms.create(other))
    (path.parent / f"{path.name}.new").rmdir()
    yield from refusals(lambda: LocalKms.create(path))
    content = path.read_text()
    for damage in (content + "x", content[:-3], content.replace('"key"', '"kez"')):
        path.write_text(damage)
        yield from refusals(lambda: LocalKms(path), kms.rotate, kms.resolve)
    path.write_text(content)
    path.chmod(0o644)
    yield from refusals(kms.rotate)


def test_no_failure_of_a_key_file_leads_to_key_bytes(tmp_path, drawn):
    """A full disk is reported with the frames that were writing the keys."""
    path = tmp_path / "k.json"
    LocalKms.create(path).rotate()
    errors = [*file_failures(path)]
    # Of each material its id is drawn first, then its key; not all of it reached the file.
    keys = [draw for draw in drawn if len(draw) == 32][1::2]
    assert keys_of(path, []) < set(keys)
    for error in errors:
        assert not found_in(error, keys)


def test_an_altered_cell_leads_to_no_key_bytes(tmp_path, drawn):
    """The whole way of a SELECT, with the frames of SQLAlchemy, after values were opened."""
    path = tmp_path / "k.json"
    metadata = MetaData()
    table = Table(
        "pings", metadata,
        Column("id", Integer, primary_key=True), Column("note", Encrypted(String)),
    )  # fmt: skip
    keyring = Keyring(LocalKms.create(path))
    attach_keyrings(metadata, keyring)
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": 1, "note": "a"}, {"id": 2, "note": "b"}])
        raw = connection.exec_driver_sql("SELECT note FROM pings WHERE id = 2").scalar_one()
        size = parse_header(raw).size
        for at in (4, 30, 60, 120, size - 1, size + 3, len(raw) - 1):
            connection.exec_driver_sql(
                "UPDATE pings SET note = ? WHERE id = 2", (flipped(raw, at),)
            )
            with pytest.raises(KmsEnvError) as caught:
                connection.execute(select(table.c.note)).all()
            assert not found_in(caught.value, keys_of(path, drawn))


def test_no_failure_of_aws_leads_to_key_bytes():
    """Data keys pass through boto3, whose frames and errors hold what it was parsing."""
    with KmsServer() as server:
        key = server.create_key()
        kms = aws_kms(server, key.arn)
        opened = []

        class Spy(CountingKms):
            def generate_data_key(self, context):
                made = super().generate_data_key(context)
                opened.append(bytes(made.plaintext))
                return made

        errors = [*failures_of(Spy(kms))]
    assert opened
    assert len(errors) > 15
    for error in errors:
        assert not found_in(error, opened)


B64 = base64.b64encode(PLAINTEXT).decode()
ANSWER = {"Plaintext": B64, "CiphertextBlob": "d3JhcHBlZA==", "KeyId": ARN}
BROKEN = {
    "not JSON": json.dumps(ANSWER)[:-1].encode(),
    "not UTF-8": json.dumps(ANSWER).encode() + b"\xff",
    "another key": {**ANSWER, "KeyId": ARN[:-1] + "c"},
    "no base64": {**ANSWER, "CiphertextBlob": "a"},
    "too long": {**ANSWER, "Plaintext": base64.b64encode(PLAINTEXT * 2).decode()},
    "a list": [ANSWER],
    "no text": {**ANSWER, "KeyId": 7},
    "no object": json.dumps(B64).encode(),
}


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_no_broken_answer_of_aws_leads_to_key_bytes(answer, status):
    """What stands at the endpoint may be a proxy that damages answers."""
    with running_stub() as stub:
        kms = AwsKms(ARN, endpoint_url=stub.url, session=session(), max_attempts=1)
        stub.answer = Answer(answer, status)
        errors = [*refusals(lambda: kms.generate_data_key({"a": "b"}))]
        try:
            kms.unwrap(b"wrapped", {"a": "b"}, key_arn=ARN)
        except KmsEnvError as refused:
            errors.append(refused)
    for error in errors:
        assert not found_in(error, [PLAINTEXT])


def test_a_data_key_of_another_length_is_nowhere_afterwards(tmp_path):
    """A third party's KMS may be wrong; what it gave is still a secret."""
    short = b"sixteen bytes..."

    class ShortKms(CountingKms):
        def generate_data_key(self, context):
            made = super().generate_data_key(context)
            return GeneratedDataKey(bytearray(short), made.wrapped, made.key_arn, None)

    with pytest.raises(KeyServiceError) as caught:
        seal(Keyring(ShortKms(LocalKms.create(tmp_path / "k.json"))))
    assert not found_in(caught.value, [short])


KINDS = [bytes, bytes.hex, lambda key: memoryview(key).toreadonly(), lambda key: [key]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_data_key_of_another_type_is_nowhere_afterwards(tmp_path, kind):
    """What cannot be overwritten is refused, and no frame keeps it."""

    class OtherKms(CountingKms):
        def generate_data_key(self, context):
            made = super().generate_data_key(context)
            return replace(made, plaintext=kind(PLAINTEXT))

        def unwrap(self, wrapped, context, *, key_arn):
            super().unwrap(wrapped, context, key_arn=key_arn)
            return kind(PLAINTEXT)

    key = LocalKms.create(tmp_path / "k.json")
    reference = parse_header(seal(Keyring(key))).reference
    keyring = Keyring(OtherKms(key))
    for error in refusals(
        lambda: seal(keyring),
        lambda: keyring.opening_key(PAIRS, reference),
        lambda: keyring.confirm(PAIRS, reference),
    ):
        assert isinstance(error, KeyServiceError)
        assert not found_in(error, [PLAINTEXT])


@pytest.mark.parametrize("answer", [None, (PLAINTEXT,), {"plaintext": PLAINTEXT}])
def test_an_answer_of_another_form_is_refused(tmp_path, answer):
    """Not by an AttributeError, with what it holds in the frames."""

    class OtherKms(CountingKms):
        def generate_data_key(self, context):
            return answer

    with pytest.raises(KeyServiceError, match="no GeneratedDataKey") as caught:
        seal(Keyring(OtherKms(LocalKms.create(tmp_path / "k.json"))))
    assert not found_in(caught.value, [PLAINTEXT])


def test_ciphers_show_no_key_and_are_not_pickled():
    """They are what frames refer to instead of keys."""
    for cipher in (ValueCipher(PLAINTEXT), WrappingCipher(PLAINTEXT)):
        assert repr(cipher) == f"<{type(cipher).__name__}>"
        with pytest.raises(TypeError, match="cannot be pickled"):
            cipher.__reduce__()


def test_a_data_key_that_was_unwrapped_is_not_shown_pickled_or_copied(tmp_path):
    """A cache or a log of the application's would keep it."""
    kms = LocalKms.create(tmp_path / "k.json")
    made = kms.generate_data_key({"a": "b"})
    data_key = kms.unwrap(made.wrapped, {"a": "b"}, key_arn=made.key_arn)

    assert data_key == made.plaintext
    assert f"{data_key!r} {data_key}" == " ".join(["<UnwrappedDataKey of 32 bytes>"] * 2)
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            take(data_key)
