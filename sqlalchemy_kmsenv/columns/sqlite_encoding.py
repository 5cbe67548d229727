"""SQLite keeps all text of a database in one encoding: UTF-16 would be in the parts of a row."""

from __future__ import annotations

from sqlalchemy import Connection

from sqlalchemy_kmsenv.errors import ConfigurationError

_INFO_KEY = "sqlalchemy_kmsenv.utf8"


def check_encoding(connection: Connection) -> None:
    """Let values be sealed where they can be opened; asked once a connection of the driver.

    Raises:
        ConfigurationError: it is a database of SQLite in UTF-16.
    """
    if connection.dialect.name != "sqlite" or connection.info.get(_INFO_KEY):
        return
    # Not by a statement of SQLAlchemy's: nobody counts or logs this one.
    cursor = connection.connection.cursor()
    try:
        cursor.execute("PRAGMA encoding")
        found = cursor.fetchone()
    finally:
        cursor.close()
    if found is not None and found[0] != "UTF-8":
        where = connection.engine.url.database or "this"
        raise ConfigurationError(
            f"{where} is a database of SQLite in {found[0]}, where no value that is bound to a row"
            " could be opened again; make it anew in UTF-8 (sqlite3 OLD .dump | sqlite3 NEW)"
        )
    connection.info[_INFO_KEY] = True
