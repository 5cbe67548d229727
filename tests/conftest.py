"""The databases that tests run on, and a counted local KMS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import Phase, settings
from sqlalchemy import Connection, Engine, MetaData, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from sqlalchemy_kmsenv import Keyring, LocalKms
from sqlalchemy_kmsenv.kms import CountingKms
from tests.servers import OWN_DATABASE, SERVERS, server_url

# How long an example takes says how busy the machine is.
settings.register_profile("kmsenv", deadline=None)
# Where it matters only that a test fails (`make mutants`), and not by how small an example.
settings.register_profile("unshrunk", deadline=None, phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("KMSENV_TEST_PROFILE", "kmsenv"))

DATABASES = ("sqlite", *SERVERS)


def second_schema(name: str) -> str:
    """A schema's name that no other run uses: on MariaDB it is a database of the server."""
    return f"{name}_{make_url(server_url('mariadb')).database}"


def required_servers() -> set[str]:
    """The servers without which the run fails, named by ``KMSENV_TEST_REQUIRE``."""
    names = {name.strip() for name in os.environ.get("KMSENV_TEST_REQUIRE", "").split(",")} - {""}
    unknown = names - set(SERVERS)
    if unknown:
        raise pytest.UsageError(f"KMSENV_TEST_REQUIRE names {sorted(unknown)}; known: {[*SERVERS]}")
    return names


def _absence(name: str) -> str | None:
    variable, usual = SERVERS[name]
    engine = create_engine(os.environ.get(variable, usual), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            _create_own_database(connection)
    except OperationalError as error:
        return f"{name} does not answer at {engine.url!r}: {error.orig}"
    finally:
        engine.dispose()
    return None


def _create_own_database(connection: Connection) -> None:
    own = os.environ.get(OWN_DATABASE)
    there = "SELECT 1 FROM information_schema.schemata WHERE schema_name = :own"
    if connection.dialect.name == "postgresql":
        there = "SELECT 1 FROM pg_database WHERE datname = :own"
    if own is not None and connection.scalar(text(there), {"own": own}) is None:
        connection.execute(text(f"CREATE DATABASE {own}"))


ABSENT: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Look for the servers once; fail at once where a required one is absent."""
    required = required_servers()
    for name in SERVERS:
        reason = _absence(name)
        if reason is None:
            continue
        if name in required:
            raise pytest.UsageError(f"KMSENV_TEST_REQUIRE names {name}, but {reason}")
        ABSENT[name] = reason


def pytest_report_header() -> list[str]:
    """Say which SQLAlchemy and which databases this run is about."""
    found = [name for name in DATABASES if name not in ABSENT]
    lines = [f"sqlalchemy {sqlalchemy.__version__}; databases: {', '.join(found)}"]
    return lines + [f"SKIPPED everything on {name}: {why}" for name, why in ABSENT.items()]


def on(*names: str) -> pytest.MarkDecorator:
    """Let a test run on these databases alone, for what the others do not have."""
    return pytest.mark.parametrize("database", names, indirect=True)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """The name of each database in turn."""
    name: str = request.param
    if name in ABSENT:
        pytest.skip(ABSENT[name])
    return name


@pytest.fixture
def engine(database: str, tmp_path: Path) -> Iterator[Engine]:
    """An engine on each database in turn."""
    url = f"sqlite:///{tmp_path / 'test.db'}" if database == "sqlite" else server_url(database)
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def metadata(engine: Engine) -> Iterator[MetaData]:
    """An empty MetaData whose tables are dropped afterwards."""
    metadata = MetaData()
    yield metadata
    metadata.drop_all(engine)


@pytest.fixture
def local_kms(tmp_path: Path) -> LocalKms:
    """A new local KMS key."""
    return LocalKms.create(tmp_path / "keys.json")


@pytest.fixture
def kms(local_kms: LocalKms) -> CountingKms:
    """The local KMS key, counting its calls."""
    return CountingKms(local_kms)


@pytest.fixture
def keyring(kms: CountingKms) -> Keyring:
    """A keyring on the counted KMS key."""
    return Keyring(kms)
