"""The column type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from sqlalchemy import Column, LargeBinary
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from sqlalchemy_kmsenv.columns.arguments import (
    checked_bind,
    checked_name,
    checked_pad_to,
    checked_scope,
    column_keys,
)
from sqlalchemy_kmsenv.columns.binding import (
    SCOPE_COLUMN,
    Bind,
    Binding,
    Keys,
    Scope,
    build_binding,
)
from sqlalchemy_kmsenv.columns.comparing import EncryptedComparator
from sqlalchemy_kmsenv.columns.migration_repr import render_encrypted
from sqlalchemy_kmsenv.columns.opening import cell_opener
from sqlalchemy_kmsenv.columns.packing import pack
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.refused import Refused
from sqlalchemy_kmsenv.columns.sealed import Sealed
from sqlalchemy_kmsenv.errors import ConfigurationError

_Value = TypeVar("_Value")


class Encrypted(TypeDecorator[_Value]):
    """A column whose values are sealed before they leave the application.

    The database holds envelopes (FORMAT.md) in its largest binary type; ORM and
    Core read and write values of ``inner``. NULL stays NULL.

    Args:
        inner: the SQLAlchemy type whose Python values the column takes.
        keyring: name of the keyring, as given to ``attach_keyrings``.
        scope: which cells share data keys: ``"column"``, ``"row"`` (a KMS call a
            row), or the keys of columns of this table, such as ``["tenant_id"]``,
            whose values become pairs of the encryption context.
        name: logical ``"table.column"``, to rename either and keep reading.
        identity: keys of the columns that name the row; the primary key by default.
        same_rows: the column holds cells of the one that ``name`` names, as an archive
            table does, so that the two share their logical name.
        bind: ``"row"``, or ``"column"`` for tables written by multi-row UPDATE:
            their values can be moved from row to row.
        pad_to: hide lengths up to a multiple of so many bytes.
        check: give the table a CHECK that stored bytes begin as envelopes do, so that
            plaintext that goes past this library fails in the database.

    Raises:
        ConfigurationError: an argument is not one of these; once the table is
            defined also for columns that cannot be bound to.
    """

    impl = LargeBinary
    # All that the cached SQL depends on is in the arguments and in the column itself.
    cache_ok = True

    def __init__(
        self,
        inner: TypeEngine[_Value] | type[TypeEngine[_Value]],
        *,
        keyring: str = "default",
        scope: Scope = SCOPE_COLUMN,
        name: str | None = None,
        identity: Keys | None = None,
        bind: Bind = "row",
        pad_to: int | None = None,
        check: bool = False,
        same_rows: bool = False,
    ) -> None:
        super().__init__()
        self.inner = _checked_inner(inner)
        # Packages that make forms and schemas of a model look at impl; SQLAlchemy goes by
        # impl_instance, whose schema events are those of what is stored.
        self.impl_instance = self.impl
        self.impl = self.inner  # type: ignore[assignment]  # of the class it is one type
        self.keyring = keyring
        self.scope = checked_scope(scope)
        self.name = checked_name(name)
        self.identity = None if identity is None else column_keys(identity, "identity")
        self.pad_to = checked_pad_to(pad_to)
        self.check = check
        self.same_rows = same_rows
        self.bind: Bind = checked_bind(bind, identity=self.identity, scope=self.scope)
        if same_rows and name is None:
            raise ConfigurationError(
                'Encrypted(same_rows=True) goes with name="table.column" of the table whose rows'
                " it holds"
            )
        self.hashable = self.inner.hashable
        self._evaluates_none: bool | None = None
        self.was_pickled = False
        self._column: Column[Any] | None = None
        self._binding: Binding | None = None

    # --- to the column --------------------------------------------------------------------

    def adopt(self, column: Column[Any]) -> None:
        """Make ``column`` the one that this type belongs to; called when it joins a table."""
        if self._column is not None and self._column is not column:
            # One instance declared for two columns, or copied along with a mixin's.
            own = self.copy()
            own._column = column
            own._binding = None
            column.type = own
            return
        self._column = column

    @property
    def column(self) -> Column[Any] | None:
        """The column of a table that this type belongs to."""
        column = self._column
        return None if getattr(column, "table", None) is None else column

    @property
    def binding(self) -> Binding:
        """What the values of this column are bound to.

        Raises:
            UnboundValueError: the type belongs to no column of a table.
            ConfigurationError: the column is declared in a way that cannot work.
        """
        column = self.column
        if column is None:
            raise UnboundValueError(
                f"{self!r} belongs to no column of a Table, so nothing can be sealed or opened"
                f" with it. {_DECLARE_A_TABLE}"
            )
        owner = column.type
        binding = owner._binding if isinstance(owner, Encrypted) else self._binding
        if binding is None:
            binding = build_binding(column, self)
            if isinstance(owner, Encrypted):
                owner._binding = binding
        return binding

    # --- to SQLAlchemy --------------------------------------------------------------------

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """LONGBLOB on MySQL and MariaDB, where a plain BLOB ends at 64 KiB."""
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.LONGBLOB())
        return dialect.type_descriptor(LargeBinary())

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The stored cell together with its row, as one value."""
        return pack(column, self.binding)

    # The two processors replace the impl's own: it would wrap bytes in the DBAPI's
    # Binary(), which costs a quarter of a microsecond a value and gains nothing.

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        """Pass envelopes and NULL; refuse everything else, which would be plaintext."""

        def process(value: Any) -> bytes | bytearray | None:
            if type(value) is Sealed:
                return value.stored
            if value is None:
                return None
            _refuse_plaintext(self)

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Open what ``column_expression`` selected."""
        return cell_opener(self.binding, dialect)

    def literal_processor(self, dialect: Dialect) -> Callable[[Any], str]:
        """Refuse: a literal is rendered into the SQL text, in plaintext."""
        # Not in a processor: SQLAlchemy prints the value when one of those raises.
        raise UnboundValueError(
            f"{_column_name(self)} is encrypted, and literal_binds would write its value into the"
            " SQL text; execute the statement with parameters"
        )

    def compare_values(self, x: Any, y: Any) -> bool:
        """Equality as the inner type sees it; decides what a flush writes."""
        if isinstance(x, Refused) or isinstance(y, Refused):
            # Two marks are alike: neither is a change that a flush would have to write.
            return isinstance(x, Refused) and isinstance(y, Refused)
        return self.inner.compare_values(x, y)

    @property
    def should_evaluate_none(self) -> bool:
        """Whether an explicit None is written, and no default in its place; the inner type says."""
        said = self._evaluates_none
        return self.inner.should_evaluate_none if said is None else said

    @should_evaluate_none.setter
    def should_evaluate_none(self, value: bool) -> None:
        # What evaluates_none() does to a copy of the type.
        self._evaluates_none = value

    def __getattr__(self, key: str) -> Any:
        """What is public of the inner type, such as ``length``; else what the stored one has."""
        # Not by attributes: they are not there yet while one is copied or unpickled.
        known = self.__dict__
        for name in ("impl_instance",) if key.startswith("_") else ("inner", "impl_instance"):
            if name in known and hasattr(known[name], key):
                return getattr(known[name], key)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")

    @property
    def python_type(self) -> type[Any]:
        """The inner type's."""
        return self.inner.python_type

    def __repr__(self) -> str:
        return render_encrypted(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_binding": None, "was_pickled": True}

    comparator_factory = EncryptedComparator


def _checked_inner(inner: TypeEngine[Any] | type[TypeEngine[Any]]) -> TypeEngine[Any]:
    instance = inner() if isinstance(inner, type) else inner
    if not isinstance(instance, TypeEngine):
        raise ConfigurationError(
            f"Encrypted(...) takes an SQLAlchemy type such as String or JSON(), got {inner!r}"
        )
    if isinstance(instance, Encrypted):
        raise ConfigurationError("Encrypted(Encrypted(...)): encrypt a value once")
    return instance


_DECLARE_A_TABLE = (
    "table() and column() do not say which row a value is in; declare a Table(...) with its primary"
    " key and this column, in a MetaData of its own if need be, as in a migration, and call"
    " attach_keyrings(metadata, ...)"
)


def _refuse_plaintext(encrypted: Encrypted[Any]) -> NoReturn:
    if encrypted.column is None:
        raise UnboundValueError(
            "this statement gives a value for an encrypted column that belongs to no Table; nothing"
            f" was sent. {_DECLARE_A_TABLE}"
        )
    raise UnboundValueError(
        f"{_column_name(encrypted)} is encrypted, and this statement gives a value for it in a"
        " place that names no row; nothing was sent. Write it with the ORM, with insert(table) and"
        " a list of parameters that hold the row's key, or with update(table).where(key == value)."
        " To look for it, select the rows by a plain column and compare in the application"
    )


def _column_name(encrypted: Encrypted[Any]) -> str:
    column = encrypted.column
    if column is None:
        return "the column"
    return f"{column.table.name}.{column.name}"
