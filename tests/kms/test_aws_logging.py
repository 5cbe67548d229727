"""What is logged at DEBUG while a data key passes through boto3."""

import base64
import logging

from sqlalchemy_kmsenv.kms.aws_logging import bodies_unlogged
from sqlalchemy_kmsenv.testing import KmsServer, aws_kms, client


def logged(caplog):
    """Everything that any logger was told, arguments included."""
    return "\n".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)


def test_no_data_key_reaches_a_debug_log(caplog):
    """Somebody turns DEBUG on to see why a call fails, and keeps the log."""
    caplog.set_level(logging.DEBUG)
    with KmsServer() as server:
        key = server.create_key()
        plain = client(server)
        kms = aws_kms(server, key.arn)
        made = kms.generate_data_key({"a": "b"})
        data_key = bytes(made.plaintext)
        opened = bytes(kms.unwrap(made.wrapped, {"a": "b"}, key_arn=key.arn))
        ours = logged(caplog)
        caplog.clear()
        plain.describe_key(KeyId=key.arn)
        others = logged(caplog)

    assert opened == data_key
    assert "botocore" in {record.name.partition(".")[0] for record in caplog.records}
    for form in (base64.b64encode(data_key).decode(), data_key.hex(), repr(data_key)[2:-1]):
        assert form not in ours
    # Whatever else the application does with boto3 is logged as ever.
    assert "Response body" not in ours
    assert "Response body" in others


def test_the_filter_is_there_again_after_logging_was_configured_anew():
    """dictConfig() takes filters off."""
    logger = logging.getLogger("botocore.parsers")
    logger.filters.clear()
    record = logging.LogRecord("botocore.parsers", 10, "", 0, "Response body:\n%r", (b"x",), None)
    with bodies_unlogged():
        assert not logger.filter(record)
    assert logger.filter(record)
