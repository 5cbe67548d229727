"""A model that worker processes of a cluster import, with keyrings from the environment."""

from __future__ import annotations

import os

from sqlalchemy import Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase, mapped_column

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings

KEY_FILE = "KMSENV_TEST_DASK_KEYS"


class Base(DeclarativeBase):
    """The models of this file."""

    metadata = MetaData()


class Parcel(Base):
    """Rows for several workers."""

    __tablename__ = "kmsenv_dask_parcels"
    id = mapped_column(Integer, primary_key=True, autoincrement=False)
    process = mapped_column(Integer)
    text = mapped_column(Encrypted(String), nullable=False)


def with_keyrings() -> type[Base]:
    """The models, ready for use: what a ``JobSource`` names."""
    attach_keyrings(Base.metadata, default=Keyring(LocalKms(os.environ[KEY_FILE])))
    return Base
