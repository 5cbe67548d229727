"""1 MiB in a process of its own: an allocator that has grown hides the cost of copies."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from sqlalchemy import LargeBinary

from benchmarks import report
from benchmarks.subject import ASSOCIATED_DATA, EncryptedColumn
from benchmarks.timing import Samples, settle, timed

SIZE = 1 << 20
TARGET = 1.3
_REPETITIONS = 50


def run(console: Console, rounds: int) -> None:
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for name in ("bare", "ours") if number % 2 == 0 else ("ours", "bare"):
            for operation, taken in _in_fresh_process(name).items():
                found.setdefault(operation, {}).setdefault(name, []).append(taken)
    made = report.table(
        "1 MiB, each round in fresh processes",
        "operation", "bare AESGCM", "sqlalchemy-kmsenv", "ratio", "target", "reached",
    )  # fmt: skip
    for operation, by_name in found.items():
        bare, ours = (Samples(tuple(by_name[name])) for name in ("bare", "ours"))
        against = ours.over(bare)
        made.add_row(
            operation, report.seconds(bare), report.seconds(ours), report.ratio(against),
            *report.at_most(against.median, TARGET),
        )  # fmt: skip
    report.show(console, made)


def _in_fresh_process(name: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.large", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603  own module
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _bare() -> tuple[Callable[[], object], Callable[[], object]]:
    aead, payload, nonce = AESGCM(os.urandom(32)), os.urandom(SIZE), os.urandom(12)
    sealed = aead.encrypt(nonce, payload, ASSOCIATED_DATA)
    return (
        lambda: aead.encrypt(os.urandom(12), payload, ASSOCIATED_DATA),
        lambda: aead.decrypt(nonce, sealed, ASSOCIATED_DATA),
    )


def _ours(directory: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    column, payload = EncryptedColumn(directory, LargeBinary()), os.urandom(SIZE)
    (packed,) = column.packed([1], [payload])
    column.open(packed)
    return lambda: column.seal([1], [payload]), lambda: column.open(packed)


def main(name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        seal, open_ = _bare() if name == "bare" else _ours(Path(directory))
        settle()
        taken = {
            operation: statistics.median(timed(work) for _ in range(_REPETITIONS))
            for operation, work in (("seal", seal), ("open", open_))
        }
    print(json.dumps(taken))


if __name__ == "__main__":
    main(sys.argv[1])
