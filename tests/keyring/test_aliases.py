"""An alias that moves to another KMS key, as a reader sees it that was there before."""

import pytest

from sqlalchemy_kmsenv import ConfigurationError, Keyring
from sqlalchemy_kmsenv.defaults import ALIAS_LOOKUP_SECONDS
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.testing import KmsServer, aws_kms, client
from tests.keyring.test_cache import PAIRS, Clock, seal


@pytest.fixture
def server():
    """A KMS with one key, which an alias names."""
    with KmsServer() as server:
        server.create_key(alias="alias/app")
        yield server


def opens(keyring, envelope):
    """Whether the keyring has a data key for it."""
    return keyring.opening_key(PAIRS, parse_header(envelope).reference).usable()


def test_a_reader_follows_an_alias_that_moved(server):
    """A key is replaced by moving its alias, and no process is restarted for that."""
    clock = Clock()
    reader = Keyring(aws_kms(server, "alias/app"), clock=clock)
    [old] = seal(Keyring(aws_kms(server, "alias/app")), b"x")
    assert opens(reader, old)
    moved_to = server.create_key()
    client(server).update_alias(AliasName="alias/app", TargetKeyId=moved_to.arn)
    [new] = seal(Keyring(aws_kms(server, "alias/app")), b"x")

    assert opens(reader, new)
    assert opens(reader, old)


def test_envelopes_under_unknown_keys_do_not_make_a_call_each(server):
    """Whoever can write to the table can make up fingerprints."""
    clock = Clock()
    reader = Keyring(aws_kms(server, "alias/app"), clock=clock)
    foreign = [seal(Keyring(aws_kms(server, server.create_key().arn)), b"x")[0] for _ in range(5)]
    reader.key_arns()

    with server.expect(describe_key=1):
        for envelope in foreign:
            with pytest.raises(ConfigurationError, match="does not list"):
                opens(reader, envelope)
    clock.now += ALIAS_LOOKUP_SECONDS
    with server.expect(describe_key=1), pytest.raises(ConfigurationError, match="does not list"):
        opens(reader, foreign[0])
