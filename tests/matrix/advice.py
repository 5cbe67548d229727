"""What the messages of refusals advise, as cells that must then be right with the same model."""

from __future__ import annotations

from dataclasses import replace

from tests.matrix.cells import Cell
from tests.matrix.registry import SHAPES

_ADVICE = (
    # Words of a message, and the shape that does what they say.
    ("leave it out (the result's", "insert_values"),
    ("give the key with each row", "insert_given"),
    ("read them, and insert them with a list of parameters", "insert_read"),
    ("set every encrypted column of", "update_scope_and_values"),
    ("set every encrypted column as well", "upsert_with_scope"),
    ("Add WHERE primary key = value", "update_key"),
    ("use session.execute(update(Model), [{...}])", "update_orm_bulk"),
    ("Give a Python value", "update_key"),
    ("execute insert(", "insert_parameters"),
    (" or update(", "update_key"),
    ("Write it with the ORM", "insert_flush"),
    ("with update(table).where(key == value)", "update_key"),
    ("set the named columns to the new row's as well", "upsert_with_scope"),
    ("does not say which it made; give", "upsert_with_scope"),
    ("begin a transaction, or give", "insert_values"),
    ("insert with ON CONFLICT DO NOTHING", "upsert_nothing"),
    ("nsert with on_duplicate_key_update(", "upsert_nothing"),
    ("set it to the new row's", "upsert_with_scope"),
    ("Read the value, and write it there", "update_plain_read"),
    ("elect the column", "select_core"),
    ("select the two separately", "select_core"),
    ("add that column to the subquery", "select_carried"),
    ("Select the primary key as well", "select_distinct"),
    ("in the application", "select_core"),
    ("Order by a plain column", "select_core"),
    ("IS NULL and", "select_null"),
    ("is_(None) and is_not(None) work", "select_null"),
)


def follow(cell: Cell, message: str) -> list[Cell]:
    """Cells that do what the message of a refused one advises; none where it advises nothing."""
    return [
        replace(cell, shape=shape, returning="no", many="one")
        for words, shape in _ADVICE
        if words in message
    ]


def applies(cell: Cell) -> bool:
    """Whether the advised statement is one that this model has."""
    return SHAPES[cell.shape].fits(cell.design)
