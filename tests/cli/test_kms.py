"""``kmsenv kms serve``, as a developer runs it."""

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from click.testing import CliRunner

from sqlalchemy_kmsenv.cli.main import main
from tests.testing.conftest import code_of

ONCE = Config(retries={"total_max_attempts": 1})


@contextmanager
def serving(*arguments):
    """The environment variables that a running server prints; Ctrl-C and silence at the end."""
    command = [sys.executable, "-m", "sqlalchemy_kmsenv.cli.main", "kms", "serve", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            lines = [server.stdout.readline() for _ in range(6)]
            yield dict(line.removeprefix("export ").strip().split("=", 1) for line in lines[1:])
        finally:
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=20)
    assert server.returncode == 0
    beyond = not {"127.0.0.1", "localhost", "::1"} & {*arguments} and "--host" in arguments
    assert ("Signatures are not verified" in errors) is beyond
    assert len(errors.splitlines()) == beyond


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104
def test_an_address_that_others_reach_is_warned_of(host):
    """Whoever reaches it may use and delete every key; a container is told 0.0.0.0 by habit."""
    with serving("--host", host) as environment:
        assert environment["AWS_ENDPOINT_URL_KMS"].startswith("http://")


def connect(environment, **changes):
    """A client as those variables make it."""
    values = {**environment, **changes}
    session = boto3.session.Session(
        values["AWS_ACCESS_KEY_ID"],
        values["AWS_SECRET_ACCESS_KEY"],
        region_name=values["AWS_REGION"],
    )
    return session.client("kms", endpoint_url=values["AWS_ENDPOINT_URL_KMS"], config=ONCE)


def test_a_served_key_is_used_and_kept(tmp_path):
    """Started, used with the printed variables, stopped by Ctrl-C, started again."""
    arguments = ["--directory", str(tmp_path / "kms"), "--alias", "alias/app"]
    with serving(*arguments) as environment:
        client = connect(environment)
        made = client.generate_data_key(KeyId="alias/app", KeySpec="AES_256")
        client.close()

    with serving(*arguments) as environment:
        client = connect(environment)
        opened = client.decrypt(CiphertextBlob=made["CiphertextBlob"], KeyId="alias/app")
        aliases = client.list_aliases()["Aliases"]
        client.close()

    assert opened["Plaintext"] == made["Plaintext"]
    assert len(aliases) == 1


def test_faults_and_principals_come_from_flags(tmp_path):
    """The same weather and policies as from Python."""
    policy = tmp_path / "policy.json"
    statement = {"Effect": "Allow", "Action": "kms:Describe*", "Resource": "*"}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    flags = ["--alias", "alias/app", "--principal", f"reader={policy}", "--seed", "3",
             "--fault", "GenerateDataKey=throttling:1", "--fault", "*=reset:0",
             "--latency", "*=0.001:0.001", "--quota", "Encrypt=1",
             "--lag", "aliases=0"]  # fmt: skip
    with serving(*flags) as environment:
        client = connect(environment)
        codes = [
            code_of(client.generate_data_key, KeyId="alias/app", KeySpec="AES_256"),
            code_of(client.describe_key, KeyId="alias/app"),
        ]
        client.close()
        from sqlalchemy_kmsenv.testing.principals import make_principal

        reader = make_principal("reader", "111122223333").environment()
        client = connect(environment, **reader)
        client.describe_key(KeyId="alias/app")
        with pytest.raises(ClientError, match="AccessDenied"):
            client.list_keys()
        client.close()

    assert codes == ["ThrottlingException", None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "Decrypt"], "write OP=KIND"),
        (["--fault", "Decrypt=snow"], "the fault 'snow' is unknown"),
        (["--fault", "Snow=internal"], "'Snow' is no operation"),
        (["--fault", "Decrypt=internal:often"], "'often' is no number"),
        (["--latency", "Decrypt=x"], "'x' is no number"),
        (["--quota", "Decrypt=0"], "must be above zero"),
        (["--lag", "rows=1"], "must begin with one of"),
        (["--principal", "reader=none.json"], "cannot be read"),
        (["--principal", "reader"], "write NAME=POLICY.json"),
        (["--host", "256.0.0.1"], "Error"),
    ],
)
def test_a_wrong_flag_is_explained(arguments, message):
    """One line and exit code 1, no traceback."""
    result = CliRunner().invoke(main, ["kms", "serve", *arguments])

    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_help_names_every_flag():
    """What ``docs/testing.md`` lists."""
    result = CliRunner().invoke(main, ["kms", "serve", "--help"])

    flags = set(re.findall(r"--[a-z-]+", result.output))
    assert {"--port", "--directory", "--seed", "--fault", "--latency", "--quota", "--lag"} <= flags
