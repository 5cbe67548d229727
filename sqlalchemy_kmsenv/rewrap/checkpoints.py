"""Where a job keeps how far it is: a file, or a table of the database."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv.columns.own_operators import equal
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.rewrap.exclusion import held_name
from sqlalchemy_kmsenv.rewrap.partitions import Partition
from sqlalchemy_kmsenv.rewrap.private_files import (
    held_file,
    lock_file,
    read_private,
    write_private,
)
from sqlalchemy_kmsenv.rewrap.refusals import CheckpointError

_JOB_CHARACTERS = 100
_FORMAT = 1
_JOB = "job"
_LONG_TEXT = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")

Kept = Mapping[str, Sequence[Partition]]
"""The partitions of each column that the job has begun with."""


class CheckpointStore(Protocol):
    """What a job needs of a checkpoint. ``job`` says which job it is, as JSON."""

    def held(self, engine: Engine) -> AbstractContextManager[bool]:
        """Keep other jobs off inside of the block; False where another one is at work."""
        ...

    def load(self, engine: Engine) -> tuple[Any, Kept] | None:
        """The job that was kept, and how far it was; None where nothing is kept.

        Raises:
            CheckpointError: it cannot be read.
        """
        ...

    def begin(self, engine: Engine, job: Any) -> None:
        """Keep that a job begins."""
        ...

    def begin_column(self, engine: Engine, column: str, partitions: Sequence[Partition]) -> None:
        """Keep how a column is cut."""
        ...

    def moved(self, column: str, partition: Partition) -> None:
        """Keep how far one partition is, unless its worker has done so."""
        ...

    def clear(self, engine: Engine) -> None:
        """Forget the job: it is complete."""
        ...


@dataclass(frozen=True, slots=True)
class FileCheckpoint:
    """A JSON file, replaced as a whole after every page (every second with an executor)."""

    path: str | Path


@dataclass(frozen=True, slots=True)
class TableCheckpoint:
    """Rows of a table, which is made where it is missing; written in the page's transaction.

    Raises:
        ConfigurationError: the name of the job is empty, or has more characters than its column.
    """

    job: str = "default"
    """Names the job where several use the table; up to 100 characters."""
    table: str = "kmsenv_checkpoints"
    schema: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.job) <= _JOB_CHARACTERS:
            raise ConfigurationError(
                f"TableCheckpoint(job={self.job!r}) is refused: give a name of 1 to"
                f" {_JOB_CHARACTERS} characters"
            )

    def keep(self, connection: Connection, column: str, partition: Partition) -> None:
        """Write how far a partition is, in the transaction of its page."""
        rows = _table(self)
        named = (
            (rows.c.job, self.job),
            (rows.c.column_name, column),
            (rows.c.part, partition.number),
        )
        same = update(rows).where(*(equal(c, v, connection.dialect) for c, v in named))
        connection.execute(same.values(state=_dumped(partition.to_keep.to_json())))


class FileStore:
    """The job in a file; one that others cannot write, since it says what is done."""

    def __init__(self, given: FileCheckpoint) -> None:
        self._path = Path(given.path)
        self._job: Any = None
        self._columns: dict[str, dict[int, Partition]] = {}

    def held(self, engine: Engine) -> AbstractContextManager[bool]:
        """A lock file beside it."""
        lock = self._path.with_name(f"{self._path.name}.lock")
        try:
            return held_file(lock_file(lock), lock)
        except OSError as error:
            raise self._unwritable(error) from error

    def load(self, engine: Engine) -> tuple[Any, Kept] | None:
        """What the file says."""
        try:
            document = json.loads(read_private(self._path))
        except FileNotFoundError:
            return None
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise CheckpointError(
                f"the checkpoint {self._path} is not read ({why}): a job believes what it says, so"
                " give a file that this user alone may write"
            ) from error
        except (ValueError, RecursionError) as error:
            raise _damaged(f"the file {self._path}") from error
        try:
            if document["format"] != _FORMAT:
                raise _damaged(f"the file {self._path}")
            self._job = document[_JOB]
            self._columns = {
                name: {p.number: p for p in map(Partition.from_json, partitions)}
                for name, partitions in document["columns"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(f"the file {self._path}") from error
        return self._job, {name: list(found.values()) for name, found in self._columns.items()}

    def begin(self, engine: Engine, job: Any) -> None:
        """Write the file."""
        self._job, self._columns = job, {}
        self._write()

    def begin_column(self, engine: Engine, column: str, partitions: Sequence[Partition]) -> None:
        """Write the file with one column more."""
        self._columns[column] = {partition.number: partition for partition in partitions}
        self._write()

    def moved(self, column: str, partition: Partition) -> None:
        """Write the file anew."""
        self._columns[column][partition.number] = partition.to_keep
        self._write()

    def clear(self, engine: Engine) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        columns = {
            name: [partition.to_json() for partition in partitions.values()]
            for name, partitions in self._columns.items()
        }
        content = _dumped({"format": _FORMAT, _JOB: self._job, "columns": columns})
        try:
            write_private(self._path, content.encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint {self._path} cannot be written ({error.strerror}): its directory must"
            " exist, be writable and have room"
        )


class TableStore:
    """The job in rows of a table; the worker of a partition keeps how far that is."""

    def __init__(self, given: TableCheckpoint) -> None:
        self._given = given
        self._rows = _table(given)

    def held(self, engine: Engine) -> AbstractContextManager[bool]:
        """A lock of the database's, by the name of the job."""
        # MySQL and MariaDB have one such lock a server, and not a database.
        database = self._given.schema or engine.url.database
        return held_name(engine, f"{database} {self._given.table} {self._given.job}")

    def load(self, engine: Engine) -> tuple[Any, Kept] | None:
        """What the table says; it is made where it is missing."""
        # Another job may have made it in between, or the answer that it is missing be a lie.
        with suppress(DBAPIError):
            self._rows.create(engine, checkfirst=True)
        mine = self._mine(engine)
        with engine.connect() as connection:
            query = select(self._rows).where(mine).order_by(self._rows.c.part)
            found = connection.execute(query).all()
        job: Any = None
        columns: dict[str, list[Partition]] = {}
        try:
            for row in found:
                document = json.loads(row.state)
                if row.part < 0:
                    job = document
                else:
                    columns.setdefault(row.column_name, []).append(Partition.from_json(document))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(f"job {self._given.job!r} in table {self._rows.fullname}") from error
        return None if job is None else (job, columns)

    def begin(self, engine: Engine, job: Any) -> None:
        """Write the row that says which job it is."""
        with engine.begin() as connection:
            self._clear(connection)
            connection.execute(insert(self._rows), [self._row("", -1, job)])

    def begin_column(self, engine: Engine, column: str, partitions: Sequence[Partition]) -> None:
        """Write a row for each partition."""
        rows = [self._row(column, each.number, each.to_json()) for each in partitions]
        with engine.begin() as connection:
            connection.execute(insert(self._rows), rows)

    def moved(self, column: str, partition: Partition) -> None:
        """Nothing: it was written in the transaction of the page."""

    def clear(self, engine: Engine) -> None:
        """Delete the rows of the job."""
        with engine.begin() as connection:
            self._clear(connection)

    def _clear(self, connection: Connection) -> None:
        connection.execute(delete(self._rows).where(self._mine(connection)))

    def _mine(self, on: Engine | Connection) -> ColumnElement[bool]:
        return equal(self._rows.c.job, self._given.job, on.dialect)

    def _row(self, column: str, part: int, state: Any) -> dict[str, Any]:
        name = self._given.job
        return {"job": name, "column_name": column, "part": part, "state": _dumped(state)}


def store_of(given: FileCheckpoint | TableCheckpoint | str | Path) -> CheckpointStore:
    """The store of a checkpoint.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(given, TableCheckpoint):
        return TableStore(given)
    if isinstance(given, (str, Path)):
        given = FileCheckpoint(given)
    if not isinstance(given, FileCheckpoint):
        raise _no_checkpoint(given)
    if "\0" in str(given.path):
        raise _no_checkpoint(given)
    return FileStore(given)


def _no_checkpoint(given: object) -> ConfigurationError:
    return ConfigurationError(
        f"checkpoint={given!r} is refused: give a path, a FileCheckpoint or a TableCheckpoint"
    )


def _table(given: TableCheckpoint) -> Table:
    return Table(
        given.table,
        MetaData(),
        Column("job", String(_JOB_CHARACTERS), primary_key=True),
        Column("column_name", String(300), primary_key=True),
        Column("part", Integer, primary_key=True, autoincrement=False),
        Column("state", _LONG_TEXT, nullable=False),
        schema=given.schema,
    )


def _dumped(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


def _damaged(where: str) -> CheckpointError:
    return CheckpointError(
        f"{where} is no checkpoint that this release can read; remove it, and the job begins anew"
    )
