"""A second process, which has sealed nothing, reads what the first one wrote."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy_kmsenv import Keyring, LocalKms, attach_keyrings
from tests.matrix.axes import Design
from tests.matrix.lanes import LANES, Lane, connected, within
from tests.matrix.models import build
from tests.matrix.running import contents, translated


class Elsewhere:
    """The other process; call it with a design for what its tables hold."""

    def __init__(self, lane: Lane, directory: Path, prefix: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(lane.name, directory, prefix, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def __call__(self, design: Design) -> Any:
        """What the model's tables hold, or the exception as text."""
        self._pipe.send(design)
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(30)


def _serve(name: str, directory: Path, prefix: str, pipe: Connection) -> None:
    lane = LANES[name]
    within(lane, lambda: _answer(lane, directory, prefix, pipe))


def _answer(lane: Lane, directory: Path, prefix: str, pipe: Connection) -> None:
    engine = translated(connected(lane, directory))
    keyring = Keyring(LocalKms(directory / "keys.json"))
    built: Design | None = None
    model = None
    while (design := pipe.recv()) is not None:
        if design != built or model is None:
            # The tables are new ones: asyncpg would go on with what it prepared for the old.
            engine.dispose()
            model, built = build(design, encrypted=True, prefix=prefix), design
            attach_keyrings(model.metadata, keyring)
        keyring.forget()
        try:
            pipe.send(contents(engine, model))
        except Exception as error:  # noqa: BLE001 - told to the first process
            pipe.send(f"{type(error).__name__}: {error}")
    engine.dispose()
