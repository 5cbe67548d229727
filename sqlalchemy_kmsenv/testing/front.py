"""The HTTP front: JSON 1.1 as KMS speaks it, over the standard library's server."""

from __future__ import annotations

import base64
import json
import logging
import select
import socket
import struct
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from uuid import uuid4

from sqlalchemy_kmsenv.testing.refusals import Refusal
from sqlalchemy_kmsenv.testing.service import Request, Service
from sqlalchemy_kmsenv.testing.weather import Fault, Outlook

_LOG = logging.getLogger("sqlalchemy_kmsenv.testing")
_MOST_BYTES = 1 << 20
"""Far above the longest request that the API model allows but for CreateKey's policy."""
_IDLE_SECONDS = 60.0
_POLL_SECONDS = 0.05


class Front(ThreadingHTTPServer):
    """Serves one ``Service`` on an address; a thread for each connection."""

    daemon_threads = True
    block_on_close = False
    # The default of 5 drops connections of threads that start at once; they time out.
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: Service, read_seconds: float) -> None:
        self.service = service
        self.read_seconds = read_seconds
        self.closing = threading.Event()
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, and remember it meanwhile."""
        self._connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.discard(request)

    def stop(self) -> None:
        """End serving, and every connection with it."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        for connection in tuple(self._connections):
            _reset(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; log anything else."""
        _LOG.debug("a connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "kmsenv"
    sys_version = ""
    timeout = _IDLE_SECONDS
    # Head and body leave in one packet.
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def front(self) -> Front:
        return cast("Front", self.server)

    def do_POST(self) -> None:
        """Answer one request."""
        self.request_id = str(uuid4())
        content = self._content()
        if content is None:
            return
        request = Request(
            target=self.headers.get("X-Amz-Target", ""),
            authorization=self.headers.get("Authorization", ""),
            body=lambda: _parsed(content),
            request_id=self.request_id,
        )
        outlook = self.front.service.outlook(request.target)
        # An event, not a sleep: closing the server ends the wait.
        self.front.closing.wait(outlook.delay_seconds)
        if outlook.fault in {Fault.TIMEOUT, Fault.RESET}:
            self.front.service.lose(request, outlook)
            self._never_answer(outlook)
            return
        self._send(request, outlook)

    def _send(self, request: Request, outlook: Outlook) -> None:
        try:
            status, members = HTTPStatus.OK, self.front.service.answer(request, outlook)
        except Refusal as refusal:
            status, members = refusal.status, _body_of(refusal)
        except Exception:  # noqa: BLE001 - logged with its traceback; the client must get an answer
            _LOG.exception("an operation failed: %s", request.target)
            fault = Refusal("InternalFailure", "This server has a fault; its log has more.")
            status, members = fault.status, _body_of(fault)
        if outlook.fault is Fault.LOST_ANSWER:
            self._never_answer(outlook)
            return
        self._write(status, members)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no HTTP request that KMS takes, in JSON too."""
        self.close_connection = True
        self.request_id = str(uuid4())
        # Else a request line that cannot be read would be answered without a status line.
        self.request_version = self.protocol_version
        # Not ``message``: it repeats what was sent.
        refusal = Refusal("SerializationException", HTTPStatus(code).phrase)
        self._write(HTTPStatus(code), _body_of(refusal))

    def _write(self, status: HTTPStatus, members: Mapping[str, Any]) -> None:
        content = json.dumps(members, default=_encoded).encode() if members else b""
        self.send_response(status)
        self.send_header("x-amzn-RequestId", self.request_id)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _content(self) -> bytes | None:
        """The body; None where the request was refused or the client went away."""
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return None
        if len(length) > 9 or int(length) > _MOST_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        self.connection.settimeout(self.front.read_seconds)
        try:
            content = self.rfile.read(int(length))
        except TimeoutError:
            self.send_error(HTTPStatus.REQUEST_TIMEOUT)
            return None
        finally:
            self.connection.settimeout(_IDLE_SECONDS)
        if len(content) < int(length):
            self.close_connection = True
            return None
        return content

    def _never_answer(self, outlook: Outlook) -> None:
        self.close_connection = True
        if outlook.fault is Fault.TIMEOUT:
            # Until the client hangs up: then its end of the connection can be read.
            while not self.front.closing.is_set():
                if select.select([self.connection], [], [], _POLL_SECONDS)[0]:
                    break
        _reset(self.connection)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature
        """Keep standard error for what has gone wrong."""
        _LOG.debug(format, *args)


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal("SerializationException", "The request is not JSON.") from error


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _encoded(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(type(value))


def _body_of(refusal: Refusal) -> dict[str, str]:
    return {"__type": refusal.code, "message": refusal.message}


def _reset(connection: socket.socket) -> None:
    try:
        # To close with this option set sends a reset instead of an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        _LOG.debug("the client was gone already")
