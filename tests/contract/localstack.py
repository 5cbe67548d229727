"""LocalStack for the contract: ``python -m tests.contract.localstack PYTHON COMMAND ...``.

Starts the LocalStack of another Python on loopback, runs the command with
``KMSENV_TEST_LOCALSTACK_URL`` set, and exits as that does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_SECONDS = 120


@contextmanager
def running(python: str) -> Iterator[str]:
    """The URL of a LocalStack with nothing but KMS; it is gone afterwards, with its files."""
    with tempfile.TemporaryDirectory() as directory:
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        log = Path(directory) / "log"
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": directory,
            "TMPDIR": directory,
            "FILESYSTEM_ROOT": directory,
            "LOCALSTACK_VOLUME_DIR": str(Path(directory) / "volume"),
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_SERVER": "hypercorn",
            "SERVICES": "kms",
            # It would call home otherwise.
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
            # In a container too its files belong below the directory above.
            "OVERRIDE_IN_DOCKER": "0",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(Path(python).absolute()), "-m", "localstack.runtime.main"],
                env=environment, cwd=directory, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            _wait_for(url, process, log)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_localstack/health", timeout=2):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"LocalStack did not start:\n{log.read_text(errors='replace')[-4000:]}")


def main() -> int:
    """Start, run, stop."""
    python, *command = sys.argv[1:]
    with running(python) as url:
        environment = {**os.environ, "KMSENV_TEST_LOCALSTACK_URL": url}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
