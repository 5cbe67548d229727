"""A server that answers AssumeRole with credentials of whatever lifetime a test wants."""

import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

_GIVEN = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleResult><AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId><Arn>{arn}</Arn>
</AssumedRoleUser><Credentials><AccessKeyId>{key}</AccessKeyId>
<SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult>
<ResponseMetadata><RequestId>sts-request</RequestId></ResponseMetadata></AssumeRoleResponse>"""
_DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>
<Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>
<RequestId>sts-request</RequestId></ErrorResponse>"""


class StsStub:
    """Gives an access key of another name at each call, and keeps the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.lifetime_seconds = 3600
        self.denies = False
        self.requests: list[dict[str, str]] = []


@contextmanager
def running_sts() -> Iterator[StsStub]:
    """An ``StsStub`` on a free port of the loopback interface."""
    stub = StsStub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked = {name: values[0] for name, values in parse_qs(body).items()}
            asked["user agent"] = self.headers["User-Agent"]
            stub.requests.append(asked)
            now = datetime.datetime.now(datetime.UTC)
            given = _GIVEN.format(
                arn="arn:aws:sts::111122223333:assumed-role/reader/x",
                key=f"ASIAROLE{len(stub.requests)}",
                expiration=(now + datetime.timedelta(seconds=stub.lifetime_seconds)).isoformat(),
            )
            content = (_DENIED if stub.denies else given).encode()
            self.send_response(403 if stub.denies else 200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
