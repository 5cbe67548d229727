"""A table of two encrypted columns, and the command on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, LargeBinary, column, select, table, type_coerce, update
from sqlalchemy.orm import Session

from sqlalchemy_kmsenv import Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.cli.main import main
from sqlalchemy_kmsenv.columns.attached import attached_keyrings
from tests.cli.models import Base, Ping

# The table as a program without the library knows it.
_PLAIN = table("cli_pings", column("tenant"), column("number"), column("position", LargeBinary()))
ROOT = Path(__file__).parents[2]
TENANTS = ("acme", "initech")


@dataclass(frozen=True)
class World:
    """Pings in a database, and the key that they are under."""

    engine: Engine
    kms: LocalKms
    uri: str

    @property
    def url(self) -> str:
        return self.engine.url.render_as_string(hide_password=False)

    @property
    def about(self) -> tuple[str, ...]:
        """Options that say what a command is about."""
        return ("--url", self.url, "--metadata", "tests.cli.models:Base", "--keyring", self.uri)

    def store(self, numbers: range) -> None:
        """A ping of each tenant for each number, under the key's newest material."""
        attach_keyrings(Base.metadata, Keyring(self.kms))
        with Session(self.engine) as session:
            for tenant in TENANTS:
                for number in numbers:
                    position = {"lat": number, "of": tenant}
                    session.add(Ping(tenant=tenant, number=number, position=position, note="n"))
            session.commit()

    def read(self) -> dict[tuple[str, int], Any]:
        """Every position, opened."""
        with Session(self.engine) as session:
            rows = session.execute(select(Ping.tenant, Ping.number, Ping.position)).all()
        return {(tenant, number): position for tenant, number, position in rows}

    def stored(self) -> dict[tuple[str, int], bytes]:
        """Every position as its bytes."""
        raw = type_coerce(Ping.position, LargeBinary)
        with Session(self.engine) as session:
            rows = session.execute(select(Ping.tenant, Ping.number, raw)).all()
        return {(tenant, number): bytes(stored) for tenant, number, stored in rows}

    def write_raw(self, tenant: str, number: int, stored: bytes) -> None:
        """Put bytes into a position, as somebody with SQL can."""
        statement = update(_PLAIN).where(_PLAIN.c.tenant == tenant, _PLAIN.c.number == number)
        with self.engine.begin() as connection:
            connection.execute(statement.values(position=stored))


@pytest.fixture
def world(engine: Engine, local_kms: LocalKms, tmp_path: Path) -> Iterator[World]:
    """Ten pings under the first material of a key, and two under its second."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    world = World(engine, local_kms, f"local://{tmp_path / 'keys.json'}")
    world.store(range(5))
    local_kms.rotate()
    world.store(range(5, 6))
    yield world
    Base.metadata.drop_all(engine)
    attached_keyrings(Base.metadata).clear()


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are written to the current directory."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """The result of ``kmsenv`` with these arguments, in this process."""
    return _runner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def _runner() -> CliRunner:
    # Since click 8.2 the two streams are always told apart.
    told_apart = "mix_stderr" not in signature(CliRunner).parameters
    return CliRunner() if told_apart else CliRunner(mix_stderr=False)  # type: ignore[call-arg]


def run_json(*arguments: object) -> tuple[int, Any]:
    """Exit code and document of a command with ``--json``."""
    result = run(*arguments, "--json")
    assert result.stdout, result.output
    return result.exit_code, json.loads(result.stdout)


def start(*arguments: object, path: Path = ROOT) -> subprocess.Popen[str]:
    """``kmsenv`` in a process of its own, where modules are looked for in ``path`` first."""
    paths = os.pathsep.join([str(path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "sqlalchemy_kmsenv.cli.main", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def words(output: str) -> str:
    """The output without its line breaks."""
    return " ".join(output.split())
