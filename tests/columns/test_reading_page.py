"""The page about reading says what the code does."""

from __future__ import annotations

import sys
from types import ModuleType

from tests.test_docs import ROOT, python_blocks


def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    """It is what people copy."""
    monkeypatch.chdir(tmp_path)
    # SQLAlchemy looks names of annotations up in the module of a class.
    page = ModuleType("reading_page")
    monkeypatch.setitem(sys.modules, page.__name__, page)
    namespace = vars(page)
    for block in python_blocks(ROOT / "docs" / "reading.md"):
        exec(compile(block, "reading.md", "exec"), namespace)  # noqa: S102  the project's own
    shown = capsys.readouterr().out
    assert "1 P1\n2 cannot be read: guests.passport, row (2): " in shown
    assert "3 P3\n" in shown
    assert "3 has a mark\n" in shown
