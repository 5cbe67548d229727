"""``kmsenv policy``: what is printed, and what is refused."""

import json
import re

import pytest

from sqlalchemy_kmsenv.access import MANAGED_CHARACTERS, size_of
from sqlalchemy_kmsenv.testing import KmsServer, clients
from tests.cli.streams import run_apart

KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
FORMER = KEY.replace("1234abcd", "abcd1234")
ABOUT = ("--metadata", "tests.cli.models:Base", "--keyring", f"aws-kms:///{KEY}")


def run(*options, about=ABOUT):
    """The command, in this process."""
    return run_apart("policy", *about, *options)


def test_printed_policy_is_evaluated_as_it_is_printed():
    """From the command line to the refusal, with nothing in between."""
    with KmsServer() as server:
        key = server.create_key().arn
        printed = run("--role", "reader", "--key", key, "--column", "cli_pings.note").stdout
        client = clients.client(server, server.create_principal("reader", printed))
        root = clients.client(server)

        def opened(**context):
            blob = root.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)[
                "CiphertextBlob"
            ]
            return client.decrypt(CiphertextBlob=blob, KeyId=key, EncryptionContext=context)

        own = {"kmsenv:table": "cli_pings", "kmsenv:column": "note"}
        assert opened(**own)["KeyId"] == key
        for other in ({**own, "kmsenv:column": "position"}, {**own, "a": "b"}, {}):
            with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
                opened(**other)


def test_key_comes_from_the_keyring_where_it_is_named_by_arn():
    """No call is needed for it: the command works on a machine without credentials."""
    document = json.loads(run("--role", "writer").stdout)

    assert {statement["Resource"] for statement in document["Statement"]} == {KEY}
    assert "kms:DescribeKey" not in json.dumps(document)


def test_alias_needs_key_and_adds_describe_key():
    """A policy cannot name a key by its alias, and the reader has to look it up."""
    about = ("--metadata", "tests.cli.models:Base", "--keyring", "aws-kms:///alias/x?region=x-y-1")

    document = json.loads(run("--role", "reader", "--key", KEY, about=about).stdout)
    refused = run("--role", "reader", "--key", "alias/x", about=about)

    assert document["Statement"][-1]["Action"] == "kms:DescribeKey"
    assert refused.exit_code == 2
    assert "cannot name a key by its alias" in refused.stderr


def test_former_keys_follow_the_one_that_wraps():
    """A reader opens what either wrapped; a writer makes data keys with the first alone."""
    keys = ("--key", KEY, "--key", FORMER)

    reader = json.loads(run("--role", "reader", *keys).stdout)
    writer = json.loads(run("--role", "writer", *keys).stdout)

    assert reader["Statement"][0]["Resource"] == [KEY, FORMER]
    assert writer["Statement"][0]["Resource"] == KEY


def test_replicas_are_named_for_those_who_use_them():
    """A reader without them fails when the key's own Region is down, and not before."""
    key = KEY.replace("1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-" + "0" * 32)
    about = (*ABOUT[:-1], f"aws-kms:///{key}?replica_regions=eu-west-1")
    both = [key, key.replace("eu-central-1", "eu-west-1")]

    def resources(role):
        printed = json.loads(run("--role", role, about=about).stdout)
        found = [statement["Resource"] for statement in printed["Statement"]]
        assert found, "a policy that allows nothing says nothing of resources"
        return found

    for role in ("reader", "auditor"):
        assert all(found == both for found in resources(role)), role
    for role in ("writer", "rewrap"):
        assert all(found == key for found in resources(role)), role


def test_names_beyond_latin_1_are_printed_as_iam_takes_them():
    """CreatePolicy refuses a document with other characters, and counts the escaped ones."""
    about = ("--metadata", "tests.cli.models:Abroad", *ABOUT[2:])

    printed = run("--role", "reader", about=about).stdout
    document = json.loads(printed)

    # The pattern of PolicyDocument in the API reference of IAM.
    assert re.fullmatch("[\u0009\u000a\u000d\u0020-\u00ff]+", printed)
    assert size_of({"ж": 1}) == len(r'{"\u0436":1}')
    assert "платежи" in document["Statement"][0]["Condition"]["StringEquals"].values()
    with KmsServer() as server:
        key = server.create_key().arn
        own = {"kmsenv:table": "платежи", "kmsenv:column": "заметка"}
        policy = run("--role", "writer", "--key", key, about=about).stdout
        writer = clients.aws_kms(server, key, server.create_principal("writer", policy))
        assert writer.generate_data_key(own).key_arn == key


def test_scope_value_narrows_the_policy():
    """One role for each tenant."""
    document = json.loads(run("--role", "reader", "--scope-value", "tenant=acme").stdout)

    assert '"kms:EncryptionContext:tenant": "acme"' in json.dumps(document)


def test_long_policy_is_a_list_of_shorter_ones():
    """And says so, beside the JSON and not inside of it."""
    values = [f"--scope-value=tenant=tenant-with-a-long-name-{n:04}" for n in range(120)]

    short = run("--role", "rewrap", *values, "--key", KEY)
    several = run("--role", "rewrap", *values, "--key", KEY, "--key", FORMER)

    assert isinstance(json.loads(short.stdout), dict)
    documents = json.loads(several.stdout)
    assert len(documents) > 1
    assert all(size_of(document) <= MANAGED_CHARACTERS for document in documents)
    assert "Attach each to the same role" in several.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--role", "admin"), "admin"),
        (("--role", "reader", "--key", "arn:aws:kms:*:*:key/*"), "no other key"),
        (("--role", "reader", "--key", f"default={KEY[:-1]}?"), "no other key"),
        (("--role", "reader", "--scope-value", "tenant"), "not like COLUMN=VALUE"),
        (("--role", "reader", "--scope-value", "planet=mars"), "is not a scope column"),
        (("--role", "reader", "--column", "cli_pings.nothing"), "is not an encrypted column"),
    ],
)
def test_what_cannot_be_is_refused_with_exit_code_2(options, words):
    """Nothing is printed that somebody could paste."""
    result = run(*options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
