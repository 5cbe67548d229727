"""Single values: bare AES-GCM, this library, and the engines of other SQLAlchemy libraries."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from advanced_alchemy.types.encrypted_string import FernetBackend
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from sqlalchemy import String
from sqlalchemy.dialects import sqlite
from sqlalchemy_utils.types.encrypted.encrypted_type import (
    AesGcmEngine,
    FernetEngine,
    StringEncryptedType,
)

from benchmarks import report
from benchmarks.subject import ASSOCIATED_DATA, BATCH, EncryptedColumn, bare_seal, text
from benchmarks.timing import Samples, interleave, settle, timed

SIZES = (16, 64, 1024, 65_536)
JUDGED_SIZE = 64
SEAL_TARGET, OPEN_TARGET, PEER_TARGET = 1.75, 3.0, 3.0

BARE, OURS = "bare AESGCM", "sqlalchemy-kmsenv"
_SMALL = 4096
_BATCHES_OF_SMALL = 10

Work = Callable[[], object]


def run(console: Console, rounds: int, directory: Path) -> None:
    column = EncryptedColumn(directory)
    peers = _peers()
    times = report.table("Single values", "size, operation", BARE, OURS, *peers)
    ratios = report.table(
        f"Single values: ratios (targets are for {JUDGED_SIZE} bytes)",
        "size, operation", "ratio", "measured", "target", "reached",
    )  # fmt: skip
    for size in SIZES:
        for operation, works in _works(size, column, peers).items():
            measured = _measure(rounds, size, works)
            label = f"{size:,} B {operation}"
            times.add_row(label, *map(report.seconds, measured.values()))
            judged = size == JUDGED_SIZE
            target = SEAL_TARGET if operation == "seal" else OPEN_TARGET
            against_bare = measured[OURS].over(measured[BARE])
            ratios.add_row(
                label, "ours / bare", report.ratio(against_bare),
                *report.at_most(against_bare.median, target if judged else None),
            )  # fmt: skip
            fastest = min(peers, key=lambda name: measured[name].median)
            against_peer = measured[fastest].over(measured[OURS])
            ratios.add_row(
                label, f"{fastest} / ours", report.ratio(against_peer),
                *report.at_least(against_peer.median, PEER_TARGET if judged else None),
            )  # fmt: skip
    report.show(console, times)
    report.show(console, ratios)


def _peers() -> dict[str, Any]:
    """Objects with ``encrypt`` and ``decrypt``, their keys set: less than their types do."""
    engines: dict[str, Any] = {}
    for name, engine in (("SQLA-Utils AesGcm", AesGcmEngine), ("SQLA-Utils Fernet", FernetEngine)):
        column_type = StringEncryptedType(String, "a passphrase", engine)
        column_type.process_bind_param("sets the key", sqlite.dialect())
        engines[name] = column_type.engine
    backend = FernetBackend()
    backend.mount_vault("a passphrase")
    engines["advanced-alchemy Fernet"] = backend
    return engines


def _works(size: int, column: EncryptedColumn, peers: dict[str, Any]) -> dict[str, dict[str, Work]]:
    keys = list(range(1, BATCH + 1))
    values = [text(size) for _ in keys]
    payloads = [value.encode() for value in values]
    aead = AESGCM(os.urandom(32))
    nonce = os.urandom(12)
    opaque = [aead.encrypt(nonce, payload, ASSOCIATED_DATA) for payload in payloads]
    packed = column.packed(keys, values)
    seal: dict[str, Work] = {
        BARE: partial(bare_seal, aead.encrypt, payloads),
        OURS: partial(column.seal, keys, values),
    }
    open_: dict[str, Work] = {
        BARE: lambda: [aead.decrypt(nonce, value, ASSOCIATED_DATA) for value in opaque],
        OURS: partial(_each, column.open, packed),
    }
    for name, engine in peers.items():
        seal[name] = partial(_each, engine.encrypt, values)
        open_[name] = partial(_each, engine.decrypt, list(map(engine.encrypt, values)))
    return {"seal": seal, "open": open_}


def _each(function: Callable[[Any], Any], values: list[Any]) -> list[Any]:
    return [function(value) for value in values]


def _measure(rounds: int, size: int, works: dict[str, Work]) -> dict[str, Samples]:
    batches = _BATCHES_OF_SMALL if size <= _SMALL else 1

    def per_value(work: Work) -> float:
        return sum(timed(work) for _ in range(batches)) / (batches * BATCH)

    for work in works.values():
        work()
    settle()
    return interleave(rounds, {name: partial(per_value, work) for name, work in works.items()})
