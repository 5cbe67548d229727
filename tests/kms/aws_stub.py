"""A server that answers KMS requests with whatever a test wrote down."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3


@dataclass
class Answer:
    """One answer: JSON ``body`` with ``status``, after ``delay_seconds``."""

    body: dict[str, Any] | bytes = field(default_factory=dict)
    status: int = 200
    delay_seconds: float = 0


def error(code: str, status: int = 400) -> Answer:
    """An error answer as KMS sends it."""
    return Answer({"__type": code, "message": "no use may be made of this text"}, status)


@dataclass
class Request:
    operation: str
    body: dict[str, Any]
    client_port: int
    headers: dict[str, str]


class KmsStub:
    """Repeats ``answer`` and keeps every request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer = Answer()
        self.requests: list[Request] = []


@contextmanager
def running_stub() -> Iterator[KmsStub]:
    """A ``KmsStub`` on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            body = json.loads(self.rfile.read(length))
            headers = dict(self.headers.items())
            stub.requests.append(Request(operation, body, self.client_address[1], headers))
            self._send(stub.answer)

        def _send(self, answer: Answer) -> None:
            time.sleep(answer.delay_seconds)
            raw = answer.body
            content = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("x-amzn-RequestId", "request-7")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature
            pass

    class Server(ThreadingHTTPServer):
        # The default of 5 drops connections of threads that start at once; they time out.
        request_queue_size = 64
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    # A client that gave up waiting is no news.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    stub = KmsStub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def session() -> boto3.session.Session:
    """A session with credentials that no AWS account knows."""
    return boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-central-1"
    )
