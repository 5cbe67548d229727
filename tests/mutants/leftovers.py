"""Takes away what a test that was killed in the midst has left in the databases."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from tests.servers import SERVERS, server_url

_THINGS = {
    "postgresql": """
        SELECT 'SCHEMA ' || quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_'
        UNION ALL SELECT 'VIEW ' || quote_ident(relname) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'
        UNION ALL SELECT 'TABLE ' || quote_ident(relname) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        UNION ALL SELECT 'SEQUENCE ' || quote_ident(relname) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
        UNION ALL SELECT 'DOMAIN ' || quote_ident(typname) FROM pg_type
            WHERE typnamespace = 'public'::regnamespace AND typtype = 'd'
        UNION ALL SELECT 'TYPE ' || quote_ident(typname) FROM pg_type
            WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
    """,
    "mariadb": """
        SELECT CONCAT(IF(table_type = 'VIEW', 'VIEW', 'TABLE'), ' `', table_name, '`')
        FROM information_schema.tables WHERE table_schema = DATABASE()
    """,
}


class Leftovers:
    """What is in the databases that was not there before."""

    def __init__(self) -> None:
        self._engines = {
            name: engine
            for name in SERVERS
            if _answers(engine := create_engine(server_url(name), isolation_level="AUTOCOMMIT"))
        }
        self._before = {
            name: set(self._things(name, connection)) for name, connection in self._connections()
        }

    def take_away(self) -> None:
        """Drop all of it."""
        for name, connection in self._connections():
            new = [t for t in self._things(name, connection) if t not in self._before[name]]
            if new and name == "mariadb":
                connection.execute(text("SET FOREIGN_KEY_CHECKS = 0"))
            for thing in new:
                connection.exec_driver_sql(_dropping(thing))

    def _connections(self) -> Iterator[tuple[str, Connection]]:
        for name, engine in self._engines.items():
            with engine.connect() as connection:
                yield name, connection

    def _things(self, name: str, connection: Connection) -> list[str]:
        return list(connection.execute(text(_THINGS[name])).scalars())


def _dropping(thing: str) -> str:
    kind, _, name = thing.partition(" ")
    return f"DROP {kind} IF EXISTS {name} CASCADE".replace("%", "%%")


def _answers(engine: Engine) -> bool:
    try:
        engine.connect().close()
    except OperationalError:
        return False
    return True
