"""Mapped classes made from a design: encrypted ones, and their twins of plain columns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Column,
    Enum,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import TypeEngine

from sqlalchemy_kmsenv import Encrypted
from tests.conftest import second_schema
from tests.matrix.axes import Design
from tests.matrix.kinds import (
    IDENTITIES,
    IDENTITY_COLUMNS,
    INNER,
    KEY_PARTS,
    KEYS,
    SCOPE_COLUMNS,
    SCOPES,
    Kind,
    in_sql,
)
from tests.matrix.names import NAMES, key_of

SCHEMA = second_schema("kmsenv_mx")
"""A second schema, or database, beside the one that the engine connects to."""
TRANSLATED = "tenant_schema"
"""What a model calls that schema where an engine translates it."""

OMIT = object()
_OMITTED = {"default", "callable", "computed"}
_COLUMNS = {"first": ("text",), "middle": ("text",), "last": ("text",),
            "three": ("text", "more", "extra")}  # fmt: skip
_OFFSET = {"text": 0, "more": 10, "extra": 20}


@dataclass
class Model:
    """What a design gives: classes, the table for Core, and how to make rows of them."""

    design: Design
    metadata: MetaData
    parent: Any
    entity: Any
    table: Table
    """The one that Core's statements write and read."""
    key: tuple[str, ...]
    encrypted: tuple[str, ...]
    """Attributes of the entity that are encrypted, or their twins."""
    makers: dict[str, Callable[[int], Any]]
    """By attribute of the entity: its value in row ``n``, or ``OMIT``."""
    counters: list[Any] = field(default_factory=list)

    def row(self, n: int) -> dict[str, Any]:
        """The attributes of a new object."""
        found = {name: make(n) for name, make in self.makers.items()}
        return {name: value for name, value in found.items() if value is not OMIT}

    def table_row(self, n: int) -> dict[str, Any]:
        """The same for a statement over ``table``."""
        found = {
            column.key: value
            for name, value in self.row(n).items()
            if (column := self.column(name)) is not None
        }
        if "kind" in self.table.c:
            found["kind"] = "child" if self.design.inherit.startswith("single") else "parent"
        return found

    def keys_of(self, attributes: Iterable[str]) -> list[str]:
        """Keys in ``table`` of the columns behind attributes."""
        columns = [self.column(name) for name in attributes]
        return [column.key for column in columns if column is not None]

    def column(self, attribute: str) -> Column[Any] | None:
        """The column of ``table`` behind an attribute."""
        for column in getattr(self.entity, attribute).property.columns:
            if column.table is self.table:
                found: Column[Any] = column
                return found
        return None

    @property
    def table_encrypted(self) -> tuple[str, ...]:
        """Keys of the encrypted columns of ``table``."""
        return tuple(self.keys_of(self.encrypted))

    def key_of(self, n: int) -> dict[str, Any]:
        """What names row ``n``."""
        kinds = KEYS[self.design.key]
        return {c: KEY_PARTS[k].value(n) for c, k in zip(self.key, kinds, strict=True)}

    def secret(self, n: int, name: str = "text") -> Any:
        """A value that no row has yet."""
        return INNER[self.design.inner].value(n + 100 + _OFFSET[name.removeprefix("c_")])

    def restart(self, first: int) -> None:
        """Let the defaults of keys begin with row ``first``."""
        for counter in self.counters:
            counter.next = itertools.count(first)


class _Counter:
    """Gives the keys of one row after the other, in the order in which it is asked."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.next = itertools.count(1)

    def __call__(self) -> Any:
        return self.kind.value(next(self.next))


class Builder:
    """Makes the classes of one design."""

    def __init__(self, design: Design, *, encrypted: bool, prefix: str) -> None:
        self.design = design
        self.is_encrypted = encrypted
        self.prefix = prefix + ("e" if encrypted else "p")
        self.keys = ("id", "id2", "id3")[: len(KEYS[design.key])]
        self.makers: dict[str, Callable[[int], Any]] = {}
        self.encrypted: list[str] = []
        self.counters: list[_Counter] = []
        self.place, _, self.part = design.inherit.partition("_")
        names = {"no": None, "schema": SCHEMA, "translate": TRANSLATED}
        self.table_args = {"schema": names[design.schema]}

    def build(self) -> Model:
        """The model.

        Raises:
            KmsEnvError: the library refuses such a declaration.
        """

        class Base(DeclarativeBase):
            pass

        in_parent = self.part != "child"
        parent = type("Parent", (Base,), self._body(in_parent))
        entity = parent
        if self.place == "single":
            entity = type("Child", (parent,), self._child_in_the_same_table())
        elif self.place == "joined":
            entity = type("Child", (parent,), self._child_in_a_table_beside())
        elif self.place == "concrete":
            if self.part == "parent":
                type("Child", (parent,), self._concrete_child(holds=False))
            else:
                entity = type("Child", (parent,), self._concrete_child(holds=True))
        base: Any = Base
        base.registry.configure()
        table: Table = parent.__table__  # type: ignore[attr-defined]
        if entity is not parent and (self.place == "concrete" or self.part == "child"):
            table = entity.__table__  # type: ignore[attr-defined]
        return Model(
            self.design, base.metadata, parent, entity, table, self.keys,
            tuple(self.encrypted), self.makers, self.counters,
        )  # fmt: skip

    # --- bodies of classes ----------------------------------------------------------------

    def _body(self, holds: bool, *, suffix: str = "") -> dict[str, Any]:
        body: dict[str, Any] = {"__tablename__": f"{self.prefix}_t{suffix}"}
        args: list[Any] = []
        if holds:
            self._add_encrypted(body, "first")
        self._add_keys(body)
        self._add_scope(body)
        args += self._add_identity(body)
        if holds:
            self._add_encrypted(body, "middle")
        body["name"] = self._column("name", String(20))
        self.makers["name"] = lambda n: "abcdefghi"[n - 1]
        body["stamp"] = mapped_column(Integer, default=7, onupdate=8)
        body["rank"] = mapped_column(Integer, server_default="5")
        if self.design.values == "digest" and holds:
            self._add_digest(body, "text")
        if holds:
            self._add_encrypted(body, "last")
        body["__table_args__"] = (*args, self.table_args)
        if self.place in ("single", "joined"):
            body["kind"] = mapped_column(String(10))
            body["__mapper_args__"] = {
                "polymorphic_on": "kind", "polymorphic_identity": "parent",
            }  # fmt: skip
        return body

    def _child_in_the_same_table(self) -> dict[str, Any]:
        body: dict[str, Any] = {"__mapper_args__": {"polymorphic_identity": "child"}}
        if self.part != "parent":
            for place in ("first", "middle", "last"):
                self._add_encrypted(body, place, before="c_")
        return body

    def _child_in_a_table_beside(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "__tablename__": f"{self.prefix}_c",
            "__mapper_args__": {"polymorphic_identity": "child"},
        }
        holds = self.part != "parent"
        args: list[Any] = []
        if holds:
            self._add_encrypted(body, "first", before="c_")
        for name, kind in zip(self.keys, KEYS[self.design.key], strict=True):
            body[name] = self._column(name, self._plain_type(KEY_PARTS[kind]), primary_key=True)
        target = f"{self.prefix}_t"
        if self.table_args["schema"]:
            target = f"{self.table_args['schema']}.{target}"
        args.append(ForeignKeyConstraint(self.keys, [f"{target}.{key}" for key in self.keys]))
        if holds:
            self._add_scope(body, before="c_")
            args += self._add_identity(body, before="c_")
            self._add_encrypted(body, "middle", before="c_")
        body["c_name"] = self._column("c_name", String(20))
        self.makers["c_name"] = lambda n: f"child {n}"
        if holds:
            self._add_encrypted(body, "last", before="c_")
        body["__table_args__"] = (*args, self.table_args)
        return body

    def _concrete_child(self, *, holds: bool) -> dict[str, Any]:
        body = self._body(holds, suffix="_k")
        body["__mapper_args__"] = {"concrete": True}
        return body

    # --- columns --------------------------------------------------------------------------

    def _add_keys(self, body: dict[str, Any]) -> None:
        for name, kind_name in zip(self.keys, KEYS[self.design.key], strict=True):
            kind = KEY_PARTS[kind_name]
            options: dict[str, Any] = {}
            if self.design.given == "key_defaults":
                counter = _Counter(kind)
                self.counters.append(counter)
                options["default"] = counter
            if kind_name != "server":
                options["autoincrement"] = False
            body[name] = self._column(name, self._plain_type(kind), primary_key=True, **options)
            if kind_name == "server" or self.design.given == "key_defaults":
                self.makers[name] = lambda _: OMIT
            else:
                self.makers[name] = kind.value

    def _add_scope(self, body: dict[str, Any], before: str = "") -> None:
        for name in SCOPES[self.design.scope]:
            if name != "id":
                self._add_plain(body, name, before, SCOPE_COLUMNS[name], nullable=False)

    def _add_identity(self, body: dict[str, Any], before: str = "") -> list[Any]:
        names = IDENTITIES[self.design.identity]
        for name in names:
            unique = True if names == ("code",) else None
            kind = IDENTITY_COLUMNS[name]
            self._add_plain(body, name, before, kind, nullable=False, unique=unique)
        if len(names) < 2:
            return []
        keys = [key_of(self.design.names, before + name) for name in names]
        return [UniqueConstraint(*keys, name=f"{body['__tablename__']}_uq")]

    def _add_plain(
        self, body: dict[str, Any], name: str, before: str, kind: Kind, **options: Any
    ) -> None:
        attribute = before + name
        if self.design.given == "given":
            self.makers[attribute] = kind.value
        elif self.design.given == "server_defaults" and name != "code":
            # Two rows must differ in a code that is unique by itself.
            options["server_default"] = in_sql(kind.value(5))
            self.makers[attribute] = lambda _: OMIT
        else:
            options["default"] = _from_name(kind) if name == "code" else kind.value(5)
            self.makers[attribute] = lambda _: OMIT
        body[attribute] = self._column(attribute, self._plain_type(kind), **options)

    def _add_digest(self, body: dict[str, Any], source: str) -> None:
        def digest(context: Any) -> str:
            return repr(context.get_current_parameters().get(key_of(self.design.names, source)))

        body["digest"] = mapped_column(String(200), default=digest, onupdate=digest)

    def _add_encrypted(self, body: dict[str, Any], place: str, before: str = "") -> None:
        names = _COLUMNS[self.design.layout]
        if self.design.layout == "three":
            names = (names[("first", "middle", "last").index(place)],)
        elif place != self.design.layout:
            return
        for name in names:
            column_name = name if self.part == "same" else before + name
            kind = INNER[self.design.inner]
            options = self._value_options(name, kind)
            body[before + name] = self._column(column_name, self._type(kind, before), **options)
            self.encrypted.append(before + name)
            self.makers[before + name] = self._maker(name, kind)
        # A class that is mapped beside its parent maps the same attributes again.
        self.encrypted = list(dict.fromkeys(self.encrypted))

    def _maker(self, name: str, kind: Kind) -> Callable[[int], Any]:
        if self.design.values in _OMITTED:
            return lambda _: OMIT
        if self.design.values == "none":
            return lambda _: None
        return lambda n: kind.value(n + _OFFSET[name])

    def _plain_type(self, kind: Kind) -> TypeEngine[Any]:
        made = kind.type()
        if isinstance(made, Enum):
            # PostgreSQL has one type for all tables that name it.
            made.name = f"{self.prefix}_level"
        return made

    def _type(self, kind: Kind, before: str) -> TypeEngine[Any]:
        if not self.is_encrypted:
            return kind.type()
        # A child in the same table names the columns of its parent.
        own = before if self.place == "joined" else ""
        bind: Any = self.design.bind
        scope: Any = [
            key_of(self.design.names, own + n) if n != "id" else n
            for n in SCOPES[self.design.scope]
        ]
        scope = scope or self.design.scope
        identity = [
            key_of(self.design.names, own + name) for name in IDENTITIES[self.design.identity]
        ]
        return Encrypted(
            kind.type(),
            scope=scope,
            identity=identity or None,
            bind=bind,
        )

    def _column(self, name: str, type_: TypeEngine[Any], **options: Any) -> Any:
        """A column that is called as the design says."""
        naming = self.design.names
        if naming == "crossed" and self.place == "single" and name.startswith("c_"):
            # SQLAlchemy looks for the name among the keys of the parent's table.
            naming = "keyed"
        stored, key = NAMES[naming](name)
        return mapped_column(stored, type_, key=key, **options)

    def _value_options(self, name: str, kind: Kind) -> dict[str, Any]:
        offset = _OFFSET[name]
        values = self.design.values

        def of_name(context: Any) -> Any:
            return kind.value(ord(_name_in(context)) + offset)

        options: dict[str, dict[str, Any]] = {
            "required": {"nullable": False},
            "default": {"default": kind.value(50 + offset)},
            "none": {"default": kind.value(50 + offset)},
            "callable": {"default": lambda: kind.value(60 + offset)},
            "computed": {"default": of_name},
            "onupdate": {"onupdate": kind.value(80 + offset)},
            "onupdate_computed": {"onupdate": of_name},
        }
        return options.get(values, {})


def _from_name(kind: Kind) -> Callable[[Any], Any]:
    def default(context: Any) -> Any:
        return kind.value(ord(_name_in(context)))

    return default


def _name_in(context: Any) -> str:
    """The last letter of the name that a statement writes."""
    given = context.get_current_parameters()
    return str(given.get("name") or given.get("c_name") or "z")[-1]


def build(design: Design, *, encrypted: bool, prefix: str) -> Model:
    """The mapped classes of a design, or their twins of plain columns."""
    return Builder(design, encrypted=encrypted, prefix=prefix).build()
