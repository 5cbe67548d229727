"""What a type is on each database.

Reads the private ``_variant_mapping`` of types, ``_storage_format`` of SQLite's DATE and
DATETIME, and ``_json_serializer`` and ``_json_deserializer`` of dialects, seen on 2.0.36 and
2.1.9 (``tests/columns/test_key_types.py`` and ``test_inner_types.py`` hold them to it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import make_url, types
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

Convert = Callable[[Any, Dialect], Any]

_DATE_FORMAT = "%(year)04d-%(month)02d-%(day)02d"
_DATETIME_FORMAT = f"{_DATE_FORMAT} %(hour)02d:%(minute)02d:%(second)02d.%(microsecond)06d"
_HOOKS = ("bind_processor", "result_processor", "bind_expression", "column_expression")

DIALECTS: tuple[Dialect, ...] = tuple(
    make_url(f"{name}://").get_dialect()() for name in ("sqlite", "postgresql", "mysql", "mariadb")
)
"""Of the databases that are supported, to ask types what they are there; connected to nothing."""


class Stored(NamedTuple):
    """What a database has in the place of a type of the model."""

    type: TypeEngine[Any]
    decorators: tuple[TypeDecorator[Any], ...]
    """Those around it, the outermost first."""

    @property
    def steps(self) -> list[Convert]:
        """From the application's value to the type's."""
        plain = TypeDecorator.process_bind_param
        return [
            each.process_bind_param
            for each in self.decorators
            if type(each).process_bind_param is not plain
        ]

    @property
    def steps_back(self) -> list[Convert]:
        """From the type's value to the application's."""
        plain = TypeDecorator.process_result_value
        return [
            each.process_result_value
            for each in reversed(self.decorators)
            if type(each).process_result_value is not plain
        ]


def on_database(
    generic: TypeEngine[Any], dialect: Dialect, *, whole: tuple[type[TypeEngine[Any]], ...] = ()
) -> Stored:
    """What ``with_variant`` and ``load_dialect_impl`` put in the place of a type.

    Decorators among ``whole`` are taken for types.
    """
    decorators: list[TypeDecorator[Any]] = []
    kind = generic
    while True:
        kind = kind._variant_mapping.get(dialect.name, kind)
        if not isinstance(kind, TypeDecorator) or isinstance(kind, whole):
            return Stored(kind, tuple(decorators))
        decorators.append(kind)
        kind = kind.load_dialect_impl(dialect)


def driver_hook(decorator: TypeDecorator[Any]) -> str | None:
    """What a ``TypeDecorator`` overrides that works on what only the database driver sees."""
    kind = type(decorator)
    return next((h for h in _HOOKS if getattr(kind, h) is not getattr(TypeDecorator, h)), None)


def type_and_variants(generic: TypeEngine[Any]) -> list[TypeEngine[Any]]:
    """The type itself, and what ``with_variant`` puts in its place on some databases."""
    return [generic, *generic._variant_mapping.values()]


def has_format_of_its_own(kind: TypeEngine[Any]) -> bool:
    """Whether SQLite keeps dates and times of this type as another text than by default."""
    if isinstance(kind, sqlite.DATETIME):
        return kind._storage_format != _DATETIME_FORMAT
    return isinstance(kind, sqlite.DATE) and kind._storage_format != _DATE_FORMAT


def is_native_uuid(kind: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether SQLAlchemy hands UUIDs of this type to a type of the database's own."""
    return isinstance(kind, types.Uuid) and kind.native_uuid and dialect.supports_native_uuid


def json_functions(
    dialect: Dialect,
) -> tuple[Callable[[Any], str | bytes] | None, Callable[[str], Any] | None]:
    """The ``json_serializer`` and ``json_deserializer`` that the engine was given."""
    dumps = getattr(dialect, "_json_serializer", None)
    return dumps, getattr(dialect, "_json_deserializer", None)
