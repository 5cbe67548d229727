"""The database of a command."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from sqlalchemy import Engine, MetaData, create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from sqlalchemy_kmsenv.cli.refusals import Refusal, driver_words
from sqlalchemy_kmsenv.cli.subject import Models


@dataclass(frozen=True, slots=True)
class Database:
    """The database that ``--url`` names."""

    url: URL

    @contextmanager
    def engine(self, models: Models, metadata: MetaData) -> Iterator[Engine]:
        """An engine that has connected once, and found the tables of ``models``.

        Raises:
            Refusal: no driver, no connection, or a table is missing.
        """
        engine = _created(self.url)
        try:
            _check_tables(engine, models, metadata)
            yield engine
        finally:
            engine.dispose()


def database_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--url``; the command takes it as ``database``."""

    @click.option(
        "--url",
        envvar="KMSENV_DATABASE_URL",
        show_envvar=True,
        required=True,
        help="SQLAlchemy URL of the database. The variable keeps a password out of `ps`.",
    )
    @functools.wraps(command)
    def with_database(*, url: str, **others: Any) -> Any:
        return command(database=Database(_parsed(url)), **others)

    return with_database


def shown_url(url: URL) -> str:
    """A URL as it may be printed: drivers take passwords in the query, too, by any name."""
    query = {name: value if name in _SHOWN else "***" for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


_SHOWN = frozenset(["host", "port", "unix_socket", "service", "charset"])


def _parsed(text: str) -> URL:
    # The text is not repeated, nor the error that may repeat it: it may hold a password.
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        raise Refusal(
            "--url is no SQLAlchemy URL; it looks like postgresql+psycopg://user@host:5432/name,"
            " mysql+pymysql://user@host/name or sqlite:////absolute/path.db"
        ) from None


def _created(url: URL) -> Engine:
    try:
        engine = create_engine(url)
    except NoSuchModuleError:
        raise Refusal(f"SQLAlchemy knows no database {url.drivername!r}") from None
    except ModuleNotFoundError as error:
        raise Refusal(
            f"the driver of {url.drivername} is not installed ({error}); for PostgreSQL and MySQL"
            " pip install 'sqlalchemy-kmsenv[postgresql,mysql]' brings one"
        ) from error
    except ArgumentError as error:
        raise Refusal(f"the database URL is refused: {error}") from error
    if engine.dialect.is_async:
        raise Refusal(
            f"{url.drivername} is an asynchronous driver; jobs need another, such as"
            " postgresql+psycopg, mysql+pymysql or sqlite"
        )
    return engine


def _check_tables(engine: Engine, models: Models, metadata: MetaData) -> None:
    shown = shown_url(engine.url)
    tables = {binding.column.table for binding in models.bindings(metadata).values()}
    try:
        with engine.connect() as connection:
            here = inspect(connection)
            absent = [t.fullname for t in tables if not here.has_table(t.name, schema=t.schema)]
    except DBAPIError as error:
        raise Refusal(f"{shown} cannot be reached: {driver_words(error)}") from error
    if absent:
        raise Refusal(f"{shown} has no table {', '.join(sorted(absent))}: is it another database?")
