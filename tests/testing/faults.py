"""What an application sees of each fault: the list behind ``docs/kms-faults.md``.

``python -m tests.testing.faults`` writes the page; ``test_faults.py`` runs every cell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.pool import StaticPool

from sqlalchemy_kmsenv import (
    Encrypted,
    Keyring,
    KeyServiceDeniedError,
    KeyServiceUnavailableError,
    KeyStateError,
    KmsEnvError,
    WrongCellError,
    attach_keyrings,
    defaults,
)
from sqlalchemy_kmsenv.kms import AwsKms
from sqlalchemy_kmsenv.testing import KmsServer, Principal, ServerKey, session
from sqlalchemy_kmsenv.testing.store import SECONDS_A_DAY

PAGE = Path(__file__).parents[2] / "docs" / "kms-faults.md"
CONTEXT = {"device_id": "d1"}
ATTEMPTS = 2
CONNECT_SECONDS = 1.0
READ_SECONDS = 10.0
"""The read time-out where each try is answered: long, for a busy machine."""
ONCE_SECONDS = 2.0
"""Where one try is not answered, and the next one is."""
IMPATIENT_SECONDS = 0.2
"""Where none is answered in time."""


@dataclass
class Scene:
    """A server with one key, something that is wrapped and stored there, and a caller."""

    server: KmsServer
    clock_offset: float = 0.0
    read_seconds: float = READ_SECONDS
    caller: Principal | None = None
    access_key_id: str | None = None
    key: ServerKey = field(init=False)
    wrapped: bytes = field(init=False)
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.server.create_key(alias="alias/app")
        made = self.server.call(
            "GenerateDataKey", KeyId=self.key.arn, KeySpec="AES_256", EncryptionContext=CONTEXT
        )
        self.wrapped = made["CiphertextBlob"]
        metadata = MetaData()
        self.table = Table(
            "t", metadata, Column("id", Integer, primary_key=True), Column("v", Encrypted(String))
        )
        self.engine = create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        metadata.create_all(self.engine)
        attach_keyrings(metadata, default=Keyring(self.kms(self.key.arn)))
        with self.engine.begin() as connection:
            connection.execute(insert(self.table).values(id=1, v="one"))

    def kms(self, key_id: str) -> AwsKms:
        """A new adapter with short time-outs and two tries."""
        made = session(self.server, self.caller)
        if self.access_key_id is not None:
            made = boto3.session.Session(self.access_key_id, "x", region_name=self.server.region)
        return AwsKms(
            key_id,
            endpoint_url=self.server.url,
            session=made,
            connect_timeout_seconds=CONNECT_SECONDS,
            read_timeout_seconds=self.read_seconds,
            max_attempts=ATTEMPTS,
        )

    def column(self) -> Table:
        """The table with a new keyring, which holds no data key yet."""
        attach_keyrings(self.table.metadata, default=Keyring(self.kms(self.key.arn)))
        return self.table

    def rows(self) -> int:
        """How many rows there are."""
        with self.engine.connect() as connection:
            return len(connection.execute(select(self.table.c.id)).all())


def _insert(scene: Scene) -> None:
    with scene.engine.begin() as connection:
        connection.execute(insert(scene.column()).values(id=2, v="two"))


def _select(scene: Scene) -> None:
    with scene.engine.begin() as connection:
        assert connection.scalars(select(scene.column().c.v)).all() == ["one"]


OPERATIONS: Mapping[str, Callable[[Scene], object]] = {
    "generate_data_key": lambda scene: scene.kms(scene.key.arn).generate_data_key(CONTEXT),
    "unwrap": lambda scene: scene.kms(scene.key.arn).unwrap(
        scene.wrapped, CONTEXT, key_arn=scene.key.arn
    ),
    "rewrap": lambda scene: scene.kms(scene.key.arn).rewrap(
        scene.wrapped, CONTEXT, key_arn=scene.key.arn
    ),
    "resolve (of an alias)": lambda scene: scene.kms("alias/app").resolve(),
    "INSERT": _insert,
    "SELECT": _select,
}
_OPENING = ("unwrap", "rewrap", "SELECT")
_ALIAS = "resolve (of an alias)"


@dataclass(frozen=True)
class Sight:
    """What is seen: an error and its code, or success; and how often the KMS was asked."""

    error: type[KmsEnvError] | None
    code: str | None
    tries: int

    def text(self) -> str:
        """The cell of the page."""
        seconds = most_seconds(
            tries_by_default(self.tries) if self.error else self.tries,
            defaults.AWS_CONNECT_TIMEOUT_SECONDS,
            defaults.AWS_READ_TIMEOUT_SECONDS,
        )
        most = f"{seconds:g} s"
        if self.error is None:
            return f"works, {most}"
        code = "" if self.code is None else f" `{self.code}`"
        return f"`{self.error.__name__}`{code}, {most}"


WORKS = Sight(None, None, 1)
LATER = Sight(None, None, 2)


def unavailable(code: str, tries: int = ATTEMPTS) -> Sight:
    """A retry may help; all tries were made."""
    return Sight(KeyServiceUnavailableError, code, tries)


def state(code: str) -> Sight:
    """A retry cannot help: one try."""
    return Sight(KeyStateError, code, 1)


def denied(code: str) -> Sight:
    """Likewise."""
    return Sight(KeyServiceDeniedError, code, 1)


@dataclass(frozen=True)
class Fault:
    """One line of the page."""

    name: str
    prepare: Callable[[Scene], object]
    sight: Sight
    otherwise: Mapping[str, Sight | None] = field(default_factory=dict)
    """Operations that see something else; None where the fault cannot be."""

    def seen_by(self, operation: str) -> Sight | None:
        """What an operation sees."""
        return self.otherwise.get(operation, self.sight)


def _weather(kind: str, times: int | None = None) -> Callable[[Scene], object]:
    return lambda scene: scene.server.weather.fault(kind, times=times)


def _never(scene: Scene) -> None:
    scene.read_seconds = IMPATIENT_SECONDS
    scene.server.weather.fault("timeout")


def _never_once(scene: Scene) -> None:
    scene.read_seconds = ONCE_SECONDS
    scene.server.weather.fault("timeout", times=1)


def _too_slow(scene: Scene) -> None:
    scene.read_seconds = IMPATIENT_SECONDS
    scene.server.weather.delay(IMPATIENT_SECONDS + 0.5)


def _delete(scene: Scene) -> None:
    scene.key.schedule_deletion(7)
    scene.clock_offset = 7 * SECONDS_A_DAY


def _deny(scene: Scene) -> None:
    scene.caller = scene.server.create_principal("nobody")


def _estrange(scene: Scene) -> None:
    scene.access_key_id = "AKIASTRANGER"


def _alter(scene: Scene) -> None:
    scene.wrapped = scene.wrapped[:-1] + bytes([scene.wrapped[-1] ^ 1])
    with scene.engine.begin() as connection:
        # The last byte of the wrapped data key: before value type, nonce, 3 bytes and the tag.
        connection.exec_driver_sql(
            "UPDATE t SET v = CAST(substr(v, 1, length(v) - 33) || x'00'"
            " || substr(v, length(v) - 31) AS BLOB)"
        )


_DESCRIBED = {_ALIAS: WORKS}
_NOTHING_TO_OPEN = {name: None for name in OPERATIONS if name not in _OPENING}

FAULTS: tuple[Fault, ...] = (
    Fault("none", lambda _: None, WORKS),
    Fault("throttling", _weather("throttling"), unavailable("ThrottlingException")),
    Fault("throttling, once", _weather("throttling", 1), LATER),
    Fault("internal error", _weather("internal"), unavailable("KMSInternalException")),
    Fault("internal error, once", _weather("internal", 1), LATER),
    Fault("key unavailable", _weather("key-unavailable"), unavailable("KeyUnavailableException")),
    Fault(
        "time-out inside of KMS",
        _weather("dependency-timeout"),
        unavailable("DependencyTimeoutException"),
    ),
    Fault("never an answer", _never, unavailable("ReadTimeoutError")),
    Fault("never an answer, once", _never_once, LATER),
    Fault("an answer that is too late", _too_slow, unavailable("ReadTimeoutError")),
    Fault("a slow answer", lambda scene: scene.server.weather.delay(0.05), WORKS),
    Fault("connection reset", _weather("reset"), unavailable("ConnectionClosedError")),
    Fault("connection reset, once", _weather("reset", 1), LATER),
    Fault("answer lost, once", _weather("lost-answer", 1), LATER),
    Fault(
        "nothing listens",
        lambda scene: scene.server.close(),
        unavailable("EndpointConnectionError", 0),
    ),
    Fault("key disabled", lambda s: s.key.disable(), state("DisabledException"), _DESCRIBED),
    Fault(
        "key pending deletion",
        lambda scene: scene.key.schedule_deletion(),
        state("KMSInvalidStateException"),
        _DESCRIBED,
    ),
    Fault("key deleted", _delete, state("NotFoundException")),
    Fault("not allowed", _deny, denied("AccessDeniedException")),
    Fault("access key unknown", _estrange, denied("UnrecognizedClientException")),
    Fault("wrapped data key altered", _alter, Sight(WrongCellError, None, 1), _NOTHING_TO_OPEN),
)


def tries_by_default(tries: int) -> int:
    """As many tries with the defaults: where all were made here, all are made there."""
    return defaults.AWS_MAX_ATTEMPTS if tries in {0, ATTEMPTS} else tries


def most_seconds(tries: int, connect_seconds: float, read_seconds: float) -> float:
    """How long so many tries take at most, with boto3's waits between them."""
    return tries * (connect_seconds + read_seconds) + sum(2**wait for wait in range(tries - 1))


@dataclass(frozen=True)
class Seen:
    """What happened in a cell."""

    sight: Sight
    seconds: float
    most_seconds: float
    rows: int


def run(fault: Fault, operation: str) -> Seen:
    """Make the fault, carry out the operation, and say what came of it."""
    offset = [0.0]
    with KmsServer(clock=lambda: time.time() + offset[0]) as server:
        scene = Scene(server)
        fault.prepare(scene)
        offset[0] = scene.clock_offset
        before = server.calls.total()
        began = time.monotonic()
        error: Any = None
        try:
            OPERATIONS[operation](scene)
        except KmsEnvError as caught:
            error = caught
        seconds = time.monotonic() - began
        kind = None if error is None else type(error)
        sight = Sight(kind, getattr(error, "code", None), server.calls.total() - before)
        most = most_seconds(ATTEMPTS, CONNECT_SECONDS, scene.read_seconds)
        seen = Seen(sight, seconds, most, scene.rows())
        scene.engine.dispose()
        return seen


_HEAD = f"""\
# When the key service fails

What an application sees of each fault, and after how many seconds at the latest. Written by
`python -m tests.testing.faults`; every cell is a test, through boto3 against the server of
`sqlalchemy_kmsenv.testing`.

The operations are `generate_data_key`, `unwrap`, `rewrap` and `resolve` (of an alias) of
`AwsKms`, and INSERT and SELECT of an encrypted column. Times are for its defaults:
{defaults.AWS_CONNECT_TIMEOUT_SECONDS:g} s to connect, {defaults.AWS_READ_TIMEOUT_SECONDS:g} s for \
an answer, {defaults.AWS_MAX_ATTEMPTS} tries, with waits of at most 1 s and 2 s
between them. The tests use shorter ones, and count the tries. They are upper bounds: a
service that answers, answers in milliseconds. *Once* means that the next try is answered.

- What a retry may cure is `KeyServiceUnavailableError`, and boto3 has retried it already.
- What it cannot cure is asked once.
- An INSERT that fails has written nothing; a SELECT that fails has returned no row.
- A data key that is in the cache needs no key service: within `max_age_seconds` an
  application does not notice any of this.

"""


def page() -> str:
    """The page, from the list above."""
    lines = ["| fault | every operation | but |", "|---|---|---|"]
    for fault in FAULTS:
        others = [f"{_named(o)}: {_shown(s)}" for o, s in fault.otherwise.items()]
        lines.append(f"| {fault.name} | {fault.sight.text()} | {'; '.join(others)} |")
    return _HEAD + "\n".join(lines) + "\n"


def _named(operation: str) -> str:
    return operation if operation.isupper() or " " in operation else f"`{operation}`"


def _shown(sight: Sight | None) -> str:
    return "does not meet it" if sight is None else sight.text()


if __name__ == "__main__":
    PAGE.write_text(page())
