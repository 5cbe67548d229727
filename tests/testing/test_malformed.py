"""Requests that no client sends: no hang, no traceback, no 500."""

import base64
import json
import logging
import socket
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sqlalchemy_kmsenv.testing import KmsServer, service_model
from sqlalchemy_kmsenv.testing.operations import OPERATIONS

READ_SECONDS = 0.2
WAIT_SECONDS = 5
FUZZED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def server():
    """A server that does not wait long for the rest of a request."""
    with KmsServer(read_seconds=READ_SECONDS) as server:
        server.create_key(alias="alias/x")
        yield server


@pytest.fixture(autouse=True)
def no_traceback(caplog, capfd):
    """Whatever comes, the server must not fail inside."""
    caplog.set_level(logging.WARNING)
    yield
    assert caplog.records == []
    assert capfd.readouterr().err == ""


def sign(server, **changes):
    """An Authorization header as boto3 writes it, or nearly."""
    parts = {
        "algorithm": "AWS4-HMAC-SHA256",
        "key": server.root.access_key_id,
        "scope": "20260101/eu-central-1/kms/aws4_request",
        "signature": "0" * 64,
    } | changes
    return (
        f"{parts['algorithm']} Credential={parts['key']}/{parts['scope']}, "
        f"SignedHeaders=host;x-amz-date;x-amz-target, Signature={parts['signature']}"
    )


def send(server, raw):
    """Everything that comes back on a connection of its own until the server is done."""
    host, port = server.url.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except (ConnectionResetError, BrokenPipeError):
            # Refused before all was read.
            pass
    return answer


def post(
    server, body, *, target="TrentService.ListKeys", authorization=None, length=None, extra=b""
):
    """One POST; ``extra`` are further header lines."""
    head = (
        f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: {target}\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n"
    )
    signature = sign(server) if authorization is None else authorization
    signed = f"Authorization: {signature}\r\n" if signature else ""
    raw = head.encode("latin-1", "replace") + signed.encode("latin-1", "replace")
    return send(server, raw + extra + b"\r\n" + body)


def status(answer):
    """The status of an answer; None where there was none."""
    return int(answer.split(b" ", 2)[1]) if answer else None


def code(answer):
    """The error code of an answer."""
    return json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}").get("__type")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
BUILT = sorted(OPERATIONS.keys() & service_model.operations())


def named(draw_value):
    """A JSON object with the parameter names of an operation and any values."""

    @st.composite
    def make(draw):
        operation = draw(st.sampled_from(BUILT))
        shape = service_model.service_model().operation_model(operation).input_shape
        names = sorted(shape.members) if shape is not None else []
        names = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        return operation, {name: draw(draw_value) for name in names}

    return make()


LIKELY = JSON | st.sampled_from(
    ["alias/x", "alias/none", "", "x" * 3000, "AES_256", "\ud800", "AAAA", "=", {"a": "b"},
     {"a": 1}, ["t"], True, 32, -1, 10**30, base64.b64encode(b"x" * 200).decode()]
)  # fmt: skip


@FUZZED
@given(call=named(LIKELY))
def test_parameters_of_any_kind_are_answered(server, call):
    """Each is carried out or refused with a code; none is a fault of the server."""
    operation, parameters = call
    body = json.dumps(parameters).encode()

    answer = post(server, body, target=f"TrentService.{operation}")

    assert status(answer) in {200, 400}
    assert status(answer) == 200 or code(answer)


@FUZZED
@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"{")
@example(b"\xff\xfe")
@example(b"[" * 20_000)
@example(b'{"Limit": NaN}')
@example(b'{"Limit": 1e999}')
@example(b"null")
def test_bodies_of_any_kind_are_answered(server, body):
    """What is no JSON object is a SerializationException."""
    answer = post(server, body)

    assert status(answer) in {200, 400}
    assert status(answer) == 200 or code(answer) in {
        "SerializationException", "ValidationException", "InvalidMarkerException",
    }  # fmt: skip


@FUZZED
@given(
    target=st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=60)
    | st.sampled_from(["TrentService.", "TrentService.Nothing", "Other.Decrypt", "Decrypt", "."])
)
def test_targets_of_any_kind_are_answered(server, target):
    """An operation that is none."""
    answer = post(server, b"{}", target=target)

    assert code(answer) in {"UnknownOperationException", "UnsupportedOperationException"}
    assert status(answer) == 400


@FUZZED
@given(
    authorization=st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=80)
)
@example("")
@example("AWS4-HMAC-SHA256 Credential=, SignedHeaders=, Signature=")
@example("Basic dTpw")
def test_signatures_of_any_kind_are_answered(server, authorization):
    """Who signs with nonsense is nobody."""
    answer = post(server, b"{}", authorization=authorization)

    assert status(answer) == 400
    assert code(answer) in {"IncompleteSignatureException", "MissingAuthenticationTokenException"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key": "AKIASTRANGER"}, "UnrecognizedClientException"),
        ({"scope": "20260101/eu-central-1/s3/aws4_request"}, "IncompleteSignatureException"),
        ({"signature": "zz"}, "IncompleteSignatureException"),
        ({"algorithm": "AWS4-ECDSA-P256-SHA256"}, "IncompleteSignatureException"),
    ],
)
def test_a_signature_must_be_one_for_kms(server, changes, expected):
    """Not verified, but read."""
    assert code(post(server, b"{}", authorization=sign(server, **changes))) == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [("-1", 411), ("x", 411), ("", 411), ("1e3", 411), ("²", 411), ("9" * 30, 413),
     ("1048577", 413)],
)  # fmt: skip
def test_an_impossible_length_is_refused(server, length, expected):
    """Before anything is read."""
    assert status(post(server, b"{}", length=length)) == expected


def test_a_chunked_body_is_refused(server):
    """KMS clients send a length."""
    answer = post(server, b"2\r\n{}\r\n0\r\n\r\n", extra=b"Transfer-Encoding: chunked\r\n")

    assert status(answer) == 411


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"\r\n\r\n", None),
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/9.9\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"POST /" + b"y" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"", None),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ends(server, raw, expected):
    """A TLS client, a scanner, a header without end."""
    answer = send(server, raw)

    # Where much is left unread, the reset may overtake the answer.
    assert status(answer) in ({expected, None} if len(raw) > 60_000 else {expected})


def test_a_body_that_stops_is_given_up(server):
    """The client has hung up in the middle."""
    assert post(server, b"{", length=100) == b""


def test_a_body_that_never_comes_is_given_up_in_time(server):
    """The client stays connected and says nothing: the read time-out ends it."""
    host, port = server.url.removeprefix("http://").split(":")
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        answer = b""
        while part := connection.recv(65536):
            answer += part

    assert status(answer) == 408
    # Not at once either; and not never, or the socket's own time-out had raised.
    assert time.monotonic() - began >= READ_SECONDS


def test_a_client_that_leaves_before_the_answer_is_no_news(server):
    """Its reset must not reach standard error."""
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" * 10)

    assert status(post(server, b"{}")) == 200


def test_a_connection_carries_many_requests(server):
    """Also after a refusal: only what cannot be read ends it."""
    request = (
        f"POST / HTTP/1.1\r\nX-Amz-Target: TrentService.Nothing\r\nContent-Length: 2\r\n"
        f"Authorization: {sign(server)}\r\n\r\n{{}}"
    )

    assert send(server, request.encode() * 3).count(b"UnknownOperationException") == 3
