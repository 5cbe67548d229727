"""Three tables that differ in the type of one column."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, LargeBinary, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlalchemy_kmsenv import Encrypted


class NoOp(TypeDecorator[bytes]):
    """What any TypeDecorator costs: one Python call a value, each way."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "kmsenv_benchmark_plain"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[bytes] = mapped_column(LargeBinary)


class Decorated(Base):
    __tablename__ = "kmsenv_benchmark_decorated"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[bytes] = mapped_column(NoOp)


class Sealed(Base):
    __tablename__ = "kmsenv_benchmark_sealed"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[str] = mapped_column(Encrypted(String))


MODELS: dict[str, type[Plain | Decorated | Sealed]] = {
    "plain": Plain,
    "no-op decorator": Decorated,
    "encrypted": Sealed,
}
