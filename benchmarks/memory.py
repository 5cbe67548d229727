"""Peak memory of an ORM SELECT, in a process that does nothing else."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from benchmarks.models import MODELS, Base
from benchmarks.subject import keyring
from sqlalchemy_kmsenv import attach_keyrings

MEASURES = ("allocated by Python", "resident")
_URL = "KMSENV_BENCHMARK_URL"


def peaks(url: str, key_file: Path, names: list[str]) -> dict[str, dict[str, int]]:
    """Bytes by measure and model; the tables are full."""
    return {
        measure: {name: _in_fresh_process(url, key_file, name, measure) for name in names}
        for measure in MEASURES
    }


def _in_fresh_process(url: str, key_file: Path, name: str, measure: str) -> int:
    command = [sys.executable, "-m", "benchmarks.memory", str(key_file), name, measure]
    # A URL may hold a password, which a command line would show to everyone.
    done = subprocess.run(  # noqa: S603  own module
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, _URL: url}
    )
    return int(done.stdout)


def main(key_file: str, name: str, measure: str) -> None:
    attach_keyrings(Base.metadata, keyring(Path(key_file)))
    engine = create_engine(os.environ[_URL])
    statement = select(MODELS[name])
    traced = measure == MEASURES[0]
    with Session(engine) as session:
        session.scalars(statement.limit(10)).all()
        session.expunge_all()
        if traced:
            tracemalloc.start()
        everything = session.scalars(statement).all()
        peak = tracemalloc.get_traced_memory()[1] if traced else peak_resident()
        del everything
    print(peak)


def peak_resident() -> int:
    """Bytes that this process had in memory at the most."""
    # On Linux ru_maxrss begins with the peak of the process that started this one.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])
