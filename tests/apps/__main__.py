"""``make apps``: each workflow plain and encrypted, on each database; the results are alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, create_engine, inspect
from sqlalchemy.exc import OperationalError

from sqlalchemy_kmsenv import LocalKms
from tests.apps.workflows import ENCRYPTED

# As in tests/conftest.py, which needs pytest.
SERVERS = {
    "KMSENV_TEST_POSTGRESQL_URL": "postgresql+psycopg://postgres@127.0.0.1:5432/test",
    "KMSENV_TEST_MARIADB_URL": "mysql+pymysql://root@127.0.0.1:3306/test",
}
SECONDS = 300


def databases(folder: Path) -> list[str]:
    """SQLite, and the servers that answer."""
    found = [f"sqlite:///{folder}/apps.db"]
    for variable, usual in SERVERS.items():
        url = os.environ.get(variable, usual)
        engine = create_engine(url)
        try:
            engine.connect().close()
            found.append(url)
        except OperationalError:
            print(f"SKIPPED {engine.url!r}: it does not answer")
        finally:
            engine.dispose()
    return found


def tables_of(url: str) -> set[str]:
    """The names of the tables that are there."""
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def drop_all_but(kept: set[str], url: str) -> None:
    """Drop what a workflow has made."""
    engine = create_engine(url)
    metadata = MetaData()
    metadata.reflect(engine, only=lambda name, _: name not in kept)
    metadata.drop_all(engine)
    engine.dispose()


def run(name: str, url: str, *key_file: str) -> Any:
    """What a workflow gave back; a string where it failed."""
    there = tables_of(url)
    try:
        return outcome_of(name, url, *key_file)
    finally:
        drop_all_but(there, url)


def outcome_of(name: str, url: str, *key_file: str) -> Any:
    """Run it in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.apps.workflows", name, url, *key_file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1]}"
    return json.loads(done.stdout.splitlines()[-1])


def verdict(plain: Any, encrypted: Any) -> str:
    """Why the two differ; "alike" where they do not."""
    for what, outcome in (("plain", plain), ("encrypted", encrypted)):
        if isinstance(outcome, str):
            return f"{what} {outcome}"
    if plain["given"] != encrypted["given"]:
        return f"other results: {plain['given']} and {encrypted['given']}"
    if not encrypted["envelopes"] or encrypted["others"]:
        return f"{encrypted['envelopes']} envelopes and {encrypted['others']} others were stored"
    return "alike"


def main() -> int:
    """0 where every workflow gives the same, encrypted."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder) / "keys.json"
        LocalKms.create(key_file)
        for url in databases(Path(folder)):
            for name in ENCRYPTED:
                said = verdict(run(name, url), run(name, url, str(key_file)))
                print(f"{name} on {url.partition(':')[0]}: {said}", flush=True)
                wrong += said != "alike"
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
