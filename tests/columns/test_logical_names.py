"""No two encrypted columns share the logical name that their values are bound to."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from sqlalchemy_kmsenv import ConfigurationError, Encrypted


def a_table(metadata, *columns, name="t"):
    """A table with an integer key and these columns."""
    return Table(name, metadata, Column("id", Integer, primary_key=True), *columns)


def pinned(name, **options):
    """A column whose values are bound to ``logical.v``, whatever it is called."""
    return Column(name, Encrypted(String, name="logical.v"), **options)


def define(where, first, second):
    """Two columns in one MetaData."""
    metadata = MetaData()
    if where == "same table":
        a_table(metadata, first, second)
        return
    table = a_table(metadata, first)
    if where == "other table":
        a_table(metadata, second, name="u")
        return
    if where == "to a removed table":
        metadata.remove(table)
    table.append_column(second)


@pytest.mark.parametrize("key", [None, "another", "w"])
@pytest.mark.parametrize("where", ["same table", "other table", "appended", "to a removed table"])
def test_a_column_is_known_by_its_key_in_the_table(where, key):
    """What SQLAlchemy finds it by; its name may be another one, or the key of a column."""
    first = pinned("v", **({} if key is None else {"key": key}))
    with pytest.raises(ConfigurationError, match=r"'logical\.v', so their values could be swapped"):
        define(where, first, pinned("x"))


@pytest.mark.parametrize("key", ["v", "another"])
def test_a_column_that_is_defined_anew_keeps_its_name(key):
    """By the same key, or by another one where the former is gone."""
    metadata = MetaData()
    table = a_table(metadata, pinned("v", key=key))
    table.append_column(pinned("v", key=key), replace_existing=True)
    metadata.remove(table)
    assert a_table(metadata, pinned("v"), name="u").c.v is not None
